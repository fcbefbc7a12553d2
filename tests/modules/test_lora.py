"""Adapters of LoRA in both forms of encoder, and a momentum encoder of adapters on the same base."""

import copy

import pytest
import torch
import transformers
from helpers.any_encoder import IDS, MODELS

from ppa_fairseq.modules import encoders
from ppa_fairseq.modules.bert import BertShape, SelectedPositions
from ppa_fairseq.modules.freezing import freeze, weights_behind
from ppa_fairseq.modules.lora import ADAPTER, BASE, A, B, add_adapters, merge
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.modules.transformers_encoder import TransformersShape

pytest.importorskip("peft", reason="needs peft: pip install peft")


def build(name):
    torch.manual_seed(0)
    if name == "our own form":
        return encoders.build(BertShape(30, 2, 16, 32, 2, 16, dropout=0, attention_dropout=0))[0]
    model_type, options, _ = MODELS[name]
    config = transformers.CONFIG_MAPPING[model_type](vocab_size=30, **IDS, **options)
    types = getattr(config, "type_vocab_size", 0)
    return encoders.build(TransformersShape(config.to_json_string(), 30, 2, 16, 319, types, dropout=0))[0]


def draw_adapters(module):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if ADAPTER in name:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))


@pytest.mark.parametrize("name", ["our own form", *MODELS])
def test_merged_weights_compute_what_adapters_do(name):
    """Hidden states, also of selected positions alone, with gradients on and off. All used layers have adapters."""
    plain = build(name).eval()
    encoder, batch = copy.deepcopy(plain), pack([torch.arange(9), torch.arange(10, 22)])
    before = encoder(**batch)["hidden"]
    add_adapters(encoder, rank=3, alpha=5)
    assert torch.equal(encoder(**batch)["hidden"], before)
    draw_adapters(encoder)
    with_adapter = {name.partition(ADAPTER)[0] for name, _ in encoder.named_parameters() if ADAPTER in name}
    used = weights_behind(plain(**batch)["hidden"])
    linear = {name: module for name, module in plain.named_modules() if isinstance(module, torch.nn.Linear)}
    assert with_adapter == {name for name, module in linear.items() if module.weight in used}
    state, adapters = merge(encoder.state_dict(), alpha=5)
    plain.load_state_dict(state)
    assert adapters.keys() == with_adapter
    selected = SelectedPositions(torch.tensor([0, 4, 9, 20]), [2, 2])
    for given in ({}, {"selected": selected}):
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                actual, expected = (one(**batch, **given)["hidden"] for one in (encoder, plain))
            torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
            assert (actual - before[selected.places if given else slice(None)]).abs().max() > 0.01


def test_gradients_of_adapters_are_those_of_merged_weights():
    """∂A = s Bᵀ ∂W and ∂B = s ∂W Aᵀ, as W + s B A has the gradient ∂W; nothing else has one."""
    encoder, plain = build("our own form"), build("our own form")
    add_adapters(encoder, rank=3, alpha=5)
    draw_adapters(encoder)
    state, adapters = merge(encoder.state_dict(), alpha=5)
    plain.load_state_dict(state)
    batch, selected = pack([torch.arange(9), torch.arange(10, 22)]), SelectedPositions(torch.tensor([0, 9]), [1, 1])
    for one in (encoder, plain):
        one(**batch, selected=selected)["hidden"].sin().sum().backward()
    for layer, (a, b) in adapters.items():
        whole = plain.get_parameter(f"{layer}.weight").grad
        found = (encoder.get_parameter(f"{layer}.lora_{part}.default.weight").grad for part in "AB")
        for actual, expected in zip(found, (5 / 3 * b.T @ whole, 5 / 3 * whole @ a.T), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)
    assert all((weight.grad is not None) == (ADAPTER in name) for name, weight in encoder.named_parameters())


def test_with_some_layers_only_these_have_adapters():
    encoder = build("our own form")
    freeze(encoder, "1", False)
    add_adapters(encoder, rank=2, alpha=8)
    trained = {name.partition(ADAPTER)[0] for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert trained == {f"layers.1.{name}" for name in ("self_attn.qkv_proj", "self_attn.out_proj", "fc1", "fc2")}


def test_the_momentum_encoder_is_a_second_adapter_that_fills_the_queue(make_model, make_criterion, make_dataset):
    """Against a whole copy in fp64, whose weights are merged anew from adapters that follow by momentum."""
    model, criterion = make_model(lora_rank=2, lora_alpha=8, momentum=0.7).train(), make_criterion()
    dataset = make_dataset()
    draw_adapters(model.encoder)
    own, theirs = (dict(one.named_parameters()) for one in (model.momentum_encoder.encoder, model.encoder))
    adapters = {name for name in own if ADAPTER in name}
    assert {name for name in own if own[name] is not theirs[name]} == adapters
    kept = {name for name in model.momentum_encoder.state_dict() if name.startswith("encoder.")}
    assert kept == {f"encoder.{name}" for name in adapters}

    copied, (whole, _) = copy.deepcopy(model.momentum_encoder), encoders.build(model.encoder.cfg)
    reference = {name: weight.double() for name, weight in copied.named_parameters()}
    base = {name.replace(BASE, "."): weight for name, weight in own.items() if name not in adapters}
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
    keys, before = [], copy.deepcopy(base)
    for update in range(4):
        merged = {name: weight.detach().double() for name, weight in base.items()}
        for layer in [name.removesuffix(A) for name in adapters if name.endswith(A)]:
            merged[f"{layer}.weight"] += 4 * reference[f"encoder.{layer}{B}"] @ reference[f"encoder.{layer}{A}"]
        whole.double().eval().load_state_dict(merged)
        head = {name.removeprefix("projection."): w for name, w in reference.items() if name.startswith("projection.")}
        copied.projection.double().load_state_dict(head)
        batch = dataset.collater([dataset[(4 * update + i) % len(dataset)] for i in range(4)])
        packed = batch["net_input"]["key_input"]
        with torch.no_grad():
            keys.append(copied.projection(whole(**packed)["hidden"][packed["cu_seqlens"][:-1].long()]))
        criterion.train()
        optimizer.zero_grad()
        loss, pairs, _ = criterion(model, batch)
        (loss / pairs).backward()
        optimizer.step()
        model.update_succeeded()
        for name, weight in reference.items():
            reference[name] = 0.7 * weight + 0.3 * model.get_parameter(name).detach().double()
    torch.testing.assert_close(model.queue.keys, torch.cat(keys), rtol=1e-5, atol=1e-5)
    for name in reference:
        moved = model.momentum_encoder.get_parameter(name)
        torch.testing.assert_close(moved.double(), reference[name], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(base[name], weight) for name, weight in before.items())
    assert all((own[name] - theirs[name]).abs().max() > 1e-4 for name in adapters)
