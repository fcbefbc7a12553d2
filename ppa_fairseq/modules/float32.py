"""Weights that stay in single precision when the model around them is cast."""

import torch.nn as nn


class Float32Module(nn.Module):
    """Follows `.to(device)` but not `.half()` or `.bfloat16()`: its tensors keep their own type.

    The momentum encoder needs it: at a momentum of 0.999 most half-precision weights are never moved, as a step is mostly smaller
    than half the distance to the next representable number.
    """

    def _apply(self, fn, recurse=True):
        def move(tensor):
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)
