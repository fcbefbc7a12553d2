"""Batches that keep units whole: items that belong together, as the two code-switched forms of one example."""

import numpy as np
from fairseq.data import FairseqDataset

from ppa_fairseq.utils.errors import InputError


class GroupedDataset(FairseqDataset):
    """A dataset whose items come in units, which no batch divides.

    A subclass sets, anew at every :meth:`set_epoch` if need be:
        sizes: (I,) tokens of each item.
        unit: (I,) the number of each item's unit, ascending: the items of a unit stand one after another.
        group: (I,) a batch's items are all of one group (a validation batch of one language), or None.
    """

    sizes: np.ndarray
    unit: np.ndarray
    group: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    def num_tokens(self, index: int) -> int:
        return self.sizes[index]

    def size(self, index: int) -> int:
        return self.sizes[index]

    def ordered_indices(self) -> np.ndarray:
        """Whole units by the length of their longest item, in random order within one length."""
        starts = np.flatnonzero(np.diff(self.unit, prepend=-1))  # (U,)
        counts = np.diff(starts, append=len(self))  # (U,)
        longest = np.maximum.reduceat(self.sizes, starts)  # (U,)
        order = np.random.permutation(len(starts))
        order = order[np.argsort(longest[order], kind="stable")]
        counts = counts[order]
        begins = np.repeat(starts[order] - (np.cumsum(counts) - counts), counts)  # (I,)
        return begins + np.arange(len(self))

    def batch_by_size(self, indices: np.ndarray, max_tokens=None, max_sentences=None, **unused) -> list[np.ndarray]:
        """Fill batches with *indices* in their order, unit by unit, up to the limits that fairseq knows.

        *max_sentences* counts items; *max_tokens* counts them all as long as the longest, as fairseq does.
        Raises InputError if one unit alone is over a limit.
        """
        if self.group is None:
            return self._fill(indices, max_tokens, max_sentences)
        groups = self.group[indices]
        return [
            batch
            for group in np.unique(groups)
            for batch in self._fill(indices[groups == group], max_tokens, max_sentences)
        ]

    def _fill(self, indices: np.ndarray, max_tokens: int | None, max_sentences: int | None) -> list[np.ndarray]:
        starts = np.flatnonzero(np.diff(self.unit[indices], prepend=-1))  # (U,)
        ends = np.append(starts[1:], len(indices))  # (U,)
        longest = np.maximum.reduceat(self.sizes[indices], starts)  # (U,)
        max_sentences = max_sentences or len(indices)
        max_tokens = max_tokens or len(indices) * int(longest.max())
        largest = int(np.argmax((ends - starts) * longest))
        for unit in (largest, int(np.argmax(ends - starts))):
            items, length = int(ends[unit] - starts[unit]), int(longest[unit])
            if items > max_sentences or items * length > max_tokens:
                raise InputError(
                    f"{items} sequence{'s' * (items > 1)} of up to {length} tokens must share a batch: "
                    f"set --batch-size to {items} or more and --max-tokens to {items * length} or more"
                )
        # No batch has more units than this, so each is found within a short window.
        window = min(max_sentences, max_tokens // int(longest.min()))
        batches, unit = [], 0
        while unit < len(starts):
            items = ends[unit : unit + window] - starts[unit]
            tokens = items * np.maximum.accumulate(longest[unit : unit + window])
            fits = int(np.count_nonzero((items <= max_sentences) & (tokens <= max_tokens)))
            batches.append(indices[starts[unit] : ends[unit + fits - 1]])
            unit += fits
        return batches
