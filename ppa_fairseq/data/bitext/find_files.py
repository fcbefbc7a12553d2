"""Parallel text on the disk, under the names that OPUS, WMT, NLLB and sentence-transformers give their files."""

import re
from collections.abc import Iterator, Set
from pathlib import Path, PurePosixPath

from ppa_fairseq.data.bitext.named_columns import is_dataset
from ppa_fairseq.data.bitext.reader import ONE_FILE, Bitext
from ppa_fairseq.data.bitext.tmx import tmx_languages
from ppa_fairseq.data.packed import PACKED_OTHERWISE, PACKINGS, UNPACKERS, File, ZipMember, members_of, unpacked_name
from ppa_fairseq.data.text_files import LANGUAGE, LANGUAGE_IN_NAME, LineReader
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import why_no_file

CODE = LANGUAGE_IN_NAME.pattern
REGION = re.compile(r"(?<![A-Za-z0-9_])(zh|pt)-(cn|tw|br)(?![A-Za-z0-9_])")  # of sentence-transformers
FETCHED = re.compile(r"_(?:moses|tmx)_")  # Books_latest_moses_de-en.txt.zip, as OpusTools names a download
PAIR = re.compile(rf"(?<![A-Za-z0-9_])(?=({CODE})-({CODE})(?![A-Za-z0-9_]))")  # also where two pairs overlap
HELD_OUT = {"dev", "devtest", "test", "valid", "validation", "eval"}
TABLES = (".tsv", ".txt", "")  # the last: eng_Latn-deu_Latn.gz of NLLB
EXPECTED = (
    "de-en.tsv, .tmx, .jsonl, .parquet or .zip, NAME-de-en.txt with tabs, or NAME.de-en.de with NAME.de-en.en; "
    f"{PACKINGS}"
)


class _NotTaken(Exception):
    """Why a file is not taken."""


def find_bitexts(folder: Path, left_out: Set[str] = HELD_OUT) -> tuple[list[Bitext], list[str]]:
    """The language pairs in *folder*, sorted by name, and a line for each file that is not taken, with the reason.

    *folder* may also be one file. A .zip counts as a folder, and so does a folder whose name is a pair: there, and in a
    .zip of such a name, a file of both languages needs no pair in its own. A file with one of the words *left_out* in
    its name is not taken. A TSV holds first the language that stands first in its name. Raises InputError if a file has
    no translation beside it, an archive is damaged, or nothing is found.
    """
    found: dict[frozenset, Bitext] = {}
    passed_over = []
    for path in sorted(folder.iterdir()) if folder.is_dir() and not is_dataset(folder) else [folder]:
        reasons = []
        for file, pair in _files_in(path):
            try:
                languages, part = _languages_and_files(file, left_out, pair)
            except _NotTaken as reason:
                reasons.append(f"{file}: {reason}")
                continue
            _add(found.setdefault(frozenset(languages), Bitext(*languages, [])), languages, part)
        if not any(_is_in(file, path) for bitext in found.values() for part in bitext.parts for file in part):
            passed_over += reasons  # else what else is in a .zip: a licence, sentence ids
    if not found:
        listed = f" (not taken: {'; '.join(passed_over)})" if passed_over else ""
        raise InputError(f"{folder}: no parallel text found; expected files named like {EXPECTED}{listed}")
    return sorted(found.values(), key=lambda bitext: bitext.name), passed_over


def parse_bitext(text: str) -> Bitext:
    """Read `de-en=a.tsv.xz,b.de,b.en,c.zip,folder`: a file of both languages stands alone, any other is followed by
    its translation; a folder is a data set.

    Raises InputError on a bad pair name, and on a file that is missing, packed otherwise or without its translation.
    """
    languages, names = parse_pair(text)
    pair = "-".join(languages)
    bitext = Bitext(*languages, [])
    waiting: list[Path] = []  # a file whose translation comes next
    for path in map(Path, names):
        kind = "folder" if path.is_dir() else ".zip" if path.suffix == ".zip" else unpacked_name(path).suffix
        if not path.is_file() and kind != "folder":
            raise InputError(f"{path}: {why_no_file(path)}; {pair} needs a text file")
        if waiting and (kind in ("folder", ".zip") or kind in ONE_FILE):
            break
        if kind == ".zip":
            _add_zip(bitext, path)
        elif kind == "folder" or kind in ONE_FILE:
            bitext.parts.append((path,))
        elif waiting:
            bitext.parts.append((waiting.pop(), path))
        else:
            waiting.append(path)
    if waiting:
        raise InputError(
            f"{waiting[0]}: {pair} lacks its translation; a file of both languages must end in {', '.join(ONE_FILE)}"
        )
    return bitext


def parse_pair(text: str) -> tuple[list[str], list[str]]:
    """The languages and the files of `de-en=FILE,FILE`. Raises InputError on a bad pair name."""
    pair, _, names = text.partition("=")
    languages = pair.split("-")
    if not names or len(set(languages)) != 2 or len(languages) != 2 or not all(map(LANGUAGE.fullmatch, languages)):
        example = "as in de-en=a.tsv.xz or zh_CN-en=a.zh,a.en"
        raise InputError(f"{text}: expected LANGUAGES=FILE[,FILE…] with two different languages, {example}")
    return languages, names.split(",")


def _add_zip(bitext: Bitext, path: Path) -> None:
    found, _ = find_bitexts(path, left_out=set())
    for other in found:
        if {other.first_lang, other.second_lang} == {bitext.first_lang, bitext.second_lang}:
            for part in other.parts:
                languages = [other.first_lang, other.second_lang]
                _add(bitext, languages[::-1] if part[0] in other.swapped else languages, part)
            return
    raise InputError(f"{path}: no {bitext.name} in it, but {', '.join(other.name for other in found)}; give that pair")


def _add(bitext: Bitext, languages: list[str], part: tuple[File, ...]) -> None:
    """Add a part whose own order of languages is *languages*."""
    if bitext.first_lang != languages[0]:
        part = part[::-1]
        bitext.swapped.update(part)  # counts for a file of both languages
    if part not in bitext.parts:  # each of two files leads to it
        bitext.parts.append(part)


def _files_in(path: Path) -> Iterator[tuple[File, str]]:
    """The file, or the files in a .zip or in a folder with a pair's name, each with that name."""
    if path.suffix == ".zip" and path.is_file():
        yield from ((member, path.stem) for member in members_of(path))
    elif path.is_dir() and [f"{first}-{second}" for first, second in _pairs_in_name(path.name)] == [path.name]:
        files = [path] if is_dataset(path) else sorted(file for file in path.iterdir() if file.is_file())
        yield from ((file, path.name) for file in files)
    else:
        yield path, ""


def _is_in(file: File, path: Path) -> bool:
    place = file.archive if isinstance(file, ZipMember) else file
    return place == path or place.parent == path


def _languages_and_files(path: File, left_out: Set[str], pair: str) -> tuple[list[str], tuple[File, ...]]:
    """The languages in a file's name, or else in *pair*, and the file or it with its translation."""
    unpacked = PurePosixPath(path.name)
    if path.suffix in UNPACKERS:
        unpacked = unpacked.with_suffix("")
    stem, ending = unpacked.stem, unpacked.suffix
    is_one = ending in TABLES or ending in ONE_FILE
    pairs = [found for found in _pairs_in_name(stem) if is_one or ending[1:] in found]
    if not pairs and (ending in ONE_FILE or path.is_dir()):
        pairs = _pairs_in_name(pair)
    held_out = left_out & set(re.split(r"\W|_", stem))
    if unpacked.suffix in PACKED_OTHERWISE:
        raise _NotTaken(f"cannot read {unpacked.suffix}; unpack it")
    if held_out and (pairs or ending in ONE_FILE):
        raise _NotTaken(f"its name says {held_out.pop()}; to take it, name the file itself instead of its folder")
    if not pairs and ending == ".tmx" and len(languages := tmx_languages(path)) == 2:
        pairs = [tuple(languages)]
    if (path.is_dir() and not is_dataset(path)) or not pairs:
        raise _NotTaken(f"not a file named like {EXPECTED}")
    if len(pairs) > 1:
        names = ", ".join(map("-".join, pairs))
        raise _NotTaken(f"its name fits several language pairs ({names}); rename it, as to de-en.tsv")
    files = (path,) if is_one else tuple(_side(path, stem, language) for language in pairs[0])
    if ending in (".txt", "") and not path.is_dir() and b"\t" not in next(iter(LineReader(path)), b""):
        raise _NotTaken("no tab in its first line")
    return [language.replace("-", "_") for language in pairs[0]], files


def _side(path: File, stem: str, language: str) -> File:
    """The file of *language* that belongs to *path*: plain or packed, itself or its translation."""
    sides = [path.with_name(f"{stem}.{language}{packed}") for packed in ("", *UNPACKERS)]
    for side in [path] * (path in sides) + sides:
        if side.is_file():
            return side
    advice = f"add its translation, {PACKINGS}, or move the file away"
    raise InputError(f"{path}: no {sides[0].name} beside it; {advice}")


def _pairs_in_name(stem: str) -> list[tuple[str, str]]:
    """Pairs of different codes in a name; only those of two letters (or a region) where there are any."""
    stem = FETCHED.sub(".", stem)
    joined = REGION.sub(r"\1_\2", stem)  # zh-cn is no pair where there is another
    pairs = [match.groups() for match in PAIR.finditer(joined) if match[1] != match[2]]
    pairs = pairs or [match.groups() for match in PAIR.finditer(stem) if match[1] != match[2]]
    short = [pair for pair in pairs if all(len(re.split("[-_]", code)[0]) == 2 for code in pair)]
    return list(dict.fromkeys(short or pairs))
