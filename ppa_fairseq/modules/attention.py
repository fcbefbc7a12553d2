"""Attention within the sequences of a packed batch: planned once a forward, then run by every layer.

CUDA in half precision reads the packed tensors as they are (torch's variable-length attention). Everywhere
else the sequences are laid into padded groups of nearly equal length, attended, and packed again.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from ppa_fairseq.modules.dropout_attention import DropoutAttention
from ppa_fairseq.modules.padded_layout import Layout

# On the CPU, where padding costs time and a call little, lengths within a group differ by less than this.
CPU_GROUP_WIDTH = 8


def plan_attention(
    cu_seqlens: Tensor,
    lengths: list[int],
    max_length: int,
    dtype: torch.dtype,
    head_dim: int,
    p: float,
    counts: list[int] | None = None,
):
    """The attention of one packed batch: a callable from query, key and value, (T, 3, H, D), to (T, H, D).

    With `counts`, of B, its method `attend_selected` takes the queries of that many tokens of each sequence alone,
    (R, H, D), and keys and values of all, (T, 2, H, D), to (R, H, D).

    `dtype` is the one in which the layers will compute; `p` is the dropout on attention probabilities.
    """
    device = cu_seqlens.device
    if p == 0 and varlen_runs(device, dtype, head_dim):
        return VarlenAttention(cu_seqlens, max_length, counts)
    width = CPU_GROUP_WIDTH if device.type == "cpu" else max_length
    return PaddedAttention(lengths, width, p, device, counts)


def varlen_runs(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether torch's variable-length attention takes this: it is FlashAttention, and has no dropout."""
    return (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and head_dim % 8 == 0
        and head_dim <= 256
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and load_varlen_attn() is not None
    )


@functools.cache
def load_varlen_attn():
    """torch's variable-length attention, None in torch < 2.10. Its import takes torch's compiler along: seconds."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


class VarlenAttention:
    """No padding at all: the kernel takes `cu_seqlens`."""

    def __init__(self, cu_seqlens: Tensor, max_length: int, counts: list[int] | None = None):
        self.cu_seqlens = cu_seqlens
        self.max_length = max_length
        if counts is not None:
            starts = torch.tensor([0, *counts], dtype=torch.int32).cumsum(0, dtype=torch.int32)
            self.query_starts, self.max_count = starts.to(cu_seqlens.device, non_blocking=True), max(1, *counts)

    def __call__(self, qkv: Tensor) -> Tensor:
        starts, longest = self.cu_seqlens, self.max_length
        return load_varlen_attn()(*qkv.unbind(1), starts, starts, longest, longest)

    def attend_selected(self, query: Tensor, key_value: Tensor) -> Tensor:
        keys = key_value.unbind(1)
        return load_varlen_attn()(query, *keys, self.query_starts, self.cu_seqlens, self.max_count, self.max_length)


class PaddedAttention:
    """Sequences padded to the next multiple of `width`, and one group for each padded length."""

    def __init__(
        self, lengths: list[int], width: int, dropout: float, device: torch.device, counts: list[int] | None = None
    ):
        self.dropout = dropout
        true = torch.tensor(lengths)
        padded = (true + width - 1).div(width, rounding_mode="floor") * width
        order = padded.argsort(stable=True)  # of the sequences, group by group
        group_lengths, group = padded.unique(return_inverse=True)
        members = group.bincount()
        self.keys = Layout(true, group_lengths[group], order, members)
        self.masks = [
            None if bool(mask.all()) else mask.view(count, 1, 1, length).to(device, non_blocking=True)
            for mask, (count, length) in zip(self.keys.real.split(self.keys.sizes), self.keys.shapes, strict=True)
        ]
        self.keys.to(device)
        if counts is not None:
            wanted = torch.tensor(counts)
            most = torch.ones_like(members).scatter_reduce(0, group, wanted, "amax")  # by group, 1 at least
            self.queries = Layout(wanted, most[group], order, members).to(device)

    def __call__(self, qkv: Tensor) -> Tensor:
        groups = zip(self.keys.pad(qkv), self.masks, strict=True)
        return self.keys.pack([attend(*parts, mask, self.dropout) for parts, mask in groups])

    def attend_selected(self, query: Tensor, key_value: Tensor) -> Tensor:
        """What the queries (R, H, D) attend to among the keys and values of their sequences, (T, 2, H, D)."""
        groups = zip(self.queries.pad(query.unsqueeze(1)), self.keys.pad(key_value), self.masks, strict=True)
        return self.queries.pack([attend(some, *parts, mask, self.dropout) for (some,), parts, mask in groups])


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(query keyᵀ / √D) value, (N, H, Q, D) and twice (N, H, L, D); `mask` (N, 1, 1, L) is True at real keys."""
    if dropout == 0 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return DropoutAttention.apply(query, key, value, mask, dropout)
