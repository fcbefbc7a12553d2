"""Self-attention within the sequences of a packed batch, planned once a forward and used by every layer.

CUDA in half precision reads the packed tensors as they are (FlashAttention by the starts of the sequences). Elsewhere
sequences of nearly equal length are padded into groups, attended, and packed again.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CPU_GROUP_WIDTH = 8  # lengths within a group differ by less: on a CPU padding costs more than another call


def plan_attention(
    cu_seqlens: Tensor,
    lengths: list[int],
    max_length: int,
    dtype: torch.dtype,
    head_dim: int,
    p: float,
    counts: list[int] | None = None,
):
    """Return the attention of one packed batch: a callable from (T, 3, H, D) to (T, H, D).

    Args:
        cu_seqlens, lengths, max_length: of the batch (modules/packing.py).
        dtype: the one in which the layers compute.
        head_dim: D.
        p: dropout of the attention probabilities.
        counts: B numbers of selected queries; the callable's `attend_selected` then takes those queries alone,
            (R, H, D), with the keys and values of all tokens, (T, 2, H, D), and returns (R, H, D).
    """
    device = cu_seqlens.device
    if varlen_runs(device, dtype, head_dim):
        return VarlenAttention(cu_seqlens, max_length, counts, p)
    width = CPU_GROUP_WIDTH if device.type == "cpu" else max_length
    return PaddedAttention(lengths, width, p, device, counts)


def varlen_runs(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Say whether torch's FlashAttention takes this input."""
    return (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and head_dim % 8 == 0
        and head_dim <= 256
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and torch.backends.cuda.is_flash_attention_available()
    )


class VarlenAttention:
    """Attention without padding: the kernel takes `cu_seqlens`, and draws the dropout of the probabilities itself."""

    def __init__(self, cu_seqlens: Tensor, max_length: int, counts: list[int] | None = None, dropout: float = 0.0):
        self.cu_seqlens = cu_seqlens
        self.max_length = max_length
        self.dropout = dropout
        if counts is not None:
            starts = torch.tensor([0, *counts], dtype=torch.int32).cumsum(0, dtype=torch.int32)
            self.query_starts, self.max_count = starts.to(cu_seqlens.device, non_blocking=True), max(1, *counts)

    def __call__(self, qkv: Tensor) -> Tensor:
        return self._attend(*qkv.unbind(1), self.cu_seqlens, self.max_length)

    def attend_selected(self, query: Tensor, key_value: Tensor) -> Tensor:
        return self._attend(query, *key_value.unbind(1), self.query_starts, self.max_count)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, starts: Tensor, longest: int) -> Tensor:
        """Call torch's own operator: its `varlen_attn` has no dropout."""
        lengths = (starts, self.cu_seqlens, longest, self.max_length)
        return torch.ops.aten._flash_attention_forward(query, key, value, *lengths, self.dropout, False, False)[0]


class PaddedAttention:
    """Attention over groups of sequences, each padded to the next multiple of `width`."""

    def __init__(
        self, lengths: list[int], width: int, dropout: float, device: torch.device, counts: list[int] | None = None
    ):
        self.dropout = dropout
        true = torch.tensor(lengths)  # (B,)
        padded = (true + width - 1).div(width, rounding_mode="floor") * width
        order = padded.argsort(stable=True)  # of the sequences, group by group
        group_lengths, group = padded.unique(return_inverse=True)
        members = group.bincount()
        self.keys = PaddedGroups(true, group_lengths[group], order, members, device)
        self.masks = self.keys.masks(device)
        if counts is not None:
            selected = torch.tensor(counts)  # (B,)
            most = torch.ones_like(members).scatter_reduce(0, group, selected, "amax")  # by group, at least 1
            self.queries = PaddedGroups(selected, most[group], order, members, device)

    def __call__(self, qkv: Tensor) -> Tensor:
        groups = zip(self.keys.pad(qkv), self.masks, strict=True)
        return self.keys.pack([self._attend(*group, mask) for group, mask in groups])

    def attend_selected(self, query: Tensor, key_value: Tensor) -> Tensor:
        groups = zip(self.queries.pad(query.unsqueeze(1)), self.keys.pad(key_value), self.masks, strict=True)
        return self.queries.pack([self._attend(selected, *keys, mask) for (selected,), keys, mask in groups])

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """(N, H, Q, D) and twice (N, H, L, D) -> (N, H, Q, D)."""
        if trains_in_cpu_bf16(query.device):
            return written_out(query, key, value, mask, self.dropout)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=self.dropout)


def trains_in_cpu_bf16(device: torch.device) -> bool:
    """Say whether a forward pass with gradient lets matrix products on the CPU take bfloat16 (`--cpu-precision`)."""
    enabled = device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
    return enabled and torch.get_autocast_dtype("cpu") == torch.bfloat16


def written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """`scaled_dot_product_attention` as two products and a softmax.

    The backward pass of torch's fused attention for CPUs takes ten times as long in bfloat16 as this one's. This one
    rounds the scores, which the fused one does not, so `--bf16` keeps the fused one.
    """
    scores = query @ (key * key.shape[-1] ** -0.5).transpose(-1, -2)  # (N, H, Q, L)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return F.dropout(scores.softmax(-1), dropout) @ value


class PaddedGroups:
    """Where the rows of packed sequences stand when each sequence is padded, group by group.

    Args:
        true, padded: (B,) rows of each sequence before and after; `padded` is equal within a group.
        order: (B,) the sequences, group by group.
        members: (G,) sequences of each group.
    """

    def __init__(self, true: Tensor, padded: Tensor, order: Tensor, members: Tensor, device: torch.device):
        ends = padded[order].cumsum(0)
        starts = torch.empty_like(true)
        starts[order] = ends - padded[order]
        shifts = starts - (true.cumsum(0) - true)
        slots = torch.arange(int(true.sum())) + torch.repeat_interleave(shifts, true)  # (T,) place of each row
        self.total = int(ends[-1])
        self.real = torch.zeros(self.total, dtype=torch.bool).index_fill_(0, slots, True)
        longest = padded[order[members.cumsum(0) - 1]]
        self.shapes = list(zip(members.tolist(), longest.tolist(), strict=True))  # (N, L) of each group
        self.sizes = [count * length for count, length in self.shapes]
        self.slots = slots.to(device, non_blocking=True)

    def masks(self, device: torch.device) -> list[Tensor | None]:
        """Return each group's mask (N, 1, 1, L), True at real rows; None for a group without padding."""
        return [
            None if bool(real.all()) else real.view(count, 1, 1, length).to(device, non_blocking=True)
            for real, (count, length) in zip(self.real.split(self.sizes), self.shapes, strict=True)
        ]

    def pad(self, packed: Tensor) -> list[tuple[Tensor, ...]]:
        """(T, K, H, D) -> K tensors (N, H, L, D) for each group, zeros at padding."""
        padded = packed.new_zeros(self.total, *packed.shape[1:]).index_copy(0, self.slots, packed)
        return [
            part.view(*shape, *part.shape[1:]).permute(2, 0, 3, 1, 4).unbind(0)
            for part, shape in zip(padded.split(self.sizes), self.shapes, strict=True)
        ]

    def pack(self, groups: list[Tensor]) -> Tensor:
        """Reverse `pad` for one tensor a group: (N, H, L, D) each -> (T, H, D)."""
        return torch.cat([group.transpose(1, 2).flatten(0, 1) for group in groups])[self.slots]
