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
        groups = zip(self.keys.pad(qkv), self.masks, strict=True)
        return self.keys.pack([attend(*parts, mask, self.dropout) for parts, mask in groups])

    def of_some(self, query: Tensor, key_value: Tensor) -> Tensor:
        """What the queries (R, H, D) attend to among the keys and values of their sequences, (T, 2, H, D)."""
        groups = zip(self.queries.pad(query.unsqueeze(1)), self.keys.pad(key_value), self.masks, strict=True)
        return self.queries.pack([attend(some, *parts, mask, self.dropout) for (some,), parts, mask in groups])


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
        self._places: dict[tuple[int, int], Places] = {}

    def to(self, device: torch.device) -> "Layout":
        self.slots = self.slots.to(device, non_blocking=True)
        return self

    def pad(self, packed: Tensor) -> list[tuple[Tensor, ...]]:
        """(rows, K, H, D) -> of each group K tensors (N, H, L, D), zeros where nothing is."""
        kinds = packed.size(1)
        parts = _Pad.apply(packed, self)
        return [parts[group :: len(self.shapes)] for group in range(len(parts) // kinds)]

    def pack(self, groups: list[Tensor]) -> Tensor:
        """The reverse for one kind: each group's (N, H, L, D) -> (rows, H, D)."""
        return _Pack.apply(self, *groups)

    def places(self, kinds: int, heads: int) -> "Places":
        """The same for every layer."""
        if (kinds, heads) not in self._places:
            self._places[kinds, heads] = Places(self, kinds, heads)
        return self._places[kinds, heads]


class Places:
    """The layout in rows of one head: (rows, K, H) of them packed, and for each kind (N, H, L) of every group padded.

    One `index_select` is what moving them takes, one pass over the memory.
    """

    def __init__(self, layout: Layout, kinds: int, heads: int):
        self.layout, self.kinds, self.heads = layout, kinds, heads
        device, rows, count = layout.slots.device, len(layout.slots), layout.total * heads
        places = torch.arange(count, device=device).split([size * heads for size in layout.sizes])
        of_slots = [
            part.view(members, heads, length).transpose(1, 2).reshape(-1, heads)
            for part, (members, length) in zip(places, layout.shapes, strict=True)
        ]
        padded = torch.cat(of_slots)[layout.slots]  # (rows, H), of the first kind
        starts = torch.arange(kinds, device=device)[:, None] * count
        self.padded = (padded[:, None] + starts).flatten()  # (rows · K · H,)
        packed = torch.arange(rows * kinds * heads, device=device).view(rows, kinds, heads)[:, 0]  # (rows, H)
        self.packed = torch.zeros(count, dtype=torch.int64, device=device).index_copy_(0, padded.flatten(), packed.flatten())
        empty = torch.ones(count, dtype=torch.bool, device=device)
        self.empty = empty.index_fill_(0, padded.flatten(), False).nonzero()[:, 0]

    def pad(self, packed: Tensor) -> tuple[Tensor, ...]:
        """(rows, K, H, D) -> kind after kind, group after group (N, H, L, D), zeros where nothing is."""
        size = packed.size(-1)
        if not len(packed):
            return self.split([packed.new_zeros(len(self.packed), size) for _ in range(self.kinds)])
        rows = packed.reshape(-1, size)
        # Each kind a tensor of its own, so that what is kept of one does not keep the others.
        kinds = (rows.index_select(0, self.packed + kind * self.heads) for kind in range(self.kinds))
        return self.split([kind.index_fill_(0, self.empty, 0) for kind in kinds])

    def pack(self, groups: tuple[Tensor, ...]) -> Tensor:
        """The reverse: (rows, K, H, D)."""
        size = groups[0].size(-1)
        rows = torch.cat([group.reshape(-1, size) for group in groups]).index_select(0, self.padded)
        return rows.view(-1, self.kinds, self.heads, size)

    def split(self, kinds: list[Tensor]) -> tuple[Tensor, ...]:
        sizes = [size * self.heads for size in self.layout.sizes]
        return tuple(
            part.view(members, self.heads, length, part.size(-1))
            for kind in kinds
            for part, (members, length) in zip(kind.split(sizes), self.layout.shapes, strict=True)
        )


class _Pad(torch.autograd.Function):
    # By itself, autograd would add up a gradient of the whole for every index_select.
    @staticmethod
    def forward(ctx, packed: Tensor, layout: Layout) -> tuple[Tensor, ...]:
        ctx.places = layout.places(*packed.shape[1:3])
        return ctx.places.pad(packed)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.places.pack(gradients), None


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layout: Layout, *groups: Tensor) -> Tensor:
        ctx.places = layout.places(1, groups[0].size(1))
        return ctx.places.pack(groups).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.places.pad(gradient.unsqueeze(1))


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(query keyᵀ / √D) value, (N, H, Q, D) and twice (N, H, L, D); `mask` (N, 1, 1, L) is True at real keys."""
    if dropout == 0 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return DropoutAttention.apply(query, key, value, mask, dropout)
