"""`--optimizer fused_adamw`: the updates of the AdamW paper, scaling and clipping.

Trainings with it: tests/tasks/test_ppa_alignment.py (resume), tests/integration/test_precision.py (each precision).
"""

from argparse import Namespace

import pytest
import torch
from fairseq.optim import FairseqOptimizer

from ppa_fairseq.optim.fused_adamw import FusedAdamW


def settings(**changed):
    return Namespace(**({"adam_betas": "(0.8, 0.95)", "adam_eps": 1e-6, "weight_decay": 0.1, "lr": [0.02]} | changed))


def test_updates_are_those_of_a_plain_loop_in_float64():
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
    optimizer = FusedAdamW(settings(), [weight])
    plain = weight.detach().double().clone()
    mean, square = torch.zeros_like(plain), torch.zeros_like(plain)
    for step in range(1, 8):
        rate = 0.02 / step
        optimizer.set_lr(rate)
        weight.grad = torch.sin(7 * weight.detach() + step)
        gradient = torch.sin(7 * weight.detach() + step).double()
        optimizer.step()
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        plain -= rate * 0.1 * plain
        plain -= rate * (mean / (1 - 0.8**step)) / ((square / (1 - 0.95**step)).sqrt() + 1e-6)
        torch.testing.assert_close(weight.detach().double(), plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("max_norm", [0, 0.5, 100.0])
def test_scaling_and_clipping_at_the_step_are_those_of_fairseq(max_norm):
    """fairseq writes all gradients twice before the step."""
    start = [torch.linspace(-1, 1, 12).view(3, 4), torch.linspace(1, 2, 5)]
    theirs, ours = ([torch.nn.Parameter(part.clone()) for part in start] for _ in range(2))
    optimizers = FusedAdamW(settings(), theirs), FusedAdamW(settings(), ours)
    for step in range(4):
        for side, other in zip(theirs, ours, strict=True):
            side.grad = torch.sin(7 * side.detach() + step)
            other.grad = side.grad.clone()
        FairseqOptimizer.multiply_grads(optimizers[0], 0.25)
        norm = FairseqOptimizer.clip_grad_norm(optimizers[0], max_norm)
        optimizers[1].multiply_grads(0.5)
        optimizers[1].multiply_grads(torch.tensor(0.5))
        assert float(optimizers[1].clip_grad_norm(max_norm)) == pytest.approx(float(norm), rel=1e-6)
        for optimizer in optimizers:
            optimizer.step()
        for side, other in zip(theirs, ours, strict=True):
            torch.testing.assert_close(other, side, rtol=1e-6, atol=1e-6)
            assert side.grad.ne(0).any()


def test_a_factor_does_not_outlive_its_gradients():
    """An update that overflowed or was skipped does not change the next one."""
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizers = [FusedAdamW(settings(adam_eps=1.0), [weight]) for weight in weights]
    optimizers[0].multiply_grads(1e-3)
    optimizers[0].optimizer.zero_grad()  # as fairseq's AMPOptimizer does
    for weight, optimizer in zip(weights, optimizers, strict=True):
        for _ in range(2):
            weight.grad = torch.full((3,), 0.5)
            optimizer.multiply_grads(0.5)
            optimizer.step()
    assert torch.equal(*weights)
