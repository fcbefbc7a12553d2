"""Sentence pairs from raw parallel text of any format that a user has, in constant memory."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path

from ppa_fairseq.data.bitext.named_columns import Choice, dataset_rows, json_rows, parquet_rows
from ppa_fairseq.data.bitext.row import Column, Columns, Progress, Row
from ppa_fairseq.data.bitext.tmx import tmx_rows
from ppa_fairseq.data.packed import UNPACKERS, File, unpacked_name
from ppa_fairseq.data.text_files import MAX_LINE, LineReader
from ppa_fairseq.utils.errors import InputError

HEAD = 1000  # lines that decide how many columns a TSV has, and which hold text
NUMBER = re.compile(rb"[-+.\de]+")
JSON = (".jsonl", ".ndjson", ".json")
NAMED = (*JSON, ".parquet")  # their columns have names
COLUMNS_ADVICE = "--columns says which columns hold the two languages"
ONE_FILE = (".tsv", ".tmx", *NAMED)  # hold both languages


@dataclass
class Bitext:
    """All files of one language pair, in the order to read them."""

    first_lang: str
    second_lang: str
    parts: list[tuple[File, ...]]  # one file or folder of both languages, or a file for each language
    readers: list[LineReader | Progress] = field(default_factory=list)
    swapped: set[File] = field(default_factory=set)  # files of both languages that hold the second language first

    @property
    def name(self) -> str:
        return f"{self.first_lang}-{self.second_lang}"

    @property
    def size(self) -> int:
        """Bytes of all files on the disk."""
        return sum(_size(path) for part in self.parts for path in part)

    @property
    def position(self) -> int:
        """How many of these bytes are read."""
        return sum(reader.position for reader in self.readers)

    def rows(self, columns: Columns | None = (0, 1), score: Column | None = None) -> Iterator[Row]:
        """Every line of every file as a Row; *columns* and *score* as in `part_rows`."""
        for part in self.parts:
            yield from self.part_rows(part, columns, score)

    def part_rows(
        self, part: tuple[File, ...], columns: Columns | None = (0, 1), score: Column | None = None
    ) -> Iterator[Row]:
        """Every line of one of `parts`.

        *columns* are places (from 0) in a TSV, or names in JSON lines, Parquet and data sets. None: the first two of a
        TSV that do not hold numbers, and the columns named by the languages. *score* is the column of a score; of two
        files, in a third beside them, as NAME.de-en.scores. Raises InputError if two files differ in their number of
        lines, or a file lacks such a column.
        """
        path, progress = part[0], Progress()
        languages = self.first_lang, self.second_lang
        choice = Choice(languages, columns, score, path in self.swapped)
        kind = "folder" if path.is_dir() else unpacked_name(path).suffix
        if len(part) == 2 or kind not in ("folder", ".parquet", ".tmx"):
            readers = [LineReader(file) for file in part]
            self.readers += readers
            if len(part) == 2:
                yield from _two_file_rows(*readers, score)
            elif kind in JSON:
                yield from json_rows(readers[0], choice)
            else:
                yield from _tsv_rows(readers[0], columns, score, path in self.swapped)
            return
        self.readers.append(progress)
        if kind == "folder":
            yield from dataset_rows(path, choice)
        elif kind == ".parquet":
            yield from parquet_rows(path, choice, progress)
        elif score is not None:
            raise InputError(f"{path}: a TMX has no column of scores; leave --score-column out")
        else:
            yield from tmx_rows(path, languages, progress)


def is_table(part: tuple[File, ...]) -> bool:
    """Whether one of a Bitext's `parts` is tab-separated, so that a CSV writer may have written it."""
    return len(part) == 1 and not part[0].is_dir() and unpacked_name(part[0]).suffix not in (".tmx", *NAMED)


def _size(path: File) -> int:
    if not isinstance(path, Path):
        return path.size
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _row(first: bytes, second: bytes, paths: tuple[File, File], number: int, score: bytes = b"") -> Row:
    if len(first) > MAX_LINE or len(second) > MAX_LINE:
        path = paths[len(first) <= MAX_LINE]
        return Row(broken="long", where=f"{path}:{number}: a line of over {MAX_LINE} bytes")
    try:
        return Row(first.decode(), second.decode(), score=score.decode(errors="replace"))
    except UnicodeDecodeError as error:
        return Row(broken="encoding", where=f"{paths[error.object != first]}:{number}: not UTF-8")


def _two_file_rows(first: LineReader, second: LineReader, score: Column | None) -> Iterator[Row]:
    readers = [first, second]
    if score is not None:
        readers.append(LineReader(_scores_beside(first.path, second.path, score)))
    lines = [iter(reader) for reader in readers]
    for number, cells in enumerate(zip_longest(*lines), start=1):
        if None in cells:
            counts = [number - (cell is None) + sum(1 for _ in rest) for cell, rest in zip(cells, lines, strict=True)]
            has = " but ".join(f"{file.path} has {count} lines" for file, count in zip(readers, counts, strict=True))
            raise InputError(f"{has}: they must be translations line by line; download both again")
        found = b"" if score is None else _cell(cells[2], score)
        yield _row(cells[0], cells[1], (first.path, second.path), number, found)


def _scores_beside(first: File, second: File, score: Column) -> File:
    """The file of scores that OPUS puts beside two files: NLLB.de-en.scores."""
    stem = unpacked_name(first).stem
    path = next((file for end in ("", *UNPACKERS) if (file := first.with_name(f"{stem}.scores{end}")).is_file()), None)
    if path is None or isinstance(score, str):
        fault = f"no {stem}.scores beside it" if path is None else f"the columns of {path} have numbers, no names"
        raise InputError(f"{first} and {second}: {fault}; leave --score-column out or give one file of both languages")
    return path


def _cell(line: bytes, column: int) -> bytes:
    cells = line.split(b"\t")
    return cells[column] if column < len(cells) else b""


def _tsv_rows(reader: LineReader, columns: Columns | None, score: Column | None, swapped: bool) -> Iterator[Row]:
    if named := [column for column in (*(columns or ()), score) if isinstance(column, str)]:
        raise InputError(f"{reader.path}: no column {named[0]}: the columns of a TSV have numbers, as in --columns 2,1")
    lines = iter(reader)
    head = list(islice(lines, HEAD))
    if not head:
        return
    # A stray tab in a sentence would shift the columns, so every line must have as many as most lines have.
    count = Counter(line.count(b"\t") for line in head).most_common(1)[0][0] + 1
    columns = columns or _text_columns([line.split(b"\t") for line in head], count)
    if count <= (last := max(*columns, score or 0)):
        advice = "--score-column says which column holds the scores" if last == score else COLUMNS_ADVICE
        raise InputError(
            f"{reader.path}: its lines have {count} columns, no column {last + 1}; is it tab-separated? {advice}"
        )
    first, second = reversed(columns) if swapped else columns
    paths = reader.path, reader.path
    for number, line in enumerate(chain(head, lines), start=1):
        cells = line.split(b"\t")
        if len(line) > MAX_LINE:
            yield _row(line, b"", paths, number)
        elif len(cells) != count:
            yield Row(broken="columns", where=f"{reader.path}:{number}: {len(cells)} columns, not {count}")
        else:
            yield _row(cells[first], cells[second], paths, number, b"" if score is None else cells[score])


def _text_columns(rows: list[list[bytes]], count: int) -> tuple[int, int]:
    """The first two columns that do not hold numbers, which are scores or sentence ids (WikiMatrix, Tatoeba)."""
    rows = [row for row in rows if len(row) == count]
    numbers = [sum(bool(NUMBER.fullmatch(row[column])) for row in rows) for column in range(count)]
    text = [column for column in range(count) if numbers[column] < len(rows) / 2]
    return (text[0], text[1]) if len(text) > 1 else (0, 1)
