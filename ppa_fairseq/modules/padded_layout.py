"""Packed sequences laid into padded groups of nearly equal length, and back, in one pass over the memory each."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
        self.real = torch.zeros(self.total, dtype=torch.bool).index_fill_(0, self.slots, True)
        self.padding = (~self.real).nonzero()[:, 0]  # the other slots
        longest = padded[order[members.cumsum(0) - 1]]
        self.shapes = list(zip(members.tolist(), longest.tolist(), strict=True))
        self.sizes = [count * length for count, length in self.shapes]
        self._places: dict[tuple[int, int], Places] = {}

    def to(self, device: torch.device) -> "Layout":
        self.slots = self.slots.to(device, non_blocking=True)
        self.padding = self.padding.to(device, non_blocking=True)
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
        self.count = layout.total * heads
        places = torch.arange(self.count, device=layout.slots.device)
        by_slot = [
            part.view(members, heads, length).transpose(1, 2).reshape(-1, heads)
            for part, (members, length) in zip(
                places.split([size * heads for size in layout.sizes]), layout.shapes, strict=True
            )
        ]
        by_slot = torch.cat(by_slot)  # (total, H)
        padded, self.empty = by_slot[layout.slots], by_slot[layout.padding].flatten()  # of each kind
        kind = torch.arange(kinds, device=places.device)[:, None]
        self.padded = (padded[:, None] + kind * self.count).flatten()  # (rows · K · H,)
        rows = torch.arange(len(padded) * kinds * heads, device=places.device)
        packed = rows.view(-1, kinds, heads)[:, 0]  # (rows, H), of the first kind
        self.packed = torch.zeros_like(places).index_copy_(0, padded.flatten(), packed.flatten())

    def pad(self, packed: Tensor) -> tuple[Tensor, ...]:
        """(rows, K, H, D) -> kind after kind, group after group (N, H, L, D), zeros where nothing is."""
        size = packed.size(-1)
        if not len(packed):
            return self.split([packed.new_zeros(self.count, size) for _ in range(self.kinds)])
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
