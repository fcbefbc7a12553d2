"""The last layer worked out for [CLS] alone gives what the whole layer gives there, and the same gradients."""

import pytest
import torch

from ppa_fairseq.models.bert_encoder import BertEncoder, BertShape
from ppa_fairseq.models.packing import pack, pool

LENGTHS = [9, 3, 17, 9, 1, 8, 24]  # several groups of the padded attention, not in their order


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    shape = BertShape(vocab_size=50, layers=3, dim=24, ffn_dim=48, heads=4, max_positions=32)
    return BertEncoder(None, shape).eval()


@pytest.fixture
def packed():
    return pack([torch.randint(0, 50, (length,)) for length in LENGTHS])


def test_values_and_gradients_are_the_whole_layers(encoder, packed):
    target = torch.randn(len(LENGTHS), 24)
    results = []
    for only in (True, False):
        encoder.zero_grad()
        hidden = encoder(**packed, first_tokens_only=only)["hidden"]
        first = hidden if only else pool(hidden, packed["cu_seqlens"], "cls")
        (first * target).sum().backward()
        results.append((first.detach(), [p.grad.clone() for p in encoder.parameters()]))
    (first, gradients), (whole_first, whole_gradients) = results
    assert first.shape == (len(LENGTHS), 24)
    torch.testing.assert_close(first, whole_first, rtol=0, atol=1e-5)
    for ours, expected in zip(gradients, whole_gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_dropout_of_attention_is_there_too(encoder, packed):
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    encoder.layers = encoder.layers[-1:]  # dropout is in the one layer that works on first tokens
    still = encoder(**packed, first_tokens_only=True)["hidden"]
    encoder.train()
    assert (encoder(**packed, first_tokens_only=True)["hidden"] - still).abs().max() > 1e-3
