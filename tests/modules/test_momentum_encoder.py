"""The momentum encoder follows the query encoder in fp32, whatever the precision of the training."""

import pytest
import torch


def wiggle(model, scale, generator):
    """One optimizer step's worth of change, in the model's own precision."""
    with torch.no_grad():
        for module in (model.encoder, model.projection):
            for weight in module.parameters():
                weight.add_((scale * torch.randn(weight.shape, generator=generator)).to(weight.dtype))


def weights(module):
    return torch.cat([p.detach().float().flatten() for p in module.parameters()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_follows_an_fp64_reference_over_many_updates(make_model, dtype):
    model = make_model(momentum=0.999).to(dtype)
    start = weights(model.momentum_encoder)
    reference, generator = start.double(), torch.Generator().manual_seed(1)
    for _ in range(300):
        wiggle(model, 2e-3, generator)
        model.update_succeeded()
        query = torch.cat([weights(model.encoder), weights(model.projection)])
        reference = 0.999 * reference + 0.001 * query.double()
    momentum_encoder = weights(model.momentum_encoder)
    moved = (reference - start).norm()
    assert (momentum_encoder - reference).norm() < 1e-3 * moved
    assert moved > 0 and momentum_encoder.dtype == torch.float32


def test_half_precision_masters_would_freeze(make_model):
    """Why the masters are fp32: the same updates in half precision leave most weights where they were."""
    model, generator = make_model(momentum=0.999), torch.Generator().manual_seed(1)
    start = weights(model.encoder)
    frozen = start.half()
    for _ in range(300):
        wiggle(model, 3e-5, generator)
        model.update_succeeded()
        frozen.lerp_(weights(model.encoder).half(), 0.001)
    biases_at_zero = start == 0
    assert (frozen == start.half())[~biases_at_zero].float().mean() > 0.9
    assert (weights(model.momentum_encoder.encoder) == start)[~biases_at_zero].float().mean() < 0.2


def test_has_no_dropout_and_no_gradient(make_model, make_criterion, make_dataset):
    model, dataset = make_model(dropout=0.5, attention_dropout=0.5).train(), make_dataset()
    batch = dataset.collater([dataset[i] for i in range(4)])["net_input"]
    first, second = model(**batch), model(**batch)
    assert torch.equal(first["key"], second["key"])
    assert not torch.equal(first["query"], second["query"])
    assert not first["key"].requires_grad and first["query"].requires_grad
    assert not any(p.requires_grad for p in model.momentum_encoder.parameters())


def test_starts_equal_and_gives_the_querys_vectors(make_model, make_dataset):
    model, dataset = make_model(), make_dataset(input_shuffle=False)
    batch = dataset.collater([dataset[0]])["net_input"]
    assert float(model.momentum_encoder.distance(model.encoder, model.projection)) == 0.0
    alone = {"query_input": batch["key_input"], "key_input": batch["key_input"], "masked": batch["masked"][:0]}
    alone["masked_counts"] = []
    output = model(**alone)
    torch.testing.assert_close(output["query"], output["key"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_forward_in_half_precision_is_near_the_fp32_one(make_model, make_dataset, dtype):
    model, dataset = make_model().train(), make_dataset()
    batch = dataset.collater([dataset[i] for i in range(4)])["net_input"]
    expected = model(**batch)
    actual = model.to(dtype)(**batch)
    for name in ("query", "key", "logits"):
        torch.testing.assert_close(actual[name].float(), expected[name], rtol=0.1, atol=0.05)
