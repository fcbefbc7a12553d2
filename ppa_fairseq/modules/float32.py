"""Weights that stay in single precision when the model around them is cast."""

import torch.nn as nn


class Float32Module(nn.Module):
    """A module that follows `.to(device)` but not `.half()` or `.bfloat16()`: its tensors keep their own dtype.

    The momentum encoder needs it. At a momentum of 0.999 most half-precision weights would never move: a step is
    smaller than half the distance to the next number.
    """

    def _apply(self, fn, recurse=True):
        def move(tensor):
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)
