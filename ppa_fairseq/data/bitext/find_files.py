"""Parallel text in a folder, under the names that OPUS, WMT and sentence-transformers give their files."""

import re
from collections.abc import Set
from pathlib import Path

from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.data.text_files import LANGUAGE_IN_NAME, PACKED_OTHERWISE, UNPACKERS, LineReader
from ppa_fairseq.utils.errors import InputError

CODE = LANGUAGE_IN_NAME.pattern
REGION = re.compile(r"(?<![A-Za-z0-9_])(zh|pt)-(cn|tw|br)(?![A-Za-z0-9_])")  # of sentence-transformers
PAIR = re.compile(rf"(?<![A-Za-z0-9_])(?=({CODE})-({CODE})(?![A-Za-z0-9_]))")  # also where two pairs overlap
HELD_OUT = {"dev", "devtest", "test", "valid", "validation", "eval"}
EXPECTED = "de-en.tsv, NAME-de-en.txt with tabs, or NAME.de-en.de with NAME.de-en.en; plain, .gz or .xz"


class _NotTaken(Exception):
    """Why a file is not taken."""


def find_bitexts(folder: Path, left_out: Set[str] = HELD_OUT) -> tuple[list[Bitext], list[str]]:
    """The language pairs in *folder*, sorted by name, and a line for each file that is not taken, with the reason.

    *folder* may also be one file. A file with one of the words *left_out* in its name is not taken. A TSV holds first
    the language that stands first in its name. Raises InputError if a file has no translation beside it, or nothing is
    found.
    """
    found: dict[frozenset, Bitext] = {}
    passed_over = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
        try:
            languages, part = _languages_and_files(path, left_out)
        except _NotTaken as reason:
            passed_over.append(f"{path}: {reason}")
            continue
        bitext = found.setdefault(frozenset(languages), Bitext(*languages, []))
        if bitext.first_lang != languages[0]:
            part = part[::-1]
            bitext.swapped.update(part)  # counts for a TSV alone
        if part not in bitext.parts:  # each of two files leads to it
            bitext.parts.append(part)
    if not found:
        listed = f" (not taken: {'; '.join(passed_over)})" if passed_over else ""
        raise InputError(f"{folder}: no parallel text found; expected files named like {EXPECTED}{listed}")
    return sorted(found.values(), key=lambda bitext: bitext.name), passed_over


def _languages_and_files(path: Path, left_out: Set[str]) -> tuple[list[str], tuple[Path, ...]]:
    """The languages in a file's name, and the file or it with its translation."""
    unpacked = path.with_suffix("") if path.suffix in UNPACKERS else path
    stem, ending = unpacked.stem, unpacked.suffix[1:]
    is_table = ending in ("tsv", "txt")
    pairs = [pair for pair in _pairs_in_name(stem) if is_table or ending in pair]
    held_out = left_out & set(re.split(r"\W|_", stem))
    if unpacked.suffix in PACKED_OTHERWISE:
        raise _NotTaken(f"cannot read {unpacked.suffix}; unpack it")
    if path.is_dir() or not pairs:
        raise _NotTaken(f"not a file named like {EXPECTED}")
    if held_out:
        raise _NotTaken(f"its name says {held_out.pop()}; to take it, name the file itself instead of its folder")
    if len(pairs) > 1:
        names = ", ".join(map("-".join, pairs))
        raise _NotTaken(f"its name fits several language pairs ({names}); rename it, as to de-en.tsv")
    files = (path,) if is_table else tuple(_side(path, stem, language) for language in pairs[0])
    if ending == "txt" and b"\t" not in next(iter(LineReader(path)), b""):
        raise _NotTaken("no tab in its first line")
    return [language.replace("-", "_") for language in pairs[0]], files


def _side(path: Path, stem: str, language: str) -> Path:
    """The file of *language* that belongs to *path*: plain or packed, itself or its translation."""
    sides = [path.with_name(f"{stem}.{language}{packed}") for packed in ("", *UNPACKERS)]
    for side in [path] * (path in sides) + sides:
        if side.is_file():
            return side
    advice = "add its translation, plain, .gz or .xz, or move the file away"
    raise InputError(f"{path}: no {sides[0].name} beside it; {advice}")


def _pairs_in_name(stem: str) -> list[tuple[str, str]]:
    """Pairs of different codes in a name; only those of two letters (or a region) where there are any."""
    joined = REGION.sub(r"\1_\2", stem)  # zh-cn is no pair where there is another
    pairs = [match.groups() for match in PAIR.finditer(joined) if match[1] != match[2]]
    pairs = pairs or [match.groups() for match in PAIR.finditer(stem) if match[1] != match[2]]
    short = [pair for pair in pairs if all(len(re.split("[-_]", code)[0]) == 2 for code in pair)]
    return list(dict.fromkeys(short or pairs))
