"""Lines of symbols to fairseq's indexed datasets: the bytes of fairseq's own binarizer, at many times its speed."""

import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDataset, _dtype_header_code, best_fitting_int_dtype

from ppa_fairseq.utils.errors import InputError

BLOCK = 1 << 20  # bytes read, or sizes of rows written, at once


class IndexedWriter:
    """Writes rows of ids below `vocab_size` to PREFIX.bin and PREFIX.idx, in constant memory. A context manager."""

    def __init__(self, prefix: str, vocab_size: int):
        self.prefix = prefix
        self.dtype = best_fitting_int_dtype(vocab_size)
        self.rows = 0

    def __enter__(self) -> "IndexedWriter":
        with ExitStack() as stack:
            self.data = stack.enter_context(open(f"{self.prefix}.bin", "wb"))
            self.index = stack.enter_context(open(f"{self.prefix}.idx", "w+b"))
            self._close = stack.pop_all().close
        self._write_head()
        self.first_size = self.index.tell()
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self._finish()
        self._close()

    def write(self, ids: np.ndarray, sizes: np.ndarray) -> None:
        """Append rows: all their *ids* in one (sum of sizes,), and *sizes* (N,)."""
        self.data.write(ids.astype(self.dtype).tobytes())
        self.index.write(sizes.astype(np.int32).tobytes())
        self.rows += len(sizes)

    def _write_head(self) -> None:
        self.index.write(MMapIndexedDataset.Index._HDR_MAGIC)
        self.index.write(struct.pack("<QBQ", 1, _dtype_header_code(self.dtype), self.rows))

    def _finish(self) -> None:
        """Behind all sizes come the places in .bin where the rows begin; and the head has to tell their number."""
        address = 0
        for first in range(0, self.rows, BLOCK):
            self.index.seek(self.first_size + 4 * first)
            sizes = np.frombuffer(self.index.read(4 * min(BLOCK, self.rows - first)), dtype=np.int32)
            ends = address + np.cumsum(sizes, dtype=np.int64) * np.dtype(self.dtype).itemsize
            self.index.seek(0, 2)
            self.index.write(np.concatenate([[address], ends[:-1]]).astype(np.int64).tobytes())
            address = ends[-1]
        self.index.seek(0)
        self._write_head()


def binarize_text(path: Path, prefix: str, dictionary: Dictionary) -> Counter:
    """Write the lines of *path*, each with eos behind it, as PREFIX.bin and PREFIX.idx.

    Returns the numbers of `rows`, `tokens` (eos included) and, among these, `unknown`. Raises InputError if the file
    is empty or not UTF-8.
    """
    counts = Counter()
    with IndexedWriter(prefix, len(dictionary)) as writer:
        for lines in _blocks_of_lines(path):
            ids, sizes = _encode(lines, dictionary)
            writer.write(ids, sizes)
            counts["rows"] += len(sizes)
            counts["tokens"] += len(ids)
            counts["unknown"] += int(np.count_nonzero(ids == dictionary.unk()))
    if not counts:
        raise InputError(f"{path}: empty; prepare the text again, with more of it or without it")
    return counts


def _encode(lines: list[str], dictionary: Dictionary) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all lines, one after the other, and their sizes: (sum of sizes,) int64, (lines,) int64."""
    rows = [line.split() for line in lines]
    sizes = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)) + 1
    last = np.cumsum(sizes) - 1
    is_word = np.ones(last[-1] + 1, dtype=bool)
    is_word[last] = False
    ids = np.full(len(is_word), dictionary.eos())
    found = map(dictionary.indices.get, chain.from_iterable(rows), repeat(dictionary.unk()))
    ids[is_word] = np.fromiter(found, dtype=np.int64, count=len(ids) - len(rows))
    return ids, sizes


def _blocks_of_lines(path: Path) -> Iterator[list[str]]:
    done, tail = 0, b""
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            whole, end, tail = (tail + block).rpartition(b"\n")
            if end:
                yield _lines(path, done, whole + end)
                done += whole.count(b"\n") + 1
        if tail:
            yield _lines(path, done, tail)


def _lines(path: Path, done: int, block: bytes) -> list[str]:
    """The lines of *block*, before which *done* lines end, as fairseq finds them: \\r ends one, too."""
    try:
        text = block.decode()
    except UnicodeDecodeError as error:
        number = done + block.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{number}: not UTF-8 ({error.reason}); prepare the text again") from None
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n").split("\n")
