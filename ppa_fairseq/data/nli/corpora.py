"""Binarized NLI of a data-bin folder: ``{language}/{input0,input1,label}/{split}.{bin,idx}``."""

from pathlib import Path

import numpy as np
from fairseq.data import Dictionary

from ppa_fairseq.data.bitext.corpora import open_indexed
from ppa_fairseq.data.dictionary import WordPieceDictionary, read_symbols
from ppa_fairseq.data.nli.dataset import NLICorpus
from ppa_fairseq.utils.errors import InputError

HOW_TO_PREPARE = "prepare it with scripts/prepare_xnli.sh, or `ppa prepare-xnli` and `ppa binarize`"


def find_languages(folder: str, split: str) -> list[str]:
    """The languages that *folder* holds *split* of, sorted."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; {HOW_TO_PREPARE}")
    return sorted(path.parts[-3] for path in Path(folder).glob(f"*/input0/{split}.idx"))


def load_dictionaries(folder: str, languages: list[str]) -> tuple[WordPieceDictionary, Dictionary]:
    """The WordPieces and the labels, each the same in all *languages*. Raises InputError if not, or not there."""
    words = [Path(folder, language, side, "dict.txt") for language in languages for side in ("input0", "input1")]
    labels = [Path(folder, language, "label", "dict.txt") for language in languages]
    for paths in (words, labels):
        for path in paths:
            if not path.is_file():
                raise InputError(f"{path}: no such file; {HOW_TO_PREPARE}")
            if path.read_bytes() != paths[0].read_bytes():
                raise InputError(f"{path} differs from {paths[0]}: binarize all languages with one --srcdict")
    return WordPieceDictionary.load(str(words[0])), load_labels(str(labels[0]))


def load_labels(path: str) -> Dictionary:
    """The labels of a dict.txt. Raises InputError if it is none, or has one twice."""
    read_symbols(path, path, HOW_TO_PREPARE)  # else fairseq tells what is wrong, in errors of all kinds
    try:
        return Dictionary.load(path)
    except (RuntimeError, ValueError) as error:
        message = f"{path}: a label stands twice, is one of fairseq's own symbols or has odd spaces; {HOW_TO_PREPARE}"
        raise InputError(message) from error


def load_nli(
    folder: str, split: str, languages: list[str], labels: Dictionary, words: WordPieceDictionary | None = None
) -> list[NLICorpus]:
    """Open *split* of every language, memory-mapped; their rows are translations of each other.

    Raises InputError if a file is missing or damaged, a premise has no hypothesis or no label, a label is unknown, or
    an id is not in *words* (None: nobody looks).
    """
    return [_load(Path(folder, language), split, language, labels, words) for language in languages]


def check_parallel(corpora: list[NLICorpus], folder: str, split: str) -> None:
    """Raise InputError unless all *corpora* have as many rows, with equal labels."""
    first = corpora[0]
    for other in corpora[1:]:
        if len(other.label) != len(first.label):
            difference = f"{len(other.label)} rows in {other.language}, but {len(first.label)} in {first.language}"
        elif (unlike := np.flatnonzero(other.label != first.label)).size:
            difference = f"row {unlike[0] + 1} has different labels in {other.language} and {first.language}"
        else:
            continue
        raise InputError(f"{folder}, {split}: {difference}; code-switching needs translations row by row")


def _load(
    folder: Path, split: str, language: str, labels: Dictionary, words: WordPieceDictionary | None
) -> NLICorpus:
    for part in ("input0", "input1", "label"):
        if not Path(folder, part, f"{split}.idx").is_file():
            raise InputError(f"{folder}/{part}/{split}.idx: no such file; {HOW_TO_PREPARE}")
    premise, hypothesis = (open_indexed(f"{folder}/{part}/{split}", words) for part in ("input0", "input1"))
    label = open_indexed(f"{folder}/label/{split}")
    if not len(premise) == len(hypothesis) == len(label):
        raise InputError(
            f"{folder}, {split}: {len(premise)} premises, {len(hypothesis)} hypotheses, {len(label)} labels; "
            "binarize them again"
        )
    if not len(label):
        raise InputError(f"{folder}, {split}: empty; {HOW_TO_PREPARE}")
    if (label.sizes != 2).any():
        raise InputError(f"{folder}/label/{split}: row {np.argmax(label.sizes != 2) + 1} is not one label")
    ids = np.fromfile(f"{folder}/label/{split}.bin", dtype=label._index.dtype)
    classes = ids.reshape(-1, 2)[:, 0].astype(np.int64) - labels.nspecial  # (rows,), without the end of each row
    if (unknown := np.flatnonzero((classes < 0) | (classes >= len(labels) - labels.nspecial))).size:
        raise InputError(
            f"{folder}/label/{split}: row {unknown[0] + 1} is none of the labels in {folder}/label/dict.txt; "
            "binarize it with the labels.txt of `ppa prepare-xnli` as --srcdict"
        )
    for side, rows in (("premise", premise), ("hypothesis", hypothesis)):
        if (rows.sizes < 2).any():
            raise InputError(f"{folder}, {split}: the {side} of row {np.argmax(rows.sizes < 2) + 1} is empty")
    return NLICorpus(language, premise, hypothesis, classes)
