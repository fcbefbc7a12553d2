"""Datasets that fairseq-preprocess wrote, opened and checked."""

import struct
from pathlib import Path

import numpy as np
from fairseq.data.indexed_dataset import MMapIndexedDataset

from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.utils.errors import InputError

BLOCK = 1 << 20  # ids read at once


def open_indexed(path: str, dictionary: WordPieceDictionary | None = None) -> MMapIndexedDataset:
    """Open PATH.bin and PATH.idx, memory-mapped; every id must be in *dictionary*, if one is given.

    Raises InputError on a missing or damaged file, and on an id that is not in *dictionary*.
    """
    if not MMapIndexedDataset.exists(path):
        raise InputError(f"{path}.bin and .idx: no such files; prepare and binarize the text again")
    try:
        dataset = MMapIndexedDataset(path)
        _check_rows(path, dataset)
    except (AssertionError, KeyError, ValueError, OSError, struct.error) as error:
        message = f"{path}.bin and .idx: damaged, or not in fairseq's mmap format ({error}); binarize again"
        raise InputError(message) from error
    if dictionary is not None:
        _check_ids(path, dataset, len(dictionary))
    return dataset


def _check_rows(path: str, dataset: MMapIndexedDataset) -> None:
    """Raise ValueError unless the rows are the bytes of .bin, end to end; else fairseq fails in mid-training."""
    sizes, starts = dataset.sizes, dataset._index._pointers  # (rows,) in tokens, (rows,) in bytes
    ends = np.cumsum(sizes, dtype=np.int64) * dataset._index.dtype().itemsize
    size = Path(f"{path}.bin").stat().st_size
    is_whole = len(sizes) and sizes.min() >= 0 and starts[0] == 0 and (starts[1:] == ends[:-1]).all()
    if not is_whole or ends[-1] != size or not np.can_cast(dataset._index.dtype, np.int64):
        raise ValueError(f"the .idx does not describe the {size:,} bytes of the .bin")


def _check_ids(path: str, dataset: MMapIndexedDataset, vocab_size: int) -> None:
    """Raise InputError if an id is not below *vocab_size*; on a GPU, the embedding would fail in an assertion."""
    done = 0
    with open(f"{path}.bin", "rb") as file:  # not through the map, whose pages would count as this process's memory
        while len(ids := np.fromfile(file, dataset._index.dtype, BLOCK)):
            if ids.min() < 0 or ids.max() >= vocab_size:
                place = int(np.argmax((ids < 0) | (ids >= vocab_size)))
                row = np.searchsorted(np.cumsum(dataset.sizes, dtype=np.int64), done + place, side="right")
                raise InputError(
                    f"{path}.bin: row {row + 1} has the id {ids[place]}, but the dictionary beside it ends at "
                    f"{vocab_size - 1}; one of the two files has changed since it was written; binarize again"
                )
            done += len(ids)
