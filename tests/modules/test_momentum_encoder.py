"""The momentum encoder follows the query encoder in fp32, whatever the precision of the training."""

import pytest
import torch


def weights(*modules):
    return torch.cat([p.detach().float().flatten() for module in modules for p in module.parameters()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_follows_an_fp64_reference_over_many_updates(make_model, dtype):
    model = make_model(momentum=0.999).to(dtype)
    start = weights(model.momentum_encoder)
    reference, generator = start.double(), torch.Generator().manual_seed(1)
    followed = [*model.encoder.parameters(), *model.projection.parameters()]
    for _ in range(300):
        with torch.no_grad():
            for weight in followed:
                weight.add_((2e-3 * torch.randn(weight.shape, generator=generator)).to(dtype))
        model.update_succeeded()
        reference = 0.999 * reference + 0.001 * weights(model.encoder, model.projection).double()
    moved = (reference - start).norm()
    assert moved > 0 and (weights(model.momentum_encoder) - reference).norm() < 1e-3 * moved
    assert all(weight.dtype == torch.float32 for weight in model.momentum_encoder.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shares_what_is_frozen_and_moves_as_a_whole_copy_does(make_model, dtype):
    model, whole = (make_model(momentum=0.9, **flags).to(dtype) for flags in ({"train_layers": "1"}, {}))
    assert not any(name.startswith("encoder.embed_tokens") for name in model.momentum_encoder.state_dict())
    own, theirs = (dict(one.named_parameters()) for one in (model.momentum_encoder.encoder, model.encoder))
    shared = {name for name in own if own[name] is theirs[name]}
    assert shared == {name for name in theirs if not name.startswith("layers.1.")}
    for one in (model, whole):
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in [*one.encoder.layers[1].parameters(), *one.projection.parameters()]:
                weight.add_(torch.randn(weight.shape, generator=generator).to(dtype))
        one.update_succeeded()
    for name, weight in whole.momentum_encoder.named_parameters():
        moved = model.momentum_encoder.get_parameter(name)
        assert torch.equal(moved, weight if moved.dtype == weight.dtype else weight.to(dtype)), name


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_copy_in_half_precision_follows_and_is_not_saved(make_model, dtype):
    model = make_model(momentum=0.5)
    momentum_encoder, names = model.momentum_encoder, set(model.state_dict())

    def assert_copied():
        copied = momentum_encoder.in_precision(dtype)
        assert copied[0] is momentum_encoder.in_precision(dtype)[0]  # made once
        halves = [weight for module in copied for weight in module.parameters()]
        for single, half in zip(momentum_encoder.parameters(), halves, strict=True):
            assert half.dtype == dtype and torch.equal(half, single.to(dtype))

    assert_copied()
    before = weights(*momentum_encoder.in_precision(dtype))
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight.add_(0.1)
    model.update_succeeded()
    assert_copied()
    assert not torch.equal(weights(*momentum_encoder.in_precision(dtype)), before)
    model.load_state_dict(make_model().state_dict())
    assert_copied()
    assert set(model.state_dict()) == names and len(list(momentum_encoder.parameters())) < len(list(model.parameters()))
