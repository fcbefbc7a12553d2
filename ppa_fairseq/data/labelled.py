"""Readers of labelled text for probes: sentences with a label, pairs with a label, and words with tags."""

import json
import logging
from pathlib import Path
from typing import NamedTuple

from ppa_fairseq.data.nli.reader import NO_CONSENSUS, SYNONYMS
from ppa_fairseq.data.packed import UNPACKERS
from ppa_fairseq.data.text_files import (
    AS_CSV,
    JSON_ARRAY,
    LANGUAGE_AT_END,
    numbered_lines,
    seems_csv,
    unquote,
)
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)

TEXT_NAMES = ("text", "sentence", "sentence1")
LABEL_NAMES = ("label", "category", "labels", "gold_label")
FIRST_NAMES, SECOND_NAMES = ("sentence1", "premise"), ("sentence2", "hypothesis", "hypo")


class Example(NamedTuple):
    """One labelled text: its parts (one sentence, two sentences, or the words of one), and a label for each unit."""

    parts: list[str]
    labels: list[str]


def read_sentences(path: Path, csv_quotes: bool = False) -> list[Example]:
    """Read sentences with a label: TSV with a header that names text and label, or JSON lines with these keys."""
    rows = _records(path, (TEXT_NAMES, LABEL_NAMES), True, csv_quotes)
    return [Example([text], [label]) for text, label in rows]


def read_pairs(path: Path, csv_quotes: bool = False) -> list[Example]:
    """Read pairs with a label: TSV (without a header: first, second, label) or JSON lines. Leave out NLI's no label."""
    rows = _records(path, (FIRST_NAMES, SECOND_NAMES, LABEL_NAMES), False, csv_quotes)
    return [
        Example([first, second], [SYNONYMS.get(label, label)])
        for first, second, label in rows
        if label not in (NO_CONSENSUS, "-1")
    ]


def read_tags(path: Path, csv_quotes: bool = False) -> list[Example]:
    """Read tagged words: a word and its tag a line, an empty line between sentences; or CoNLL-U (FORM and UPOS).

    A quote is a word here, whatever *csv_quotes* says.
    """
    examples, words, tags = [], [], []
    for where, line in [*numbered_lines(path), ("", "")]:
        cells = line.split("\t") if "\t" in line else line.split()
        if not cells:
            if words:
                examples.append(Example(words, tags))
            words, tags = [], []
        elif not line.startswith("#") and not (len(cells) == 10 and not cells[0].isdecimal()):
            if len(cells) < 2:
                raise InputError(f"{where}: one column; expected a word and its tag, or CoNLL-U's ten columns")
            word, tag = (cells[1], cells[3]) if len(cells) == 10 else (cells[0], cells[-1])
            words.append(word)
            tags.append(tag)
    return examples


READERS = {"sentences": read_sentences, "pairs": read_pairs, "tags": read_tags}


def read_files(paths: list[Path], kind: str, csv_quotes: bool = False) -> list[Example]:
    """Read all examples of some files, in their order; TSV is unquoted with *csv_quotes*.

    Raises InputError if a file has none, or cannot be read.
    """
    found = []
    for path in paths:
        examples = READERS[kind](path, csv_quotes)
        if not examples:
            raise InputError(f"{path}: no labelled text in it; give another file")
        found += examples
    return found


def files_by_language(path: Path) -> dict[str, Path]:
    """Find the test files in a folder by the language at the end of their names; files named train* are left out.

    A path to one file stands for itself. Warn of files whose names have no language. Raises InputError if that leaves
    none, or two files have the same language.
    """
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith(("train", ".")))
    found: dict[str, Path] = {}
    not_taken = []
    for file in files:
        match = LANGUAGE_AT_END.search((file.with_suffix("") if file.suffix in UNPACKERS else file).stem)
        if match is None:
            not_taken.append(file.name)
        elif match[1] in found:
            raise InputError(f"{file} and {found[match[1]]} are both of {match[1]}; give one folder for each test set")
        else:
            found[match[1]] = file
    if not found:
        raise InputError(f"{path}: no file named like test-de.tsv; put the language at the end of the name")
    if not_taken:
        logger.warning(f"{path}: not taken, as their names do not end in a language: {', '.join(not_taken)}")
    return found


def _records(
    path: Path, names: tuple[tuple[str, ...], ...], needs_header: bool, csv_quotes: bool
) -> list[list[str]]:
    """Read the cells under *names* of every row; without a header, the first columns."""
    lines = [(where, line) for where, line in numbered_lines(path) if line]
    if not lines:
        return []
    first = lines[0][1]
    if first.startswith("["):
        raise InputError(f"{path}: {JSON_ARRAY}")
    if first.startswith("{"):
        return [_json_row(line, names, where) for where, line in lines]
    header = [cell.strip().lower() for cell in first.split("\t")]
    columns = [next((header.index(name) for name in group if name in header), None) for group in names]
    if None not in columns:
        del lines[0]
    elif needs_header:
        expected = ", ".join(" or ".join(group) for group in names)
        raise InputError(f"{path}:1: no columns named {expected}; add a header line")
    else:
        columns = list(range(len(names)))
    rows = []
    for where, line in lines:
        cells = line.split("\t")
        if len(cells) <= max(columns):
            raise InputError(f"{where}: {len(cells)} columns; expected {max(columns) + 1} or more")
        rows.append([cells[column].strip() for column in columns])
    if csv_quotes:
        return [list(map(unquote, row)) for row in rows]
    if seems_csv(cell for row in rows for cell in row):
        logger.warning(f"{path}: {AS_CSV}")
    return rows


def _json_row(line: str, names: tuple[tuple[str, ...], ...], where: str) -> list[str]:
    try:
        record = json.loads(line)
        return [str(next(record[name] for name in group if name in record)) for group in names]
    except (ValueError, TypeError):
        raise InputError(f"{where}: not a JSON object; give one a line") from None
    except StopIteration:
        raise InputError(f"{where}: needs {', '.join(' or '.join(group) for group in names)}") from None
