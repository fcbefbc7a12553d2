"""Sentence pairs from raw parallel text: TSV or two files, plain, .gz or .xz, in constant memory."""

import codecs
import gzip
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import NamedTuple

from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import why_no_file

BLOCK = 1 << 20  # bytes read at once
MAX_LINE = 1 << 15  # bytes; no sentence is longer, and a file without line ends must not fill the memory
UNPACKERS = {".gz": gzip.open, ".xz": lzma.open}
PACKED_OTHERWISE = (".bz2", ".zst", ".zip", ".tar", ".tgz", ".7z", *UNPACKERS)
BYTE_ORDER_MARK = "\ufeff".encode()
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Row(NamedTuple):
    """One pair as read. A broken one has the reason, and in `where` its file, line and fault for the user."""

    first: str = ""
    second: str = ""
    broken: str = ""
    where: str = ""


@dataclass
class LineReader:
    """Lines of a file as bytes, without their ends. `position`: bytes read of the file itself, packed or not.

    A line over MAX_LINE comes cut, still over MAX_LINE without a \\r. Raises InputError on a pipe and on a missing or
    damaged file.
    """

    path: Path
    position: int = 0

    def __iter__(self) -> Iterator[bytes]:
        try:
            with open(self.path, "rb") as raw:
                if not raw.seekable():  # most texts are read twice, and progress is told by the place in them
                    raise InputError(f"{self.path}: is a pipe, which cannot be read twice; give a file")
                file = UNPACKERS[self.path.suffix](raw) if self.path.suffix in UNPACKERS else raw
                block, tail = file.read(BLOCK).removeprefix(BYTE_ORDER_MARK), b""
                if block.startswith(UTF16_MARKS):
                    raise InputError(f"{self.path}: is UTF-16, not UTF-8; convert it, as by iconv -f UTF-16 -t UTF-8")
                while block:
                    self.position = raw.tell()
                    *lines, tail = (tail + block).split(b"\n")
                    yield from lines
                    tail = tail[: MAX_LINE + 2]
                    block = file.read(BLOCK)
                if tail:
                    yield tail
        except (FileNotFoundError, IsADirectoryError) as error:
            raise InputError(f"{self.path}: {error.strerror}; give a text file, plain, .gz or .xz") from None
        except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
            raise InputError(f"{self.path}: truncated or damaged ({error}); fetch it again") from None


@dataclass
class Bitext:
    """All files of one language pair, in the order to read them."""

    first_lang: str
    second_lang: str
    parts: list[tuple[Path, ...]]  # one TSV file, or a file for each language
    readers: list[LineReader] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.first_lang}-{self.second_lang}"

    @property
    def size(self) -> int:
        """Bytes of all files, as they lie on the disk."""
        return sum(path.stat().st_size for part in self.parts for path in part)

    @property
    def position(self) -> int:
        """Bytes of these that are read."""
        return sum(reader.position for reader in self.readers)

    def rows(self, columns: tuple[int, int] = (0, 1)) -> Iterator[Row]:
        """Every line of every file as a Row. *columns*: where a TSV holds the first and the second language.

        Raises InputError if two files differ in their number of lines, or a TSV has too few columns.
        """
        for part in self.parts:
            readers = [LineReader(path) for path in part]
            self.readers += readers
            if len(part) == 1:
                yield from _tsv_rows(readers[0], columns)
            else:
                yield from _two_file_rows(*readers)


def parse_bitext(text: str) -> Bitext:
    """`de-en=a.tsv.xz,b.de,b.en`: a TSV stands alone, any other file is followed by its translation.

    Raises InputError on a bad pair name, a file that is missing or packed otherwise, or one without its pair.
    """
    pair, _, names = text.partition("=")
    if not names:
        raise InputError(f"{text}: expected LANGUAGES=FILE[,FILE…], as in de-en=a.tsv.xz or de-en=a.de,a.en")
    languages = pair.split("-")
    if len(languages) != 2 or languages[0] == languages[1] or not all(map(LANGUAGE.fullmatch, languages)):
        raise InputError(f"{pair}: expected two different language codes joined by a hyphen, as in de-en")
    parts: list[tuple[Path, ...]] = []
    waiting: list[Path] = []  # a file whose translation comes next
    for path in map(Path, names.split(",")):
        unpacked = unpacked_name(path)
        if not path.is_file():
            raise InputError(f"{path}: {why_no_file(path)}; {pair} needs a text file")
        if unpacked.suffix == ".tsv" and not waiting:
            parts.append((path,))
        elif waiting and unpacked.suffix != ".tsv":
            parts.append((waiting.pop(), path))
        else:
            waiting.append(path)
    if waiting:
        raise InputError(f"{waiting[0]}: {pair} lacks its translation; a file of both languages must end in .tsv")
    return Bitext(*languages, parts)


def is_unicode(text: str) -> bool:
    """Whether *text* can be written: JSON may hold half a character, a lone surrogate."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def unpacked_name(path: Path) -> Path:
    """What a file would be called without .gz or .xz. Raises InputError if it is packed otherwise."""
    unpacked = path.with_suffix("") if path.suffix in UNPACKERS else path
    if unpacked.suffix in PACKED_OTHERWISE:
        raise InputError(f"{path}: cannot read {unpacked.suffix}; unpack it, or pack it as .gz or .xz")
    return unpacked


def _row(number: int, *sides: tuple[bytes, Path]) -> Row:
    texts = []
    for line, path in sides:
        if len(line) > MAX_LINE:
            return Row(broken="long", where=f"{path}:{number}: a line of over {MAX_LINE} bytes")
        try:
            texts.append(line.decode())
        except UnicodeDecodeError:
            return Row(broken="encoding", where=f"{path}:{number}: not UTF-8")
    return Row(*texts)


def _two_file_rows(first: LineReader, second: LineReader) -> Iterator[Row]:
    lines = iter(first), iter(second)
    for number, (one, other) in enumerate(zip_longest(*lines), start=1):
        if one is None or other is None:
            longer, shorter = (second, first) if one is None else (first, second)
            total = number + sum(1 for _ in lines[one is None])
            raise InputError(
                f"{longer.path} has {total} lines but {shorter.path} has {number - 1}: "
                "they must be translations line by line; fetch both again"
            )
        yield _row(number, (one.removesuffix(b"\r"), first.path), (other.removesuffix(b"\r"), second.path))


def _tsv_rows(reader: LineReader, columns: tuple[int, int]) -> Iterator[Row]:
    lines = iter(reader)
    head = list(islice(lines, 1000))
    if not head:
        return
    # A stray tab in a sentence would shift the columns, so every line must have as many as most lines have.
    tabs = Counter(line.count(b"\t") for line in head).most_common(1)[0][0]
    if tabs < max(columns):
        raise InputError(
            f"{reader.path}: its lines have {tabs + 1} columns, no column {max(columns) + 1}; "
            "is it tab-separated? --columns says which columns hold the two languages"
        )
    for number, line in enumerate(chain(head, lines), start=1):
        line = line.removesuffix(b"\r")
        cells = line.split(b"\t")
        if len(line) <= MAX_LINE and len(cells) != tabs + 1:
            where = f"{reader.path}:{number}: {len(cells)} columns, not {tabs + 1}"
            yield Row(broken="columns", where=where)
        elif len(line) > MAX_LINE:
            yield _row(number, (line, reader.path))
        else:
            yield _row(number, *((cells[column], reader.path) for column in columns))
