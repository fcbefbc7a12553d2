"""What the CPU does in its own way: the gradient of tied word embeddings, bfloat16 matrix products, memory."""

import ctypes
import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

logger = logging.getLogger(__name__)


class TiedEmbedding(torch.autograd.Function):
    """Word embeddings that are read twice, by the input and by the MLM head, with one gradient for both.

    (V, C), tokens (T,) -> their rows (T, C), and the whole (V, C) for the head. The backward pass adds the rows'
    gradient into the head's, row by row. Autograd by itself makes a second gradient of the whole vocabulary, nearly all
    zeros, and adds the two into a third: 17 % of a step of the small encoder.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(tokens)
        return weight[tokens], weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, rows: Tensor, whole: Tensor) -> tuple[Tensor, None]:
        (tokens,) = ctx.saved_tensors
        return whole.index_add_(0, tokens, rows), None  # in place: the head made `whole` for this node alone


def has_bf16_instructions() -> bool:
    """Say whether torch sees AVX512-BF16 or AMX."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)


@functools.cache
def uses_bf16(precision: str) -> bool:
    """Say whether matrix products on the CPU take bfloat16 under --cpu-precision, and log the choice once."""
    fast = has_bf16_instructions()
    if precision == "auto" and fast:
        logger.info(
            "this CPU has bfloat16 instructions: matrix products use them, weights and their updates stay in fp32 "
            "(--cpu-precision fp32 switches this off)"
        )
    if precision == "bf16" and not fast:
        logger.warning(
            "--cpu-precision bf16: this CPU has neither AVX512-BF16 nor AMX: bfloat16 is emulated and slower than "
            "fp32; leave the flag out"
        )
    return precision == "bf16" or (precision == "auto" and fast)


def in_cpu_precision(forward: Callable) -> Callable:
    """Run a model's forward in its ``cfg.cpu_precision`` where its weights lie on the CPU."""

    @functools.wraps(forward)
    def run(self, *args, **kwargs):
        if next(self.parameters()).device.type != "cpu" or not uses_bf16(str(self.cfg.cpu_precision)):
            return forward(self, *args, **kwargs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return forward(self, *args, **kwargs)

    return run


def return_freed() -> None:
    """Give freed memory back to the system, where the C library can (glibc).

    Batches of changing sizes leave gaps in the heap: without this, a training's memory triples within an hour.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
