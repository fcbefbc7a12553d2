"""Held-out sets of sentence pairs: find them by name, and check them before anything is measured."""

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from ppa_fairseq.data.bitext.checks import FEW, UNRELATED, length_correlation
from ppa_fairseq.data.bitext.find_files import find_bitexts
from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.data.text_files import AS_CSV, seems_csv, unquote
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)

Sides = tuple[list[str], list[str]]  # as many sentences as translations


def find_pair_sets(paths: list[Path]) -> list[Bitext]:
    """Sets of pairs among files and folders. Those in a folder come sorted by name, without training files.

    Raises InputError if a path does not exist or has no set, a file lacks its translation, or two sets have the same
    language pair.
    """
    sets: dict[str, Bitext] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        bitexts, passed_over = find_bitexts(path, left_out={"train"} if path.is_dir() else set())
        for line in passed_over:
            logger.warning(f"not taken: {line}")
        for found in bitexts:
            known = sets.setdefault(found.name, found)
            if len(parts := dict.fromkeys(known.parts + found.parts)) > 1:
                (one, *_), (other, *_) = list(parts)[:2]
                raise InputError(f"{other}: {one} is a set of {found.name}, too; measure one at a time")
    return list(sets.values())


def read_pairs(
    pairs: Bitext, limit: int | None = None, columns: tuple[int, int] = (0, 1), csv_quotes: bool = False
) -> Sides:
    """The first `limit` pairs of a set (None: all). The whole set is checked.

    `columns` are the columns of the two languages in a TSV, counted from 0; with `csv_quotes` it is unquoted, else a
    warning says where a CSV writer's quotes are kept.

    Raises:
        InputError: fewer than two pairs, unequal line counts, an empty side, a wrong number of columns, a damaged
            archive, text that is not UTF-8.
    """
    (files,) = pairs.parts
    sides: Sides = ([], [])
    for number, row in enumerate(pairs.rows(columns), 1):
        if row.broken:
            raise InputError(f"{row.where}; correct or remove the line (in both files)")
        for side, text, path in zip(sides, (row.first, row.second), (files[0], files[-1]), strict=True):
            if not text.strip():
                raise InputError(f"{path}:{number}: an empty sentence; remove its line (in both files)")
            side.append(text)
    if len(files) == 1 and csv_quotes:
        sides = list(map(unquote, sides[0])), list(map(unquote, sides[1]))
    elif len(files) == 1 and seems_csv(chain(*sides)):
        logger.warning(f"{files[0]}: {AS_CSV}")
    if len(sides[0]) < 2:
        raise InputError(f"{files[0]}: fewer than two pairs; give two or more")
    return sides[0][:limit], sides[1][:limit]


def text_numbers(sentences: Iterable[str]) -> np.ndarray:
    """A number for each different text, (N,); white space and the Unicode form (NFC) make no difference."""
    known: dict[str, int] = {}
    texts = (unicodedata.normalize("NFC", " ".join(sentence.split())) for sentence in sentences)
    return np.array([known.setdefault(text, len(known)) for text in texts])


def order_warning(pairs: Bitext, sides: Sides, found: Sequence[float]) -> str | None:
    """Why the lines of the two sides probably do not belong together, if so.

    The reasons are the lengths of the sides, and `found`, accuracies of retrieval on them in percent, the best of which
    is what chance gives. A side that was sorted alone gives both.
    """
    count, correlation = len(sides[0]), length_correlation(*sides)
    if count < FEW or correlation >= UNRELATED or max(found) > max(2, 500 / count):
        return None
    return (
        f"{pairs.name}: retrieval is at chance, and the lengths of the two sides correlate by only {correlation:.2f}; "
        "check that line N of one side translates line N of the other, and that no side was sorted alone (XTREME's "
        "scripts sort the English side of Tatoeba; use its original files)"
    )
