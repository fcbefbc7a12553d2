"""Encoded questions as fairseq's indexed datasets with sidecars, and their count."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder, best_fitting_int_dtype

from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.qa.encoder import EncodedBatch, Example
from ppa_fairseq.data.qa.windows import context_windows, kept_question

PARTS = ("question", "context", "answer")


@dataclass
class QACounts:
    """What became of one split of one language: `read` is always `kept` and all of `dropped`.

    `windowless`, `cut` and `windows` hold for the window sizes that were asked for.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)  # questions, by reason
    faults: Counter = field(default_factory=Counter)  # single answers of any question, by fault
    places: dict[str, list[str]] = field(default_factory=dict)  # the first three by fault
    windows: int = 0
    windowless: int = 0  # questions whose answer is whole in no window
    cut: int = 0  # questions that were too long to stand beside a window
    tokens: int = 0  # WordPieces of the kept questions and their contexts
    unknown: int = 0  # of these, [UNK]


class QAWriter:
    """Writes `{split}.{question,context,answer}.{bin,idx}`, `{split}.offsets.npy` and `{split}.ids.txt`, and counts.

    Rows of question and context end in eos; each id in context.bin has a row in offsets, and eos is empty,
    behind the last WordPiece. A row of answer is [first, last] WordPiece of the row of context. Row k of all parts and
    of ids.txt is one question. *sizes*: max_length, doc_stride and specials of the windows that are counted.
    """

    def __init__(self, folder: Path, split: str, dictionary: WordPieceDictionary, sizes: tuple[int, int, int]):
        self.prefix = f"{folder / split}."
        dtypes = dict.fromkeys(PARTS, best_fitting_int_dtype(len(dictionary))) | {"answer": np.uint32}
        self.builders = {part: MMapIndexedDatasetBuilder(f"{self.prefix}{part}.bin", dtypes[part]) for part in PARTS}
        self.eos, self.unk = np.array([dictionary.eos()]), dictionary.unk()
        self.sizes = sizes
        self.offsets: list[np.ndarray] = []
        self.ids: list[str] = []
        self.counts = QACounts()

    def write(self, read: int, batch: EncodedBatch) -> None:
        """Write the examples of a batch, and count all of its *read* questions."""
        counts = self.counts
        counts.read += read
        counts.kept += len(batch.examples)
        counts.dropped += batch.dropped
        assert counts.read == counts.kept + counts.dropped.total()
        for fault, place in batch.faults:
            counts.faults[fault] += 1
            places = counts.places.setdefault(fault, [])
            places += [place] * (len(places) < 3)
        for example in batch.examples:
            context, offsets = batch.contexts[example.context], batch.offsets[example.context]
            self._add("question", np.append(example.question, self.eos))
            self._add("context", np.append(context, self.eos))
            self._add("answer", np.array(example.span))
            self.offsets += [offsets, np.full((1, 2), offsets[-1, 1])]
            self.ids.append(example.id)
            for ids in (example.question, context):
                counts.tokens += len(ids)
                counts.unknown += int(np.count_nonzero(ids == self.unk))
            self._count_windows(example, len(context))

    def _add(self, part: str, row: np.ndarray) -> None:
        self.builders[part].add_item(torch.from_numpy(row))

    def _count_windows(self, example: Example, context_length: int) -> None:
        length = len(example.question)
        windows = context_windows(length, context_length, *self.sizes)
        self.counts.windows += len(windows)
        self.counts.cut += kept_question(length, *self.sizes) < length
        first, last = example.span
        self.counts.windowless += not any(start <= first and last < end for start, end in windows)

    def close(self) -> None:
        """Finish all files."""
        for part, builder in self.builders.items():
            builder.finalize(f"{self.prefix}{part}.idx")
        np.save(f"{self.prefix}offsets.npy", np.concatenate(self.offsets, dtype=np.int32))
        with open(f"{self.prefix}ids.txt", "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{name}\n" for name in self.ids)
