"""Held-out sets of sentence pairs: find them by name, and check them before anything is measured."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.data.text_files import LANGUAGE_IN_NAME
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import why_no_file

CODE = LANGUAGE_IN_NAME.pattern
PAIR = rf"(?:.+\.)?(?P<source>{CODE})-(?P<target>{CODE})"
PARALLEL = re.compile(PAIR + r"\.(?P<side>(?P=source)|(?P=target))(?:\.gz|\.xz)?")
TSV = re.compile(PAIR + r"(?:[.-].*)?\.tsv(?:\.gz|\.xz)?")
EXPECTED = "expected xx-yy.xx and xx-yy.yy, or xx-yy*.tsv with columns xx and yy; plain, .gz or .xz"

Sides = tuple[list[str], list[str]]  # as many sentences as translations
FEW = 20  # pairs; the order of fewer cannot be judged
UNRELATED = 0.2  # correlation of the lengths of two sides; translations have 0.6 or more
NOT_WORD = re.compile(r"[\W_]+")


def find_pair_sets(paths: list[Path]) -> list[Bitext]:
    """Sets of pairs among `paths`. Those in a folder come sorted by name, without training files.

    Raises:
        InputError: a path does not exist, a file's name has no language pair or its other side is missing, a folder has
            no sets, two sets have the same language pair.
    """
    sets: dict[str, Bitext] = {}
    for path in paths:
        for file in files_in(path) if path.is_dir() else [path]:
            found = set_of(file)
            known = sets.setdefault(found.name, found)
            if known.parts != found.parts:
                raise InputError(f"{file}: {known.parts[0][0]} is a set of {found.name}, too; measure one at a time")
    return list(sets.values())


def files_in(folder: Path) -> list[Path]:
    files = [path for path in sorted(folder.iterdir()) if "train" not in path.name.split(".")]
    files = [path for path in files if PARALLEL.fullmatch(path.name) or TSV.fullmatch(path.name)]
    if not files:
        raise InputError(f"{folder}: no sets of pairs in this folder; {EXPECTED}")
    return files


def set_of(path: Path) -> Bitext:
    """The set in a TSV, or in a parallel file and its other side."""
    if not path.is_file():
        raise InputError(f"{path}: {why_no_file(path) if path.exists() else 'no such file or folder'}")
    if match := TSV.fullmatch(path.name):
        return Bitext(match["source"], match["target"], [(path,)])
    match = PARALLEL.fullmatch(path.name)
    if match is None:
        raise InputError(f"{path}: no language pair in the file's name; {EXPECTED}")
    before, after = path.name[: match.start("side")], path.name[match.end("side") :]
    files = tuple(path.with_name(f"{before}{match[side]}{after}") for side in ("source", "target"))
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file, but {path} needs its translations")
    return Bitext(match["source"], match["target"], [files])


def read_pairs(pairs: Bitext, limit: int | None = None, columns: tuple[int, int] = (0, 1)) -> Sides:
    """The first `limit` pairs of a set (None: all). The whole set is checked.

    `columns` are the columns of the two languages in a TSV, counted from 0.

    Raises:
        InputError: fewer than two pairs, unequal line counts, an empty side, a wrong number of columns, a damaged
            archive, text that is not UTF-8 or already split into WordPieces.
    """
    first, second = pairs.parts[0][0], pairs.parts[0][-1]
    sides: Sides = ([], [])
    number = 0
    for number, row in enumerate(pairs.rows(columns), 1):
        if row.broken:
            raise InputError(f"{row.where}; correct or remove the line (in both files)")
        for side, text, path in zip(sides, (row.first, row.second), (first, second), strict=True):
            if not text.strip():
                raise InputError(f"{path}:{number}: an empty sentence; remove its line (in both files)")
            if limit is None or number <= limit:
                side.append(text)
    if number < 2:
        raise InputError(f"{first}: {'only one pair' if number else 'the file is empty'}; give two pairs or more")
    for side, path in zip(sides, (first, second), strict=True):
        if sum(" ##" in text for text in side) > len(side) / 10:
            raise InputError(f"{path}: the text is already split into WordPieces (##); give the raw text")
    return sides


def text_numbers(sentences: Iterable[str]) -> np.ndarray:
    """A number for each different text, (N,); white space and the Unicode form (NFC) make no difference."""
    known: dict[str, int] = {}
    texts = (unicodedata.normalize("NFC", " ".join(sentence.split())) for sentence in sentences)
    return np.array([known.setdefault(text, len(known)) for text in texts])


def length_correlation(sides: Sides) -> float:
    """The correlation of the lengths of both sides in characters; NaN if all of a side have the same length."""
    lengths = np.array([list(map(len, side)) for side in sides], dtype=float)  # (2, N)
    return float(np.corrcoef(lengths)[0, 1]) if lengths.std(axis=1).all() else float("nan")


def order_warning(pairs: Bitext, sides: Sides, found: Sequence[float] | None = None) -> str | None:
    """Why the lines of the two sides probably do not belong together, if so.

    One side is sorted and the other is not, or even the best of the accuracies `found` on them, in percent, is what
    chance gives. Either is a reason only if the lengths do not correlate.
    """
    count, correlation = len(sides[0]), length_correlation(sides)
    if count < FEW or correlation >= UNRELATED:
        return None
    languages = pairs.first_lang, pairs.second_lang
    is_sorted = [ascends(side) for side in sides]
    advice = "check that line N of one side translates line N of the other"
    if is_sorted[0] != is_sorted[1]:
        one, other = languages if is_sorted[0] else languages[::-1]
        return (
            f"{pairs.name}: the {one} side is sorted and the {other} side is not, and their lengths do not correlate; "
            f"{advice} (XTREME's scripts sort the English side of Tatoeba; use its original files)"
        )
    if found and correlation < UNRELATED and max(found) <= max(2.0, 500 / count):
        return f"{pairs.name}: retrieval is at chance and the lengths of the two sides do not correlate; {advice}"
    return None


def ascends(sentences: Sequence[str]) -> bool:
    """Whether nearly all `sentences` ascend, by code points or as a locale sorts: without case and punctuation."""
    for key in (str, lambda text: NOT_WORD.sub("", text).casefold()):
        keys = list(map(key, sentences))
        steps = [one < other for one, other in zip(keys, keys[1:], strict=False) if one != other]
        if len(steps) >= FEW - 1 and np.mean(steps) > 0.95:
            return True
    return False
