"""Datasets that fairseq-preprocess wrote, opened and checked."""

import struct
from pathlib import Path

import numpy as np
from fairseq.data.indexed_dataset import MMapIndexedDataset

from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.utils.errors import InputError

BLOCK = 1 << 20  # ids read at once
HEADER = struct.Struct("<9sQBQ")  # of the .idx: magic bytes, version, type of the ids, rows


def open_indexed(path: str, dictionary: WordPieceDictionary | None = None) -> MMapIndexedDataset:
    """Open PATH.bin and PATH.idx, memory-mapped; every id must be in *dictionary*, if one is given.

    Raises InputError on a missing or damaged file, and on an id that is not in *dictionary*.
    """
    if not MMapIndexedDataset.exists(path):
        raise InputError(f"{path}.bin and .idx: no such files; prepare and binarize the text again")
    index, ids = Path(f"{path}.idx"), Path(f"{path}.bin")
    try:
        # Half-built objects of fairseq print tracebacks when they are freed, so look before they are built.
        with index.open("rb") as file:
            *_, rows = HEADER.unpack(file.read(HEADER.size))
        if index.stat().st_size != HEADER.size + 12 * rows or not ids.stat().st_size:
            raise ValueError("the .idx is truncated, or the .bin is empty")
        dataset = MMapIndexedDataset(path)
        sizes, starts = dataset.sizes, dataset._index._pointers  # (rows,) in tokens, (rows,) in bytes
        ends = np.cumsum(sizes, dtype=np.int64) * dataset._index.dtype().itemsize
        # The rows must be the bytes of .bin, end to end; else fairseq fails in mid-training.
        whole = sizes.min() >= 0 and starts[0] == 0 and (starts[1:] == ends[:-1]).all()
        if not whole or ends[-1] != ids.stat().st_size:
            raise ValueError("the .idx does not describe the bytes of the .bin")
    except (AssertionError, KeyError, ValueError, OSError, struct.error) as error:
        message = f"{path}.bin and .idx: damaged, or not in fairseq's mmap format ({error}); binarize again"
        raise InputError(message) from error
    if dictionary is not None:
        with ids.open("rb") as file:  # not through the map, whose pages would count as this process's memory
            while len(block := np.fromfile(file, dataset._index.dtype, BLOCK)):
                if block.min() < 0 or block.max() >= len(dictionary):  # on a GPU, the embedding would fail an assertion
                    raise InputError(
                        f"{path}.bin: has ids up to {block.max()}, but the dictionary beside it ends at "
                        f"{len(dictionary) - 1}; one of the two files has changed; binarize again"
                    )
    return dataset
