"""The queue of earlier keys that serve as negatives (He et al. 2020, MoCo, algorithm 1)."""

import torch
import torch.distributed as dist

from ppa_fairseq.modules.float32 import Float32Module


class KeyQueue(Float32Module):
    """A ring of the last K keys, equal on all ranks, that changes only when an update has succeeded.

    A forward pass *stages* its keys; after the optimizer's step they are *committed*. An update that overflows or is
    repeated discards them.

    Beside each key stands its pivot, the hash of its pair's sentence in --pivot. A key with the query's own pivot is a
    translation of the query, so it is not used as a negative. Neither is a slot that no key has filled yet.

    Args:
        size: K, the number of keys kept (paper: 32,000).
        dim: D, the width of a key.
    """

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.size = size
        self.register_buffer("keys", torch.zeros(size, dim))  # (K, D), unit rows where filled
        self.register_buffer("pivots", torch.zeros(size, dtype=torch.int64))  # (K,)
        self.register_buffer("next_slot", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self._staged: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._attempt = 0

    def stage(self, keys: torch.Tensor, pivots: torch.Tensor, attempt: int) -> None:
        """Put *keys* (N, D) and their *pivots* (N,) aside until :meth:`commit`.

        *attempt* numbers the attempts at an update. Keys of an earlier attempt, which failed, are dropped.
        """
        if attempt != self._attempt:
            self._staged.clear()
            self._attempt = attempt
        self._staged.append((keys.detach().float(), pivots))

    @torch.no_grad()
    def commit(self, group: dist.ProcessGroup | None = None) -> None:
        """Write what all ranks of *group* (default: all) staged over the oldest slots. Every rank must call it."""
        keys = torch.cat([k for k, _ in self._staged] or [self.keys.new_zeros(0, self.keys.size(1))])  # (N, D)
        pivots = torch.cat([p for _, p in self._staged] or [self.pivots.new_zeros(0)])  # (N,)
        self._staged.clear()
        keys, pivots = (rows[-self.size :] for rows in gather_rows(keys, pivots, group=group))
        # The slots are computed on the device: reading next_slot back would make the host wait for the step.
        slots = (self.next_slot + torch.arange(len(keys), device=keys.device)) % self.size  # (N,)
        self.keys[slots] = keys
        self.pivots[slots] = pivots
        self.next_slot.add_(len(keys)).remainder_(self.size)
        self.filled.add_(len(keys)).clamp_(max=self.size)

    def find_negatives(self, pivots: torch.Tensor, pivot_aware: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the slots that are negatives for N queries with *pivots* (N,).

        Returns:
            (N, K) bool, and how many filled slots are left out because they have the query's pivot, a scalar.
        """
        filled = torch.arange(self.size, device=self.keys.device) < self.filled  # (K,)
        if not pivot_aware:
            return filled.expand(len(pivots), -1), self.filled.new_zeros(())
        same = (pivots[:, None] == self.pivots) & filled  # (N, K)
        return filled & ~same, same.sum()


def gather_rows(*tables: torch.Tensor, group: dist.ProcessGroup | None = None) -> list[torch.Tensor]:
    """Gather the rows of all ranks of *group* (default: all), in rank order.

    Args:
        tables: each (N, …); N is the same in all tables of a rank and may differ between ranks.

    Returns:
        each table (ΣN, …).
    """
    world_size = dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1
    if world_size == 1:
        return list(tables)
    count = torch.tensor([len(tables[0])], device=tables[0].device)
    counts = [torch.empty_like(count) for _ in range(world_size)]
    dist.all_gather(counts, count, group=group)
    counts = torch.cat(counts).tolist()  # waits for the device, once
    result = []
    for rows in tables:
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in range(world_size)]
        dist.all_gather(gathered, padded, group=group)
        result.append(torch.cat([part[:n] for part, n in zip(gathered, counts, strict=True)]))
    return result
