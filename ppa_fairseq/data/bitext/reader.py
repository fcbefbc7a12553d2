"""Sentence pairs from raw parallel text: TSV or two files, plain, .gz or .xz, in constant memory."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import NamedTuple

from ppa_fairseq.data.text_files import LANGUAGE, MAX_LINE, LineReader, unpacked_name
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import why_no_file

HEAD = 1000  # lines that decide how many columns a TSV has, and which hold text
NUMBER = re.compile(rb"[-+.\de]+")
Columns = tuple[int, int]  # where a TSV holds the two languages, from 0


class Row(NamedTuple):
    """One pair as read. If it is broken: the reason, and in `where` file, line and fault for the user."""

    first: str = ""
    second: str = ""
    broken: str = ""
    where: str = ""


@dataclass
class Bitext:
    """All files of one language pair, in the order to read them."""

    first_lang: str
    second_lang: str
    parts: list[tuple[Path, ...]]  # one TSV file, or a file for each language
    readers: list[LineReader] = field(default_factory=list)
    swapped: set[Path] = field(default_factory=set)  # TSV files that hold the second language first

    @property
    def name(self) -> str:
        return f"{self.first_lang}-{self.second_lang}"

    @property
    def size(self) -> int:
        """Bytes of all files on the disk."""
        return sum(path.stat().st_size for part in self.parts for path in part)

    @property
    def position(self) -> int:
        """How many of these bytes are read."""
        return sum(reader.position for reader in self.readers)

    def rows(self, columns: Columns | None = (0, 1)) -> Iterator[Row]:
        """Every line of every file as a Row; *columns* as in `part_rows`."""
        for part in self.parts:
            yield from self.part_rows(part, columns)

    def part_rows(self, part: tuple[Path, ...], columns: Columns | None = (0, 1)) -> Iterator[Row]:
        """Every line of one of `parts`. *columns* None: of a TSV, the first two columns that do not hold numbers.

        Raises InputError if two files differ in their number of lines, or a TSV has too few columns.
        """
        readers = [LineReader(path) for path in part]
        self.readers += readers
        if len(part) == 1:
            yield from _tsv_rows(readers[0], columns, part[0] in self.swapped)
        else:
            yield from _two_file_rows(*readers)


def parse_bitext(text: str) -> Bitext:
    """Read `de-en=a.tsv.xz,b.de,b.en`: a TSV stands alone, any other file is followed by its translation.

    Raises InputError on a bad pair name, and on a file that is missing, packed otherwise or without its translation.
    """
    pair, _, names = text.partition("=")
    languages = pair.split("-")
    if not names or len(set(languages)) != 2 or len(languages) != 2 or not all(map(LANGUAGE.fullmatch, languages)):
        example = "as in de-en=a.tsv.xz or zh_CN-en=a.zh,a.en"
        raise InputError(f"{text}: expected LANGUAGES=FILE[,FILE…] with two different languages, {example}")
    parts: list[tuple[Path, ...]] = []
    waiting: list[Path] = []  # a file whose translation comes next
    for path in map(Path, names.split(",")):
        is_table = unpacked_name(path).suffix == ".tsv"
        if not path.is_file():
            raise InputError(f"{path}: {why_no_file(path)}; {pair} needs a text file")
        if is_table and not waiting:
            parts.append((path,))
        elif waiting and not is_table:
            parts.append((waiting.pop(), path))
        else:
            waiting.append(path)
    if waiting:
        raise InputError(f"{waiting[0]}: {pair} lacks its translation; a file of both languages must end in .tsv")
    return Bitext(*languages, parts)


def _row(first: bytes, second: bytes, paths: tuple[Path, Path], number: int) -> Row:
    if len(first) > MAX_LINE or len(second) > MAX_LINE:
        path = paths[len(first) <= MAX_LINE]
        return Row(broken="long", where=f"{path}:{number}: a line of over {MAX_LINE} bytes")
    try:
        return Row(first.decode(), second.decode())
    except UnicodeDecodeError as error:
        return Row(broken="encoding", where=f"{paths[error.object != first]}:{number}: not UTF-8")


def _two_file_rows(first: LineReader, second: LineReader) -> Iterator[Row]:
    lines = iter(first), iter(second)
    for number, sides in enumerate(zip_longest(*lines), start=1):
        if None in sides:
            rest = number + sum(1 for _ in lines[sides.index(None) - 1])
            counts = (rest, number - 1) if sides[1] is None else (number - 1, rest)
            raise InputError(
                f"{first.path} has {counts[0]} lines but {second.path} has {counts[1]}: "
                "they must be translations line by line; download both again"
            )
        yield _row(*sides, (first.path, second.path), number)


def _tsv_rows(reader: LineReader, columns: Columns | None, swapped: bool) -> Iterator[Row]:
    lines = iter(reader)
    head = list(islice(lines, HEAD))
    if not head:
        return
    # A stray tab in a sentence would shift the columns, so every line must have as many as most lines have.
    count = Counter(line.count(b"\t") for line in head).most_common(1)[0][0] + 1
    columns = columns or _text_columns([line.split(b"\t") for line in head], count)
    if count <= max(columns):
        raise InputError(
            f"{reader.path}: its lines have {count} columns, no column {max(columns) + 1}; "
            "is it tab-separated? --columns says which columns hold the two languages"
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
            yield _row(cells[first], cells[second], paths, number)


def _text_columns(rows: list[list[bytes]], count: int) -> Columns:
    """The first two columns that do not hold numbers, which are scores or sentence ids (WikiMatrix, Tatoeba)."""
    rows = [row for row in rows if len(row) == count]
    numbers = [sum(bool(NUMBER.fullmatch(row[column])) for row in rows) for column in range(count)]
    text = [column for column in range(count) if numbers[column] < len(rows) / 2]
    return (text[0], text[1]) if len(text) > 1 else (0, 1)
