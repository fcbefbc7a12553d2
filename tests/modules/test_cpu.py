"""--cpu-bf16: runs in bfloat16, stays near fp32, keeps its weights in fp32, and says where it does not pay."""

import logging
from unittest import mock

import pytest
import torch

from ppa_fairseq.modules import cpu


def test_losses_and_gradients_are_near_those_of_fp32(make_model, make_dataset, make_criterion):
    """And are others: the products were in bfloat16."""
    dataset = make_dataset()
    batch = dataset.collater([dataset[i] for i in range(8)])
    results = []
    for bf16 in (False, True):
        model = make_model(cpu_bf16=bf16).train()
        rows = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
        model.queue.keys.copy_(torch.nn.functional.normalize(rows, dim=-1))
        model.queue.filled.fill_(16)
        output = model(**batch["net_input"])
        assert output["logits"].dtype == (torch.bfloat16 if bf16 else torch.float32)
        assert output["query"].dtype == output["key"].dtype == torch.float32
        loss, pairs, _ = make_criterion(temperature=0.1)(model, batch)
        (loss / pairs).backward()
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        assert {tensor.dtype for weight in weights for tensor in (weight, weight.grad)} == {torch.float32}
        results.append((loss.item(), torch.cat([weight.grad.flatten() for weight in weights])))
    (loss, gradient), (loss_bf16, gradient_bf16) = results
    assert loss_bf16 != loss and loss_bf16 == pytest.approx(loss, rel=0.01)
    assert torch.nn.functional.cosine_similarity(gradient, gradient_bf16, dim=0) > 0.99


def test_training_takes_the_flag_and_keeps_fp32_weights(train):
    state = train("--max-update", "3", "--cpu-bf16", "--disable-validation", "--optimizer", "fused_adamw")
    assert {tensor.dtype for tensor in state["model"].values() if tensor.is_floating_point()} == {torch.float32}
    assert state["cfg"]["model"]["cpu_bf16"]


@pytest.mark.parametrize(("has", "level", "said"), [(True, "INFO", "use bfloat16"), (False, "WARNING", "is emulated")])
def test_what_it_does_is_announced(caplog, has, level, said):
    caplog.set_level(logging.INFO)
    with mock.patch.object(cpu, "has_bf16_instructions", return_value=has):
        cpu.announce_cpu_bf16(mock.Mock(cpu_bf16=True))
    (record,) = caplog.records
    assert record.levelname == level and said in record.message
