"""Open binarized NLI in a data-bin folder: ``{language}/{input0,input1,label}/{split}.{bin,idx}``."""

from pathlib import Path

import numpy as np
from fairseq.data import Dictionary

from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.indexed import open_indexed
from ppa_fairseq.data.nli.dataset import NLICorpus
from ppa_fairseq.data.nli.prepare import FIELDS
from ppa_fairseq.utils.errors import InputError

HOW_TO_PREPARE = "prepare it with scripts/prepare_xnli.sh, or `ppa prepare-xnli` and `ppa binarize`"


def find_languages(folder: str, split: str) -> list[str]:
    """Return the languages in which *folder* has *split*, sorted."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; {HOW_TO_PREPARE}")
    return sorted(path.parts[-3] for path in Path(folder).glob(f"*/input0/{split}.idx"))


def load_dictionaries(folder: str, languages: list[str]) -> tuple[WordPieceDictionary, Dictionary]:
    """Return the dictionary and the labels of all *languages*. Raises InputError if they differ or are missing."""
    words = [Path(folder, language, side, "dict.txt") for language in languages for side in ("input0", "input1")]
    labels = [Path(folder, language, "label", "dict.txt") for language in languages]
    for paths in (words, labels):
        for path in paths:
            if not path.is_file():
                raise InputError(f"{path}: no such file; {HOW_TO_PREPARE}")
            if path.read_bytes() != paths[0].read_bytes():
                raise InputError(f"{path} differs from {paths[0]}: binarize all languages with one --srcdict")
    return WordPieceDictionary.load(str(words[0])), Dictionary.load(str(labels[0]))


def load_nli(
    folder: str, split: str, languages: list[str], labels: Dictionary, words: WordPieceDictionary
) -> list[NLICorpus]:
    """Open *split* of every language, memory-mapped.

    Raises InputError if a file is missing or damaged, a premise has no hypothesis or no label, or an id is unknown.
    """
    return [_load(Path(folder, language), split, labels, words) for language in languages]


def check_parallel(corpora: list[NLICorpus], folder: str, split: str) -> None:
    """Raise InputError unless all *corpora* have equally many rows, with equal labels."""
    first = corpora[0]
    for other in corpora[1:]:
        if not np.array_equal(other.label, first.label):
            raise InputError(
                f"{folder}, {split}: {len(other.label)} rows in {other.language}, but {len(first.label)} in "
                f"{first.language}, or other labels; code-switching needs translations row by row"
            )


def _load(folder: Path, split: str, labels: Dictionary, words: WordPieceDictionary) -> NLICorpus:
    premise, hypothesis = (open_indexed(f"{folder}/{part}/{split}", words) for part in FIELDS[:2])
    label = open_indexed(f"{folder}/label/{split}")
    if not len(premise) == len(hypothesis) == len(label):
        counts = f"{len(premise)} premises, {len(hypothesis)} hypotheses, {len(label)} labels"
        raise InputError(f"{folder}, {split}: {counts}; binarize them again")
    if (label.sizes != 2).any():
        raise InputError(f"{folder}/label/{split}: row {np.argmax(label.sizes != 2) + 1} is not one label")
    ids = np.fromfile(f"{folder}/label/{split}.bin", dtype=label._index.dtype)
    classes = ids.reshape(-1, 2)[:, 0].astype(np.int64) - labels.nspecial  # (rows,), without the end of each row
    if (unknown := (classes < 0) | (classes >= len(labels) - labels.nspecial)).any():
        raise InputError(
            f"{folder}/label/{split}: the label of row {np.argmax(unknown) + 1} is not in {folder}/label/dict.txt; "
            "binarize it with the labels.txt of `ppa prepare-xnli` as --srcdict"
        )
    return NLICorpus(folder.name, premise, hypothesis, classes)
