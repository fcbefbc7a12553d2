"""Held-out sets of sentence pairs: found by their names, checked whole before anything is measured."""

import re
from pathlib import Path

from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.data.text_files import LANGUAGE_IN_NAME
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import why_no_file

CODE = LANGUAGE_IN_NAME.pattern
PAIR = rf"(?:.+\.)?(?P<source>{CODE})-(?P<target>{CODE})"
PARALLEL = re.compile(PAIR + r"\.(?P<side>(?P=source)|(?P=target))(?:\.gz|\.xz)?")
TSV = re.compile(PAIR + r"(?:[.-].*)?\.tsv(?:\.gz|\.xz)?")
EXPECTED = "expected xx-yy.xx beside xx-yy.yy, or xx-yy*.tsv with columns xx and yy; plain, .gz or .xz"


def find_pair_sets(paths: list[Path]) -> list[Bitext]:
    """Sets of pairs among files and in folders, there sorted by name and without training files.

    Raises:
        InputError: a path that doesn't exist, a file whose name tells no language pair or whose other side is
            missing, a folder without sets, two sets of one language pair.
    """
    sets: dict[str, Bitext] = {}
    for path in paths:
        for file in files_in(path) if path.is_dir() else [path]:
            found = set_of(file)
            known = sets.setdefault(found.name, found)
            if known.parts != found.parts:
                raise InputError(
                    f"{file}: {known.parts[0][0]} is a set of {found.name} too; measure one at a time"
                )
    return list(sets.values())


def files_in(folder: Path) -> list[Path]:
    files = [
        path
        for path in sorted(folder.iterdir())
        if (PARALLEL.fullmatch(path.name) or TSV.fullmatch(path.name)) and "train" not in path.name.split(".")
    ]
    if not files:
        raise InputError(f"{folder}: no sets of pairs in this folder; {EXPECTED}")
    return files


def set_of(path: Path) -> Bitext:
    """The set that a TSV is, or that a parallel file is one side of."""
    if not path.is_file():
        raise InputError(f"{path}: {why_no_file(path) if path.exists() else 'no such file or folder'}")
    if match := TSV.fullmatch(path.name):
        return Bitext(match["source"], match["target"], [(path,)])
    match = PARALLEL.fullmatch(path.name)
    if match is None:
        raise InputError(f"{path}: the name tells no language pair; {EXPECTED}")
    before, after = path.name[: match.start("side")], path.name[match.end("side") :]
    files = tuple(path.with_name(f"{before}{match[side]}{after}") for side in ("source", "target"))
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file, but {path} is its translation")
    return Bitext(match["source"], match["target"], [files])


def read_pairs(
    pairs: Bitext, limit: int | None = None, columns: tuple[int, int] = (0, 1)
) -> tuple[list[str], list[str]]:
    """The first `limit` pairs of a set (None: all) as two lists of one length.

    The whole set is checked, but for WordPieces, of which only these pairs are.

    `columns` says where a TSV holds the two languages, counted from 0.

    Raises:
        InputError: no pairs or a single one, unequal line counts, an empty side, a wrong number of columns,
            text that is not UTF-8 or already split into WordPieces, a damaged archive.
    """
    first, second = pairs.parts[0][0], pairs.parts[0][-1]
    sides: tuple[list[str], list[str]] = ([], [])
    number = 0
    for number, row in enumerate(pairs.rows(columns), 1):
        if row.broken:
            raise InputError(f"{row.where}; mend or remove the line (in both files)")
        for side, text, path in zip(sides, (row.first, row.second), (first, second), strict=True):
            if not text.strip():
                raise InputError(f"{path}:{number}: an empty sentence; remove its line (in both files)")
            if limit is None or number <= limit:
                side.append(text)
    if number < 2:
        raise InputError(
            f"{first}: {'only one pair' if number else 'the file is empty'}; give two pairs or more"
        )
    for side, path in zip(sides, (first, second), strict=True):
        if sum(" ##" in text for text in side) > len(side) / 10:
            raise InputError(f"{path}: the text is already split into WordPieces (##); give the raw text")
    return sides
