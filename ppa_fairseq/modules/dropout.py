"""Dropout whose masks cost a third on the CPU: torch draws a number an element there, this one draws four at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEVELS = 2**16  # of the draws, so that p is met to within 1/131072


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """`F.dropout`, with draws of its own on the CPU (from torch's generator, so a seed repeats them)."""
    if x.device.type != "cpu" or not training or not 0 < p < 1:
        return F.dropout(x, p, training)
    return _Dropout.apply(x, p)


def draw(shape: torch.Size) -> Tensor:
    """An int16 for each element, all values as likely; on the CPU."""
    count = shape.numel()
    numbers = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)  # 64 bits: 4 draws
    return numbers.view(torch.int16)[:count].view(shape)


def drop(x: Tensor, draws: Tensor, p: float) -> Tensor:
    """x / (1 - p) where the draw lets it stand, else 0."""
    dropped = round(p * LEVELS)
    # Compared into numbers at once: by way of a bool it would take several times as long.
    kept = torch.ge(draws, dropped - LEVELS // 2, out=torch.empty(x.shape, dtype=x.dtype))
    return kept.mul_(LEVELS / (LEVELS - dropped)).mul_(x)


class _Dropout(torch.autograd.Function):
    """Keeps the draws for the backward pass: in fp32, half as large as the mask that they make."""

    @staticmethod
    def forward(ctx, x: Tensor, p: float) -> Tensor:
        draws = draw(x.shape)
        ctx.save_for_backward(draws)
        ctx.p = p
        return drop(x, draws, p)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (draws,) = ctx.saved_tensors
        return drop(gradient, draws, ctx.p), None


class Dropout(nn.Dropout):
    """`nn.Dropout` by :func:`dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)
