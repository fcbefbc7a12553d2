"""Readers of labelled text, for probes and fine-tuning: a label for a sentence or a pair, a tag for each word."""

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ppa_fairseq.data.nli.files import named_files
from ppa_fairseq.data.nli.reader import NO_CONSENSUS, SYNONYMS, language_of
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

LABELLED_NAME = re.compile(r"[^.].*")
TEXT_NAMES = ("text", "sentence", "sentence1")
LABEL_NAMES = ("label", "category", "labels", "gold_label")
OF_LANGUAGE = re.compile(r"[a-z][a-z-]+:(?=.)")
COMMENT = re.compile(r"# |#[^\t]*$")  # in CoNLL-U; a word may begin with #
FIRST_NAMES, SECOND_NAMES = ("sentence1", "premise"), ("sentence2", "hypothesis", "hypo")


@dataclass(frozen=True)
class Example:
    """One labelled text: its parts (one sentence, two sentences, or the words of one), and a label for each unit."""

    parts: list[str]
    labels: list[str]
    place: str = field(default="", compare=False)  # file:line, for messages

    @property
    def label(self) -> str:
        return self.labels[0]


def read_sentences(path: Path, csv_quotes: bool = False) -> list[Example]:
    """Read sentences with a label: TSV with a header that names text and label, or JSON lines with these keys."""
    rows = _records(path, (TEXT_NAMES, LABEL_NAMES), True, csv_quotes)
    return [Example([text], [label], where) for where, (text, label) in rows]


def read_pairs(path: Path, csv_quotes: bool = False) -> list[Example]:
    """Read pairs with a label: TSV (without a header: first, second, label) or JSON lines. Leave out NLI's no label."""
    rows = _records(path, (FIRST_NAMES, SECOND_NAMES, LABEL_NAMES), False, csv_quotes)
    return [
        Example([first, second], [SYNONYMS.get(label, label)], where)
        for where, (first, second, label) in rows
        if label not in (NO_CONSENSUS, "-1")
    ]


def read_tags(path: Path, csv_quotes: bool = False) -> list[Example]:
    """Read tagged words: a word and its tag a line, an empty line between sentences; or CoNLL-U (FORM and UPOS).

    In WikiANN's files, each word begins with its language, as en:Paris. A quote is a word here, whatever *csv_quotes*
    says.
    """
    examples, words, tags, languages = [], [], [], set()
    for where, line in [*numbered_lines(path), ("", "")]:
        cells = line.split("\t") if "\t" in line else line.split()
        if not cells:
            if words:
                examples.append(Example(words, tags))
            words, tags = [], []
        elif not COMMENT.match(line) and not (len(cells) == 10 and not cells[0].isdecimal()):
            if len(cells) < 2:
                raise InputError(f"{where}: one column; expected a word and its tag, or CoNLL-U's ten columns")
            word, tag = (cells[1], cells[3]) if len(cells) == 10 else (cells[0], cells[-1])
            words.append(word)
            tags.append(tag)
            languages.add(match[0] if (match := OF_LANGUAGE.match(word)) else "")
    if len(languages) == 1 and (prefix := languages.pop()):
        return [replace(one, parts=[word.removeprefix(prefix) for word in one.parts]) for one in examples]
    return examples


def read_texts(path: Path, csv_quotes: bool = False) -> list[Example]:
    """`read_pairs` of a file that names a second sentence (in its header or its keys), else `read_sentences`."""
    first = next((line for _, line in numbered_lines(path) if line), "")
    names = re.split(r'[\t"]', first.lower())
    return (read_pairs if set(SECOND_NAMES) & set(names) else read_sentences)(path, csv_quotes)


PROBED = {"sentences": read_sentences, "pairs": read_pairs, "tags": read_tags}
READERS = {**PROBED, "texts": read_texts}


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


def read_by_language(
    sources: Iterable[str | Path], kind: str, csv_quotes: bool = False, languages: Sequence[str] = ()
) -> dict[str, list[Example]]:
    """Read labelled text by language, of all *languages* or these; *sources* as in `named_files`.

    Files that a user gave one language follow one another. Raises InputError if others have the same language, if a
    file is empty or cannot be read, or if there is none of one of *languages*.
    """
    paths: dict[str, list[Path]] = {}
    for named, path in named_files(sources, LABELLED_NAME, "no file in this folder"):
        language = named or language_of(path)
        if named is None and language in paths:
            raise InputError(
                f"{paths[language][0]} and {path} both have {language}; name one of them, or write {language}= before "
                "each to read one after the other"
            )
        paths.setdefault(language, []).append(path)
    if missing := [language for language in languages if language not in paths]:
        raise InputError(f"--langs: none of the files has {', '.join(missing)}; name them with LANG=FILE")
    return {language: read_files(paths[language], kind, csv_quotes) for language in languages or paths}


def are_translations(examples: dict[str, list[Example]]) -> bool:
    """Whether row i of every language is the same example, judging by the labels."""
    return len({tuple(tuple(example.labels) for example in rows) for rows in examples.values()}) == 1


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
) -> list[tuple[str, list[str]]]:
    """Read the place and the cells under *names* of every row; without a header, the first columns."""
    lines = [(where, line) for where, line in numbered_lines(path) if line]
    if not lines:
        return []
    first = lines[0][1]
    if first.startswith("["):
        raise InputError(f"{path}: {JSON_ARRAY}")
    if first.startswith("{"):
        return [(where, _json_row(line, names, where)) for where, line in lines]
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
        rows.append((where, [cells[column].strip() for column in columns]))
    if csv_quotes:
        return [(where, list(map(unquote, row))) for where, row in rows]
    if seems_csv(cell for _, row in rows for cell in row):
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
