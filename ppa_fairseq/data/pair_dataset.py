"""Examples in several languages, of two halves (question and context) with code-switching, or of one sentence."""

from collections.abc import Sequence

import numpy as np
import torch
from fairseq.data import FairseqDataset

from ppa_fairseq.data.code_switching import CodeSwitch
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.utils.errors import InputError


class PairDataset(FairseqDataset):
    """What the datasets of fine-tuning share: batches that keep groups whole, as the two mixed forms of an example.

    A subclass sets at every :meth:`set_epoch`:
        sizes: (I,) tokens of each item.
        group: (I,) the number of each item's group, ascending.
        language: (I,) the number of each item's language if a batch must hold only one, else None.

    Args:
        corpora: the languages; English first if *switch* needs it.
        numbers: the number of each of them in a batch.
        train_langs: the languages to train on (or to validate).
        layout: how two halves become one sequence.
        switch: how to mix with English; None for validation.
        by_language: make batches of one language each, so that validation can report each language.
    """

    sizes: np.ndarray
    group: np.ndarray
    language: np.ndarray | None = None
    join_targets = staticmethod(torch.stack)

    def __init__(
        self,
        corpora: Sequence,
        numbers: list[int],
        train_langs: list[str],
        layout: PairLayout,
        seed: int,
        switch: CodeSwitch | None = None,
        by_language: bool = False,
    ):
        self.corpora = corpora
        self.numbers = numbers
        self.languages = [corpus.language for corpus in corpora]
        self.train_langs = train_langs
        self.layout = layout
        self.seed = seed
        self.switch = switch
        self.by_language = by_language
        self.set_epoch(1)

    def __len__(self) -> int:
        return len(self.sizes)

    def num_tokens(self, index: int) -> int:
        return self.sizes[index]

    size = num_tokens

    def collater(self, samples: list[dict]) -> dict:
        """Batch N examples: ``net_input`` packed; ``id``, ``language``, ``target`` (N, ...); counts."""
        if not samples:
            return {}
        packed = pack([s["tokens"] for s in samples], [s["token_types"] for s in samples])
        return {
            "id": torch.tensor([s["id"] for s in samples]),
            "language": torch.tensor([s["language"] for s in samples]),
            "target": self.join_targets([s["target"] for s in samples]),
            "net_input": packed,
            "nsentences": len(samples),
            "ntokens": len(packed["tokens"]),
        }

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
        """Fill batches with *indices* in their order, group by group, up to fairseq's two limits.

        *max_sentences* counts items; *max_tokens* counts them all as long as the longest.
        Raises InputError if one group alone is over a limit.
        """
        if self.language is None:
            return self._fill(indices, max_tokens, max_sentences)
        languages = self.language[indices]
        parts = (indices[languages == language] for language in np.unique(languages))
        return [batch for part in parts for batch in self._fill(part, max_tokens, max_sentences)]

    def _fill(self, indices: np.ndarray, max_tokens: int | None, max_sentences: int | None) -> list[np.ndarray]:
        starts = np.flatnonzero(np.diff(self.group[indices], prepend=-1))  # (G,)
        ends = np.append(starts[1:], len(indices))  # (G,)
        longest = np.maximum.reduceat(self.sizes[indices], starts)  # (G,)
        items, tokens = int((ends - starts).max()), int(((ends - starts) * longest).max())
        max_sentences, max_tokens = max_sentences or len(indices), max_tokens or len(indices) * int(longest.max())
        if items > max_sentences or tokens > max_tokens:
            raise InputError(
                f"{items} sequence{'s' * (items > 1)} of up to {longest.max()} tokens must share a batch: "
                f"set --batch-size to {items} or more and --max-tokens to {tokens} or more"
            )
        batches, begin, length = [], 0, 0
        # A memoryview yields int by int; there are millions.
        for start, end, own in zip(*map(memoryview, (starts, ends, longest)), strict=True):
            length = max(length, own)
            if end - begin > max_sentences or (end - begin) * length > max_tokens:
                batches.append(indices[begin:start])
                begin, length = start, own
        return [*batches, indices[begin:]]


def lengths(rows: torch.utils.data.Dataset) -> np.ndarray:
    """Return the lengths (rows,) of an indexed dataset, without the [SEP] at the end of each row."""
    return rows.sizes.astype(np.int32) - 1


def gather(columns: list[np.ndarray], language: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return ``columns[language[i]][row[i]]`` for every entry *i*, (E, ...)."""
    result = np.empty((len(row), *columns[0].shape[1:]), dtype=columns[0].dtype)
    for number, values in enumerate(columns):
        here = language == number
        result[here] = values[row[here]]
    return result
