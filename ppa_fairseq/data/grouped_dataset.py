"""Batches that keep groups whole: items that belong together, as the two code-switched forms of one example."""

import numpy as np
from fairseq.data import FairseqDataset

from ppa_fairseq.utils.errors import InputError


class GroupedDataset(FairseqDataset):
    """A dataset whose items come in groups. No batch divides a group.

    A subclass sets, anew at every :meth:`set_epoch` if need be:
        sizes: (I,) tokens of each item.
        group: (I,) the number of each item's group, ascending: the items of a group follow one another.
        language: (I,) the number of each item's language if a batch must hold only one, else None.
    """

    sizes: np.ndarray
    group: np.ndarray
    language: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    def num_tokens(self, index: int) -> int:
        return self.sizes[index]

    def size(self, index: int) -> int:
        return self.sizes[index]

    def ordered_indices(self) -> np.ndarray:
        """Whole groups by the length of their longest item, in random order within one length."""
        starts = np.flatnonzero(np.diff(self.group, prepend=-1))  # (G,)
        counts = np.diff(starts, append=len(self))  # (G,)
        longest = np.maximum.reduceat(self.sizes, starts)  # (G,)
        order = np.random.permutation(len(starts))
        order = order[np.argsort(longest[order], kind="stable")]
        counts = counts[order]
        begins = np.repeat(starts[order] - (np.cumsum(counts) - counts), counts)  # (I,)
        return begins + np.arange(len(self))

    def batch_by_size(self, indices: np.ndarray, max_tokens=None, max_sentences=None, **unused) -> list[np.ndarray]:
        """Fill batches with *indices* in their order, group by group, up to the limits that fairseq knows.

        *max_sentences* counts items; *max_tokens* counts them all as long as the longest, as fairseq does.
        Raises InputError if one group alone is over a limit.
        """
        if self.language is None:
            return self._fill(indices, max_tokens, max_sentences)
        languages = self.language[indices]
        return [
            batch
            for language in np.unique(languages)
            for batch in self._fill(indices[languages == language], max_tokens, max_sentences)
        ]

    def _fill(self, indices: np.ndarray, max_tokens: int | None, max_sentences: int | None) -> list[np.ndarray]:
        starts = np.flatnonzero(np.diff(self.group[indices], prepend=-1))  # (G,)
        ends = np.append(starts[1:], len(indices))  # (G,)
        longest = np.maximum.reduceat(self.sizes[indices], starts)  # (G,)
        max_sentences = max_sentences or len(indices)
        max_tokens = max_tokens or len(indices) * int(longest.max())
        largest = int(np.argmax((ends - starts) * longest))
        for group in (largest, int(np.argmax(ends - starts))):
            items, length = int(ends[group] - starts[group]), int(longest[group])
            if items > max_sentences or items * length > max_tokens:
                raise InputError(
                    f"{items} sequence{'s' * (items > 1)} of up to {length} tokens must share a batch: "
                    f"set --batch-size to {items} or more and --max-tokens to {items * length} or more"
                )
        # No batch has more groups than this, so each is found within a short window.
        window = min(max_sentences, max_tokens // int(longest.min()))
        batches, group = [], 0
        while group < len(starts):
            items = ends[group : group + window] - starts[group]
            tokens = items * np.maximum.accumulate(longest[group : group + window])
            fits = int(np.count_nonzero((items <= max_sentences) & (tokens <= max_tokens)))
            batches.append(indices[starts[group] : ends[group + fits - 1]])
            group += fits
        return batches
