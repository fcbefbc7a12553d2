"""Attention within the sequences of a packed batch: planned once a forward, then run by every layer.

CUDA in half precision reads the packed tensors as they are (torch's variable-length attention). Everywhere
else the sequences are laid into padded groups of nearly equal length, attended, and packed again.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ppa_fairseq.models.dropout_attention import DropoutAttention

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

    With `counts`, of B, its method `of_some` takes the queries of that many tokens of each sequence alone,
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

    def of_some(self, query: Tensor, key_value: Tensor) -> Tensor:
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
        real = torch.zeros(self.keys.total, dtype=torch.bool)
        real[self.keys.slots] = True
        self.masks = [
            None if bool(mask.all()) else mask.view(count, 1, 1, length).to(device, non_blocking=True)
            for mask, (count, length) in zip(real.split(self.keys.sizes), self.keys.shapes, strict=True)
        ]
        self.keys.to(device)
        if counts is not None:
            wanted = torch.tensor(counts)
            most = torch.ones_like(members).scatter_reduce(0, group, wanted, "amax")  # by group, 1 at least
            self.queries = Layout(wanted, most[group], order, members).to(device)

    def __call__(self, qkv: Tensor) -> Tensor:
        outputs = []
        for part, mask in zip(self.keys.pad(qkv), self.masks, strict=True):  # (N, L, 3, H, D)
            query, key, value = part.permute(2, 0, 3, 1, 4)  # each (N, H, L, D)
            outputs.append(attend(query, key, value, mask, self.dropout).transpose(1, 2))
        return self.keys.pack(outputs)

    def of_some(self, query: Tensor, key_value: Tensor) -> Tensor:
        """What the queries (R, H, D) attend to among the keys and values of their sequences, (T, 2, H, D)."""
        outputs = []
        groups = zip(self.queries.pad(query), self.keys.pad(key_value), self.masks, strict=True)
        for some, part, mask in groups:  # (N, Q, H, D), (N, L, 2, H, D)
            key, value = part.permute(2, 0, 3, 1, 4)
            outputs.append(attend(some.transpose(1, 2), key, value, mask, self.dropout).transpose(1, 2))
        return self.queries.pack(outputs)


class Layout:
    """Where the rows of packed sequences go when each sequence is padded and they stand group by group.

    Args:
        true, padded: (B,) rows of each sequence before and after, equal after within a group.
        order: (B,) the sequences, group by group.
        members: sequences of each group.
    """

    def __init__(self, true: Tensor, padded: Tensor, order: Tensor, members: Tensor):
        ends = padded[order].cumsum(0)
        starts = torch.empty_like(true)
        starts[order] = ends - padded[order]
        shifts = starts - (true.cumsum(0) - true)
        self.slots = torch.arange(int(true.sum())) + torch.repeat_interleave(shifts, true)  # of each row
        self.total = int(ends[-1])
        longest = padded[order[members.cumsum(0) - 1]]
        self.shapes = list(zip(members.tolist(), longest.tolist(), strict=True))
        self.sizes = [count * length for count, length in self.shapes]

    def to(self, device: torch.device) -> "Layout":
        self.slots = self.slots.to(device, non_blocking=True)
        return self

    def pad(self, packed: Tensor) -> list[Tensor]:
        """(rows, …) -> each group's (N, L, …), zeros where nothing is."""
        padded = _Spread.apply(packed, self.slots, self.total)
        parts = zip(padded.split(self.sizes), self.shapes, strict=True)
        return [part.unflatten(0, shape) for part, shape in parts]

    def pack(self, groups: list[Tensor]) -> Tensor:
        """The reverse."""
        return torch.cat([group.flatten(0, 1) for group in groups]).index_select(0, self.slots)


class _Spread(torch.autograd.Function):
    """`index_copy` of *rows* into zeros. Torch's own keeps them for the backward pass in vain."""

    @staticmethod
    def forward(ctx, rows: Tensor, slots: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(slots)
        return rows.new_zeros(total, *rows.shape[1:]).index_copy_(0, slots, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors
        return gradient.index_select(0, slots), None, None


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(query keyᵀ / √D) value, (N, H, Q, D) and twice (N, H, L, D); `mask` (N, 1, 1, L) is True at real keys."""
    if dropout == 0 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return DropoutAttention.apply(query, key, value, mask, dropout)
