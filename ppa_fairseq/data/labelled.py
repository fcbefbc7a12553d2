"""Readers of labelled text for probes: sentences with a label, pairs with a label, and words with tags."""

import csv
import gzip
import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ppa_fairseq.utils.errors import InputError

OPENERS = {".gz": gzip.open, ".xz": lzma.open}
LANGUAGE_AT_END = re.compile(r"(?:^|[-._])([A-Za-z]{2,3}(?:[-_][A-Za-z]{2,4})?)$")
TEXT_NAMES = ("text", "sentence", "sentence1")
LABEL_NAMES = ("label", "category", "labels", "gold_label")
FIRST_NAMES, SECOND_NAMES = ("sentence1", "premise"), ("sentence2", "hypothesis", "hypo")


class Example(NamedTuple):
    """One labelled text: its parts (one sentence, two sentences, or the words of one), and a label for each unit."""

    parts: list[str]
    labels: list[str]


def read_sentences(path: Path) -> list[Example]:
    """Read sentences with a label: TSV with a header that names text and label, or JSON lines with these keys."""
    return [Example([row[0]], [row[1]]) for row in _records(path, (TEXT_NAMES, LABEL_NAMES), None)]


def read_pairs(path: Path) -> list[Example]:
    """Read pairs with a label: TSV (without a header: first, second, label) or JSON lines."""
    rows = _records(path, (FIRST_NAMES, SECOND_NAMES, LABEL_NAMES), (0, 1, 2))
    return [Example([first, second], [label]) for first, second, label in rows]


def read_tags(path: Path) -> list[Example]:
    """Read tagged words: a word and its tag a line, an empty line between sentences; or CoNLL-U (FORM and UPOS)."""
    examples, words, tags = [], [], []
    for number, line in enumerate([*_lines(path), ""], start=1):
        cells = line.split("\t") if "\t" in line else line.split()
        if not cells:
            if words:
                examples.append(Example(words, tags))
            words, tags = [], []
        elif not line.startswith("#") and not (len(cells) == 10 and not cells[0].isdecimal()):
            if len(cells) < 2:
                raise InputError(f"{path}:{number}: one column; expected a word and its tag, or CoNLL-U's ten columns")
            word, tag = (cells[1], cells[3]) if len(cells) == 10 else (cells[0], cells[-1])
            words.append(word)
            tags.append(tag)
    return _not_empty(examples, path)


READERS = {"sentences": read_sentences, "pairs": read_pairs, "tags": read_tags}


def read_files(paths: list[Path], kind: str) -> list[Example]:
    """Read all examples of some files, in their order."""
    return [example for path in paths for example in READERS[kind](path)]


def files_by_language(path: Path) -> dict[str, Path]:
    """Find the test files in a folder by the language at the end of their names; files named train* are left out.

    A path to one file stands for itself. Raises InputError if no file tells its language, or two tell the same.
    """
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    found: dict[str, Path] = {}
    for file in files:
        match = LANGUAGE_AT_END.search(_stem(file))
        if path.is_dir() and (file.name.startswith(("train", ".")) or not match):
            continue
        if not match:
            raise InputError(f"{file}: the name must end in the language, as in test-de.tsv")
        if match[1] in found:
            raise InputError(f"{file} and {found[match[1]]} are both of {match[1]}; give one folder for each test set")
        found[match[1]] = file
    if not found:
        raise InputError(f"{path}: no file named like test-de.tsv in it")
    return found


def _stem(file: Path) -> str:
    return file.name.removesuffix(file.suffix if file.suffix in OPENERS else "").rsplit(".", 1)[0]


def _lines(path: Path) -> Iterator[str]:
    try:
        with OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8-sig", newline="\n") as file:
            yield from (line.rstrip("\r\n") for line in file)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); convert it, as by iconv -f LATIN1 -t UTF-8") from None
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: truncated or damaged ({error}); fetch it again") from None


def _records(path: Path, names: tuple[tuple[str, ...], ...], without_header: tuple[int, ...] | None) -> list[list[str]]:
    """Read the cells under *names* of every row; *without_header*: their columns where the file has no header."""
    first_line = next(_lines(path), None)
    if first_line is None:
        return _not_empty([], path)
    if first_line.startswith("{"):
        lines = ((number, line) for number, line in enumerate(_lines(path), start=1) if line)
        return _not_empty([_json_row(line, names, f"{path}:{number}") for number, line in lines], path)
    rows = csv.reader(_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE)
    header = [cell.strip().lower() for cell in first_line.split("\t")]
    columns = [next((header.index(name) for name in group if name in header), None) for group in names]
    start = 1
    if None not in columns:
        next(rows)
        start = 2
    elif without_header is not None:
        columns = list(without_header)
    else:
        wanted = ", ".join(" or ".join(group) for group in names)
        raise InputError(f"{path}:1: no columns named {wanted}; add a header line")
    found = []
    for number, row in enumerate(rows, start):
        if row:
            if len(row) <= max(columns):
                raise InputError(f"{path}:{number}: {len(row)} columns; expected {max(columns) + 1} or more")
            found.append([row[column].strip() for column in columns])
    return _not_empty(found, path)


def _json_row(line: str, names: tuple[tuple[str, ...], ...], where: str) -> list[str]:
    try:
        record = json.loads(line)
        return [str(next(record[name] for name in group if name in record)) for group in names]
    except (ValueError, TypeError):
        raise InputError(f"{where}: not a JSON object") from None
    except StopIteration:
        raise InputError(f"{where}: needs {', '.join(' or '.join(group) for group in names)}") from None


def _not_empty(rows: list, path: Path) -> list:
    if not rows:
        raise InputError(f"{path}: no labelled text in it")
    return rows
