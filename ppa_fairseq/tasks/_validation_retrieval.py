"""Retrieval over a whole validation split, collected batch by batch."""

import numpy as np
import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics

from ppa_fairseq.evaluation.retrieval.accuracy import retrieval_accuracy
from ppa_fairseq.modules.key_queue import gather_rows


class ValidationRetrieval:
    """Sentence vectors of a validation split, and how well each side finds the other in them.

    Args:
        names: the task's language pairs; a batch names its own by their numbers.
    """

    def __init__(self, names: list[str]):
        self.names = names
        self.reset()

    def reset(self) -> None:
        self._batches: list[list[torch.Tensor]] = []
        self._accuracy: dict[str, float] | None = None
        self._seen: set[int] = set()
        self._indices: set[int] = set()

    def add(self, index: torch.Tensor, pair: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> None:
        """Add a batch of all ranks: *index* and *pair* (N,), vectors of both sides (N, C)."""
        rows = (index, pair, source.float(), target.float())
        gathered = gather_rows(*rows, group=distributed_utils.get_data_parallel_group())
        self._batches.append([part.cpu() for part in gathered])
        self._indices.update(self._batches[-1][0].tolist())
        self._seen.update(self._batches[-1][1].tolist())
        self._accuracy = None

    def __len__(self) -> int:
        """Sentence pairs collected."""
        return len(self._indices)

    def log(self, pairs: int) -> None:
        """Log the accuracies; *pairs* is how many the batches being logged have.

        fairseq asks for derived values after every batch too. They are worked out only where all pairs were logged.
        """
        metrics.log_scalar("_pairs", 1, weight=pairs)

        def accuracy(name):
            def value(meters):
                return round(self.accuracy()[name], 2) if meters["_pairs"].count == len(self) else 0.0

            return value

        metrics.log_derived("retrieval", accuracy("mean"), priority=20)
        for direction in self.directions(self._seen):
            metrics.log_derived(f"retrieval_{direction}", accuracy(direction), priority=21)

    def metrics(self, pairs: set[int]) -> list[str]:
        """The names that :meth:`log` gives to the accuracies of a split of *pairs*."""
        return ["retrieval", *(f"retrieval_{direction}" for direction in self.directions(pairs))]

    def directions(self, pairs: set[int]) -> list[str]:
        """The directions of *pairs*, given by number: ``de-en``, ``en-de``, …"""
        names = [self.names[number].split("-") for number in sorted(pairs)]
        return ["-".join(name) for pair in names for name in (pair, pair[::-1])]

    def accuracy(self) -> dict[str, float]:
        """Percent found at rank 1 by name: each of the :meth:`directions` seen so far, and their ``mean``."""
        if self._accuracy is None:
            index, pair, source, target = (torch.cat(parts) for parts in zip(*self._batches, strict=True))
            # A rank that ran out of data repeats a batch, so a pair may be here twice.
            rows = torch.from_numpy(np.unique(index.numpy(), return_index=True)[1])
            pair, source, target = pair[rows], source[rows], target[rows]
            found = [retrieval_accuracy(source[pair == n], target[pair == n]) for n in sorted(self._seen)]
            percent = [value for both in found for value in both]
            self._accuracy = dict(zip(self.directions(self._seen), percent, strict=True))
            self._accuracy["mean"] = sum(percent) / len(percent)
        return self._accuracy
