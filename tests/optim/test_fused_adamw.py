"""`--optimizer fused_adamw`: the updates of AdamW as its paper has them, its state through a resume, bad flags."""

from argparse import Namespace

import pytest
import torch
from fairseq.optim import FairseqOptimizer
from helpers.training import assert_same_training

from ppa_fairseq.optim.fused_adamw import FusedAdamW
from ppa_fairseq.utils.errors import InputError


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


def test_stop_and_go_on_equals_one_run(train):
    flags = ["--optimizer", "fused_adamw", "--weight-decay", "0.01", "--disable-validation", "--clip-norm", "1"]
    flags += ["--lr-scheduler", "polynomial_decay", "--total-num-update", "12"]
    whole = train("--max-update", "12", *flags, save_dir="whole")
    train("--max-update", "5", *flags, save_dir="parts")
    assert_same_training(whole, train("--max-update", "12", *flags, save_dir="parts"))


def test_all_weights_as_one_tensor_are_updated_alike():
    """What --fp16 makes of them, and asks whether the optimizer may be given."""
    parts = [torch.nn.Parameter(torch.randn(size)) for size in ((3, 4), (7,), (2, 5))]
    flat = torch.nn.Parameter(torch.cat([part.detach().flatten() for part in parts]))
    optimizers = FusedAdamW(settings(), parts), FusedAdamW(settings(), [flat])
    assert optimizers[1].supports_flat_params
    for _ in range(3):
        for part in parts:
            part.grad = torch.cos(5 * part.detach())
        flat.grad = torch.cos(5 * flat.detach())
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(flat, torch.cat([part.flatten() for part in parts]))


@pytest.mark.parametrize("precision", [[], ["--bf16"]])
def test_a_training_is_that_with_gradients_scaled_by_fairseq(train, monkeypatch, precision):
    """Also under the optimizer that keeps fp32 masters. Epsilon is so large that a wrong scale would show."""
    flags = ["--optimizer", "fused_adamw", "--adam-eps", "1e-3", "--weight-decay", "0.1", "--clip-norm", "0.1"]
    flags += ["--max-update", "4", "--disable-validation", *precision]
    ours = train(*flags, save_dir="ours")["model"]
    monkeypatch.delattr(FusedAdamW, "multiply_grads")
    monkeypatch.delattr(FusedAdamW, "clip_grad_norm")
    theirs = train(*flags, save_dir="theirs")["model"]
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=2e-2 if precision else 1e-4, atol=1e-5)


@pytest.mark.parametrize("max_norm", [0, 0.5, 100.0])
def test_scaling_and_clipping_at_the_step_are_those_of_fairseq(max_norm):
    """fairseq's own way: all gradients are written anew for each, before the step."""
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
    """Of an update that overflowed, or was skipped, nothing is left for the next one."""
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


def test_betas_that_are_none():
    for betas in ("0.9", "(0.9, ", "__import__('os')"):
        with pytest.raises(InputError, match="give two numbers from 0 to below 1"):
            FusedAdamW(settings(adam_betas=betas), [torch.nn.Parameter(torch.ones(1))])
