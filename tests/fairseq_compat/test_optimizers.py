"""Repairs of fairseq's optimizers compute what fairseq's own code computes where that works."""

from argparse import Namespace

import pytest
import torch
from fairseq import utils
from fairseq.optim.fp16_optimizer import FP16Optimizer, _FP16OptimizerMixin

from ppa_fairseq.fairseq_compat.optimizers import (
    clip_grad_norm,
    copy_gradients_to_masters,
    copy_masters_to_weights,
    zero_gradients,
)
from ppa_fairseq.optim.fused_adamw import FusedAdamW

FAIRSEQ = utils.clip_grad_norm_  # before any test has repaired it
COPIES = {name: vars(_FP16OptimizerMixin)[name] for name in
          ("zero_grad", "_sync_fp16_grads_to_fp32", "_sync_fp32_params_to_fp16")}  # fmt: skip


@pytest.fixture
def copies(monkeypatch):
    """``copies(ours)`` puts fairseq's copies between weights and masters in place, or ours."""

    assert COPIES["zero_grad"] is not zero_gradients, "a task was set up before the tests were collected"

    def choose(ours: bool) -> None:
        for name, theirs in COPIES.items():
            new = dict(zip(COPIES, (zero_gradients, copy_gradients_to_masters, copy_masters_to_weights), strict=True))
            monkeypatch.setattr(_FP16OptimizerMixin, name, new[name] if ours else theirs)

    return choose


def mixed(flat: bool, weights: list[torch.nn.Parameter]) -> FP16Optimizer:
    """fairseq's optimizer of half-precision weights, with AdamW on their masters."""
    common = Namespace(fp16_scale_window=4, bf16=False, fp16_init_scale=8, fp16_scale_tolerance=0.0)
    common.__dict__ |= dict(threshold_loss_scale=None, min_loss_scale=1e-4)
    adam = Namespace(adam_betas=(0.9, 0.999), adam_eps=1e-8, weight_decay=0.1, lr=[0.1])
    masters = FP16Optimizer.build_fp32_params(adam, weights, flatten=flat)
    inner = FusedAdamW(adam, list(masters.values()) if flat else masters)
    return FP16Optimizer(Namespace(common=common, optimizer=adam), weights, inner, masters)


def gradients(dtype=torch.float32) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.zeros(size, dtype=dtype)) for size in ((30, 7), (5,), (64, 64))]
    for weight in weights[1:]:  # the first has none
        weight.grad = torch.randn_like(weight)
    return weights


@pytest.mark.parametrize("number", [1, 2, 3], ids=["no gradient", "one", "several"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("max_norm", [0, 0.5, 1e6])
def test_clipping_is_fairseqs_bit_for_bit(number, dtype, max_norm):
    if FAIRSEQ is clip_grad_norm or torch.cuda.is_available():
        pytest.skip("needs fairseq's own function, on a machine without GPU")
    theirs, ours = gradients(dtype)[:number], gradients(dtype)[:number]
    norms = FAIRSEQ(theirs, max_norm), clip_grad_norm(ours, max_norm)
    assert torch.equal(*(norm.float() for norm in norms))
    for one, other in zip(theirs[1:], ours[1:], strict=True):
        assert torch.equal(one.grad, other.grad)


def test_clipping_on_the_cpu_leaves_a_gpu_alone(monkeypatch):
    """fairseq moves the norms to the GPU, and cannot multiply gradients on the CPU by them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    weights = gradients()
    assert clip_grad_norm(weights, 1.0) > 1
    assert torch.stack([weight.grad.norm() for weight in weights[1:]]).norm() == pytest.approx(1)


@pytest.mark.parametrize("flat", [True, False], ids=["one tensor", "one each"])
def test_masters_and_weights_are_fairseqs_bit_for_bit(monkeypatch, copies, flat):
    """With a weight that has no gradient in one update, and two attempts at another."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)  # where fairseq flattens them
    runs = []
    for ours in (False, True):
        copies(ours)
        weights = gradients(torch.float16)
        for weight in weights:
            weight.data = torch.linspace(-1, 1, weight.numel(), dtype=torch.float16).view_as(weight)
        optimizer = mixed(flat, weights)
        for update in range(5):
            optimizer.zero_grad()
            for number, weight in enumerate(weights):
                weight.grad = None if (number, update) == (1, 3) else torch.sin(weight.data * (update + 1))
            optimizer._needs_sync = True  # as after `backward`
            optimizer.multiply_grads(0.5)
            optimizer.clip_grad_norm(1.0)
            if update != 2:
                optimizer.step()
        runs.append([*weights, *(optimizer.fp32_params.values() if flat else optimizer.fp32_params)])
    for theirs, own in zip(*runs, strict=True):
        assert theirs.dtype == own.dtype and torch.equal(theirs, own)
