"""The binarized language pairs of a data-bin folder."""

import re
import struct
from pathlib import Path

import numpy as np
from fairseq.data import indexed_dataset

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer
from ppa_fairseq.data.bitext.dataset import ParallelCorpus
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.utils.errors import InputError

HEADER = struct.Struct("<9sQBQ")  # of a .idx: magic, version, code of the type of ids, rows
BLOCK = 1 << 20  # ids read at once
HOW_TO_BINARIZE = "binarize with `ppa binarize` or `fairseq-preprocess --user-dir ppa_fairseq --task ppa_alignment`"


def find_pairs(folder: str, split: str) -> list[str]:
    """Names of the language pairs that *folder* holds for *split*, sorted: ``["ar-en", "de-en", …]``."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; {HOW_TO_BINARIZE}")
    pattern = re.compile(re.escape(split) + r"\.([^.-]+-[^.-]+)\.[^.]+\.idx")
    return sorted({m[1] for m in map(pattern.fullmatch, (p.name for p in Path(folder).iterdir())) if m})


def load_corpora(
    folder: str, split: str, pairs: list[str], all_needed: bool, dictionary: WordPieceDictionary | None = None
) -> list[ParallelCorpus]:
    """Open ``{split}.{src}-{tgt}.{lang}`` of each of *pairs* (unless *all_needed*, of those there), memory-mapped.

    Raises:
        InputError: a file is missing or damaged, the two sides differ in length, nothing is in them, or an id is not
            in *dictionary* (None: nobody looks).
    """
    corpora, present = [], find_pairs(folder, split)
    for number, pair in enumerate(pairs):
        if not all_needed and pair not in present:
            continue
        source_lang, target_lang = pair.split("-")
        prefix = f"{folder}/{split}.{pair}."
        source, target = (open_indexed(prefix + lang, dictionary) for lang in (source_lang, target_lang))
        if len(source) != len(target):
            raise InputError(
                f"{prefix}{source_lang} has {len(source)} sentences but {prefix}{target_lang} has {len(target)}: "
                "they must be translations line by line; binarize the pair again"
            )
        if len(source):
            corpora.append(ParallelCorpus(number, source_lang, target_lang, source, target))
    if not corpora:
        raise InputError(f"{folder}: the {split} split of {', '.join(pairs)} is empty or not there; {HOW_TO_BINARIZE}")
    return corpora


def open_indexed(path: str, dictionary: WordPieceDictionary | None = None) -> indexed_dataset.MMapIndexedDataset:
    """An indexed dataset, memory-mapped. Raises InputError if it is missing, damaged, or not of *dictionary*."""
    if not indexed_dataset.MMapIndexedDataset.exists(path):
        raise InputError(f"{path}.bin and .idx: no such files; {HOW_TO_BINARIZE}")
    try:
        _check_index(path)
        dataset = indexed_dataset.MMapIndexedDataset(path)
    except (AssertionError, KeyError, ValueError, OSError, struct.error) as error:
        message = f"{path}.bin and .idx: damaged, or not in fairseq's mmap format ({error}); binarize again"
        raise InputError(message) from error
    if dictionary is not None:
        _check_ids(path, dataset, len(dictionary))
    return dataset


def _check_ids(path: str, dataset: indexed_dataset.MMapIndexedDataset, vocab_size: int) -> None:
    """Raise InputError if an id is not below *vocab_size*: on a GPU the embeddings would end in an assertion there."""
    done = 0
    with open(f"{path}.bin", "rb") as file:  # not by the map: its pages would count as this process's memory
        while len(ids := np.fromfile(file, dataset._index.dtype, BLOCK)):
            if ids.min() < 0 or ids.max() >= vocab_size:
                place = int(np.argmax((ids < 0) | (ids >= vocab_size)))
                row = np.searchsorted(np.cumsum(dataset.sizes, dtype=np.int64), done + place, side="right")
                raise InputError(
                    f"{path}.bin: row {row + 1} has the id {ids[place]}, but the dictionary beside it ends at "
                    f"{vocab_size - 1}: the one or the other is not what it was; binarize again"
                )
            done += len(ids)


def _check_index(path: str) -> None:
    """Raise ValueError unless the rows of .idx are .bin, end to end: fairseq would find out in the middle of training.

    Files that it cannot open at all leave a half-made object, which prints a traceback when it goes.
    """
    index, size = Path(f"{path}.idx"), Path(f"{path}.bin").stat().st_size
    with open(index, "rb") as file:
        header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        raise ValueError("the .idx is too short")
    magic, version, code, rows = HEADER.unpack(header)
    if magic != indexed_dataset.MMapIndexedDataset.Index._HDR_MAGIC or version != 1:
        raise ValueError("the .idx is none")
    dtype = np.dtype(indexed_dataset._code_to_dtype.get(code, float))
    if not np.can_cast(dtype, np.int64):
        raise ValueError("the rows of the .idx are no ids")
    if index.stat().st_size != HEADER.size + rows * (4 + 8):
        raise ValueError(f"the .idx has another length than that of {rows:,} rows")
    sizes = np.fromfile(index, np.int32, rows, offset=HEADER.size)
    starts = np.fromfile(index, np.int64, rows, offset=HEADER.size + sizes.nbytes)
    ends = np.cumsum(sizes, dtype=np.int64) * dtype.itemsize
    whole = rows and size and starts[0] == 0 and ends[-1] == size and (starts[1:] == ends[:-1]).all()
    if not whole or (sizes < 0).any():
        raise ValueError(f"its {rows:,} rows are not the {size:,} bytes of the .bin")


def load_dictionary(folder: str, pairs: list[str]) -> WordPieceDictionary:
    """The one dictionary of all *pairs*.

    Raises:
        InputError: a dict file is missing, or two languages were binarized with different ones.
    """
    languages = sorted({language for pair in pairs for language in pair.split("-")})
    paths = [Path(folder) / f"dict.{language}.txt" for language in languages]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file; {HOW_TO_BINARIZE}")
        if path.read_bytes() != paths[0].read_bytes():
            raise InputError(f"{path} differs from {paths[0]}: binarize all languages with one --srcdict")
    return WordPieceDictionary.load(str(paths[0]))


def check_vocabulary(dictionary: WordPieceDictionary, tokenizer: dict[str, str], source: str) -> None:
    """Raise InputError unless the data was made by the tokenizer of these files, as far as the data folder knows."""
    model = ModelTokenizer(tokenizer, source)
    theirs = model.symbols
    if len(theirs) != len(dictionary):
        difference = f"has {len(theirs):,} tokens, but the data {len(dictionary):,}"
    elif theirs != dictionary.symbols:
        place = next(i for i, pair in enumerate(zip(theirs, dictionary.symbols, strict=True)) if pair[0] != pair[1])
        difference = f"has {theirs[place]!r} at id {place}, but the data {dictionary.symbols[place]!r}"
    elif dictionary.tokenizer and (parts := dictionary.tokenizer.difference(model)):
        difference = f"has another tokenizer than the data, with the same tokens; they differ in: {parts}"
    else:
        return
    raise InputError(f"{source} {difference}; prepare and binarize the data with the same import")
