"""Repairs of fairseq's optimizers compute what fairseq's own code computes where that works."""

import pytest
import torch
from fairseq import utils

from ppa_fairseq.fairseq_compat.optimizers import clip_grad_norm

FAIRSEQ = utils.clip_grad_norm_  # before any test has repaired it


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
