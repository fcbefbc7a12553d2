"""Dropout on the CPU: the share that is dropped, the mean that stays, the gradient, the seed."""

import pytest
import torch

from ppa_fairseq.modules.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_and_mean(p, dtype):
    torch.manual_seed(0)
    out = dropout(torch.ones(1000, 999, dtype=dtype), p, True)
    assert (out == 0).float().mean().item() == pytest.approx(p, abs=2e-3)
    kept = out[out != 0]
    assert kept.min() == kept.max()
    assert kept[0].item() == pytest.approx(1 / (1 - p), rel=1e-4 if dtype == torch.float32 else 1e-2)


def test_draws_are_independent_of_their_neighbours():
    """Four draws come from one number: none tells another."""
    torch.manual_seed(0)
    kept = (dropout(torch.ones(400_000), 0.3, True) != 0).float().view(-1, 4)
    correlation = torch.corrcoef(kept.T)
    assert (correlation - torch.eye(4)).abs().max() < 0.015
    assert (kept.mean(0) - 0.7).abs().max() < 5e-3


def test_gradient_is_of_the_same_mask():
    x = torch.randn(50, 7, requires_grad=True)
    out = dropout(x, 0.4, True)
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(out == 0, 0.0, out / x).detach())


def test_a_seed_repeats_it_and_evaluation_has_none():
    layer, x = Dropout(0.3), torch.ones(5, 5)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first) and not torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(dropout(x, 0.0, True), x) and torch.equal(dropout(x, 1.0, True), 0 * x)
