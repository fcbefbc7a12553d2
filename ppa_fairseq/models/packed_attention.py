"""Attention within the sequences of a packed batch: planned once a forward, then run by every layer.

CUDA in half precision reads the packed tensors as they are (torch's variable-length attention). Everywhere
else the sequences are laid into padded groups of nearly equal length, attended, and packed again.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ppa_fairseq.models.dropout import dropout as fast_dropout

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch < 2.10
    varlen_attn = None

# On the CPU, where padding costs time and a call little, lengths within a group differ by less than this.
CPU_GROUP_WIDTH = 8


def plan_attention(
    cu_seqlens: Tensor, lengths: list[int], max_length: int, dtype: torch.dtype, head_dim: int, p: float
):
    """The attention of one packed batch: a callable from query, key and value, (T, 3, H, D), to (T, H, D).

    Its method `of_first_tokens` takes queries of the sequences' first tokens alone, (B, H, D), and keys and values of
    all, (T, 2, H, D), to (B, H, D).

    `dtype` is the one in which the layers will compute; `p` is the dropout on attention probabilities.
    """
    device = cu_seqlens.device
    if p == 0 and varlen_runs(device, dtype, head_dim):
        return VarlenAttention(cu_seqlens, max_length)
    width = CPU_GROUP_WIDTH if device.type == "cpu" else max_length
    return PaddedAttention(lengths, width, p, device)


def varlen_runs(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether torch's variable-length attention takes this: it is FlashAttention, and has no dropout."""
    return (
        varlen_attn is not None
        and device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and head_dim % 8 == 0
        and head_dim <= 256
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


class VarlenAttention:
    """No padding at all: the kernel takes `cu_seqlens`."""

    def __init__(self, cu_seqlens: Tensor, max_length: int):
        self.cu_seqlens = cu_seqlens
        self.max_length = max_length

    def __call__(self, qkv: Tensor) -> Tensor:
        starts, longest = self.cu_seqlens, self.max_length
        return varlen_attn(*qkv.unbind(1), starts, starts, longest, longest)

    def of_first_tokens(self, query: Tensor, key_value: Tensor) -> Tensor:
        one_each = torch.arange(len(self.cu_seqlens), dtype=torch.int32, device=query.device)
        return varlen_attn(query, *key_value.unbind(1), one_each, self.cu_seqlens, 1, self.max_length)


class PaddedAttention:
    """Sequences padded to the next multiple of `width`, and one group for each padded length."""

    def __init__(self, lengths: list[int], width: int, dropout: float, device: torch.device):
        self.dropout = dropout
        true = torch.tensor(lengths)
        padded = (true + width - 1).div(width, rounding_mode="floor") * width
        order = padded.argsort(stable=True)
        group_lengths, counts = padded.unique(return_counts=True)
        self.shapes = list(zip(counts.tolist(), group_lengths.tolist(), strict=True))
        self.order = order.to(device, non_blocking=True)  # of the sequences, group by group
        # Where each sequence starts in the padded layout, and from there where each token goes.
        starts = torch.empty_like(true)
        starts[order] = padded[order].cumsum(0) - padded[order]
        shifts = starts - (true.cumsum(0) - true)
        slots = torch.arange(int(true.sum())) + torch.repeat_interleave(shifts, true)  # (T,)
        self.padded_total = int(padded.sum())
        real = torch.zeros(self.padded_total, dtype=torch.bool)
        real[slots] = True
        self.slots = slots.to(device, non_blocking=True)
        self.masks = [
            None if bool(mask.all()) else mask.view(count, 1, 1, length).to(device, non_blocking=True)
            for mask, (count, length) in zip(real.split(self._sizes()), self.shapes, strict=True)
        ]

    def _sizes(self) -> list[int]:
        return [count * length for count, length in self.shapes]

    def __call__(self, qkv: Tensor) -> Tensor:
        outputs = []
        for group, shape, mask in zip(self._padded(qkv), self.shapes, self.masks, strict=True):
            query, key, value = group.unflatten(0, shape).permute(2, 0, 3, 1, 4)  # each (N, H, L, D)
            attended = attend(query, key, value, mask, self.dropout)
            outputs.append(attended.transpose(1, 2).flatten(0, 1))  # (N * L, H, D)
        return torch.cat(outputs).index_select(0, self.slots)

    def of_first_tokens(self, query: Tensor, key_value: Tensor) -> Tensor:
        """What each sequence's first token attends to: its query (B, H, D), all keys and values (T, 2, H, D)."""
        outputs = []
        queries = query[self.order].split([count for count, _ in self.shapes])
        groups = zip(queries, self._padded(key_value), self.shapes, self.masks, strict=True)
        for first, group, shape, mask in groups:
            key, value = group.unflatten(0, shape).permute(2, 0, 3, 1, 4)  # each (N, H, L, D)
            outputs.append(attend(first.unsqueeze(2), key, value, mask, self.dropout).squeeze(2))  # (N, H, D)
        return torch.empty_like(query).index_copy(0, self.order, torch.cat(outputs))  # (B, H, D)

    def _padded(self, packed: Tensor) -> tuple[Tensor, ...]:
        """(T, …) -> each group's (N * L, …), zeros where nothing is."""
        padded = packed.new_zeros(self.padded_total, *packed.shape[1:]).index_copy(0, self.slots, packed)
        return padded.split(self._sizes())


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(query keyᵀ / √D) value, each (N, H, L, D); `mask` (N, 1, 1, L) is True at real keys."""
    if dropout == 0 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    # With dropout, SDPA on the CPU falls back to a path slower than writing it out.
    scores = (query * query.size(-1) ** -0.5) @ key.transpose(-2, -1)  # (N, H, L, L)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return fast_dropout(scores.softmax(-1), dropout, training=True) @ value
