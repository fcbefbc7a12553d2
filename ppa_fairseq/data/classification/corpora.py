"""Open binarized examples in a data-bin folder: ``{language}/{input0,input1,label}/{split}.{bin,idx}``.

input1 is there for pairs of sentences. Words with tags lie in the same form (`data/tagging/dataset.py`).
"""

from pathlib import Path

import numpy as np
from fairseq.data import Dictionary

from ppa_fairseq.data.classification.dataset import ClassificationCorpus
from ppa_fairseq.data.classification.prepare import FIELDS, SPACE
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.indexed import open_indexed
from ppa_fairseq.utils.errors import InputError

HOW_TO_PREPARE = (
    "prepare it with scripts/prepare_xnli.sh, or `ppa prepare-xnli` (prepare-classification, prepare-tagging) and "
    "`ppa binarize`"
)
COUNTED = {1: ("sentences", "labels"), 2: ("premises", "hypotheses", "labels")}


def find_languages(folder: str, split: str) -> list[str]:
    """Return the languages in which *folder* has *split*, sorted."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; {HOW_TO_PREPARE}")
    return sorted(path.parts[-3] for path in Path(folder).glob(f"*/input0/{split}.idx"))


def find_fields(folder: str) -> tuple[str, ...]:
    """Return the fields of an example: with the second sentence, if any language has one."""
    return tuple(field for field in FIELDS if field != FIELDS[1] or any(Path(folder).glob(f"*/{field}")))


def load_dictionaries(
    folder: str, languages: list[str], fields: tuple[str, ...]
) -> tuple[WordPieceDictionary, Dictionary]:
    """Return the dictionary and the labels of all *languages*. Raises InputError if they differ or are missing."""
    words = [Path(folder, language, side, "dict.txt") for language in languages for side in fields[:-1]]
    labels = [Path(folder, language, "label", "dict.txt") for language in languages]
    for paths in (words, labels):
        for path in paths:
            if not path.is_file():
                raise InputError(f"{path}: no such file; {HOW_TO_PREPARE}")
            if path.read_bytes() != paths[0].read_bytes():
                raise InputError(f"{path} differs from {paths[0]}: binarize all languages with one --srcdict")
    return WordPieceDictionary.load(str(words[0])), Dictionary.load(str(labels[0]))


def label_names(labels: Dictionary) -> list[str]:
    """The names of the classes, as the data has them."""
    return [name.replace(SPACE, " ") for name in labels.symbols[labels.nspecial :]]


def load_classification(
    folder: str, split: str, languages: list[str], fields: tuple[str, ...], labels: Dictionary, words
) -> list[ClassificationCorpus]:
    """Open *split* of every language, memory-mapped; *words* is the dictionary.

    Raises InputError if a file is missing or damaged, a sentence has no label or no partner, or an id is unknown.
    """
    return [_load(Path(folder, language), split, fields, labels, words) for language in languages]


def check_parallel(corpora: list[ClassificationCorpus], folder: str, split: str) -> None:
    """Raise InputError unless all *corpora* have equally many rows, with equal labels."""
    first = corpora[0]
    for other in corpora[1:]:
        if not np.array_equal(other.label, first.label):
            raise InputError(
                f"{folder}, {split}: {len(other.label)} rows in {other.language}, but {len(first.label)} in "
                f"{first.language}, or other labels; code-switching needs translations row by row"
            )


def _load(folder: Path, split: str, fields: tuple[str, ...], labels: Dictionary, words) -> ClassificationCorpus:
    sentences = tuple(open_indexed(f"{folder}/{field}/{split}", words) for field in fields[:-1])
    label = open_indexed(f"{folder}/label/{split}")
    if len({len(part) for part in (*sentences, label)}) > 1:
        parts = zip((*sentences, label), COUNTED[len(sentences)], strict=True)
        raise InputError(
            f"{folder}, {split}: {', '.join(f'{len(part)} {name}' for part, name in parts)}; binarize them again"
        )
    if (label.sizes != 2).any():
        raise InputError(f"{folder}/label/{split}: row {np.argmax(label.sizes != 2) + 1} is not one label")
    classes = label_ids(folder, split, label, labels).reshape(-1, 2)[:, 0]  # (rows,), without the end of each row
    return ClassificationCorpus(folder.name, sentences, classes)


def label_ids(folder: Path, split: str, label, labels: Dictionary) -> np.ndarray:
    """Return the class numbers of all rows one after another; a row's end is negative.

    Raises InputError if one is not in *labels*.
    """
    ids = np.fromfile(f"{folder}/label/{split}.bin", dtype=label._index.dtype).astype(np.int64)
    if (unknown := (ids != labels.eos()) & ((ids < labels.nspecial) | (ids >= len(labels)))).any():
        row = np.searchsorted(np.cumsum(label.sizes), np.argmax(unknown), side="right") + 1
        raise InputError(
            f"{folder}/label/{split}: the label of row {row} is not in {folder}/label/dict.txt; "
            "binarize it with the labels.txt of the prepared text as --srcdict"
        )
    return ids - labels.nspecial
