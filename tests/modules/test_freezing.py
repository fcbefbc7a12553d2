"""A part of an encoder is trained: which weights that is, in every architecture."""

import pytest
import torch
import transformers
from helpers.any_encoder import IDS, MODELS

from ppa_fairseq.modules import encoders
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.modules.freezing import freeze, parse_layers
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.modules.transformers_encoder import TransformersShape
from ppa_fairseq.utils.errors import InputError


def build(name):
    """A random encoder of two layers, in double precision."""
    shape = BertShape(30, 2, 16, 32, 2, 16)
    if name != "our own form":
        model_type, options, _ = MODELS[name]
        config = transformers.CONFIG_MAPPING[model_type](vocab_size=30, **IDS, **options)
        types = getattr(config, "type_vocab_size", 0)
        shape = TransformersShape(config.to_json_string(), 30, 2, 16, max_positions=319, token_types=types)
    encoder, _ = encoders.build(shape)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return encoder.double().eval()


@torch.no_grad()
def first_change(encoder, weight):
    """The number of the first hidden state that another value of *weight* changes; None if no one does."""
    packed = pack([torch.arange(10, 22)])
    before, kept = encoder(**packed, return_layers=True)["layers"], weight.clone()
    weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    after = encoder(**packed, return_layers=True)["layers"]
    weight.copy_(kept)
    changed = [
        number for number, pair in enumerate(zip(before, after, strict=True)) if (pair[0] - pair[1]).norm() > 1e-6
    ]
    return changed[0] if changed else None


@pytest.mark.parametrize("name", ["our own form", *MODELS])
def test_the_first_hidden_state_that_a_weight_changes_decides_what_it_belongs_to(name):
    encoder = build(name)
    numbers = {key: first_change(encoder, weight) for key, weight in encoder.named_parameters()}
    numbers = {key: number for key, number in numbers.items() if number is not None}  # a key's bias changes nothing
    assert {*numbers.values()} == {0, 1, 2}
    for layers, embeddings, trained in [
        ("0", False, {1}),
        ("1", True, {2}),
        (None, True, {1, 2}),
        ("0-1", False, {1, 2}),
    ]:
        encoder.requires_grad_(True)
        freeze(encoder, layers, embeddings)
        found = {key for key, weight in encoder.named_parameters() if weight.requires_grad}
        assert found & numbers.keys() == {key for key, number in numbers.items() if number in trained}


def test_layers_below_the_first_trained_one_keep_no_activation():
    encoder = build("our own form")
    freeze(encoder, "1", False)
    assert [hidden.requires_grad for hidden in encoder(**pack([torch.arange(9)]), return_layers=True)["layers"]] == [
        False, False, True,
    ]  # fmt: skip


def test_gradients_of_the_trained_layers_are_those_of_a_whole_training():
    gradients = []
    for layers in (None, "0"):
        encoder = build("our own form")
        freeze(encoder, layers, False)
        encoder(**pack([torch.arange(9)]))["hidden"].square().sum().backward()
        gradients.append({name: weight.grad for name, weight in encoder.named_parameters() if weight.grad is not None})
    assert gradients[1].keys() == {name for name in gradients[0] if name.startswith("layers.0.")}
    assert all(torch.equal(gradient, gradients[0][name]) for name, gradient in gradients[1].items())


def test_layers_that_share_their_weights_are_refused():
    config = transformers.AlbertConfig(
        vocab_size=30, embedding_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    encoder, _ = encoders.build(TransformersShape(config.to_json_string(), 30, 2, 16, 64, token_types=2))
    with pytest.raises(InputError, match="--train-layers 1: layer 1 shares its weights with others; omit the flag"):
        freeze(encoder, "1", False)


@pytest.mark.parametrize(("text", "layers"), [("8-11", {8, 9, 10, 11}), ("0,2-3", {0, 2, 3}), ("5", {5})])
def test_layers_are_read(text, layers):
    assert parse_layers(text, 12) == layers


@pytest.mark.parametrize("text", ["12", "8-12", "3-2", "", "-1", "1-2-3", "last", "1,,2", "1, 2"])
def test_layers_that_are_not_there_are_refused(text):
    with pytest.raises(InputError, match="the encoder's layers are 0 to 11; give some, as in 0-2 or 0,11"):
        parse_layers(text, 12)
