"""Text files, plain, .gz or .xz: their lines in constant memory, and what users and files call languages."""

import codecs
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ppa_fairseq.utils.errors import InputError

BLOCK = 1 << 20  # bytes read at once
MAX_LINE = 1 << 15  # bytes; no sentence is longer, and a file without line ends must not fill the memory
UNPACKERS = {".gz": gzip.open, ".xz": lzma.open}
PACKED_OTHERWISE = (".bz2", ".zst", ".zip", ".tar", ".tgz", ".7z", *UNPACKERS)
BYTE_ORDER_MARK = codecs.BOM_UTF8
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # what a user may call a language; no hyphen, which joins a pair
# A code among the other words of a file's name: de, deu, zh_CN, zh-CN, pt_br, sr_Latn.
LANGUAGE_IN_NAME = re.compile(r"[a-z]{2,3}(?:[-_](?:[A-Z]{2}|[A-Z][a-z]{3})|_[a-z]{2})?")


@dataclass
class LineReader:
    """Lines of a file as bytes, without their ends. `position` counts the bytes read of the file itself, packed or not.

    A line longer than MAX_LINE is cut, to a length that is still over MAX_LINE. Raises InputError on a pipe, on a
    missing or damaged file, on UTF-16, and where CR alone ends the lines.
    """

    path: Path
    position: int = 0

    def __iter__(self) -> Iterator[bytes]:
        try:
            with open(self.path, "rb") as raw:
                if not raw.seekable():  # most texts are read twice, and the progress bar needs the position
                    raise InputError(f"{self.path}: is a pipe, which cannot be read twice; give a file")
                file = UNPACKERS[self.path.suffix](raw) if self.path.suffix in UNPACKERS else raw
                block, tail = file.read(BLOCK).removeprefix(BYTE_ORDER_MARK), b""
                self._check_format(block)
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
            raise InputError(f"{self.path}: truncated or damaged ({error}); download it again") from None

    def _check_format(self, start: bytes) -> None:
        cat = {".gz": "zcat", ".xz": "xzcat"}.get(self.path.suffix, "cat")
        nul = start[:4096].count(0)
        if start.startswith(UTF16_MARKS) or 4 * nul > len(start[:4096]):  # without a mark, ASCII has every other byte 0
            name = "UTF-16" if start.startswith(UTF16_MARKS) else "UTF-16BE" if start[0] == 0 else "UTF-16LE"
            convert = f"{cat} {self.path} | iconv -f {name} -t UTF-8 > NEW_FILE"
            raise InputError(f"{self.path}: is {name}, not UTF-8; convert it: {convert}")
        if b"\n" not in start and b"\r" in start.rstrip(b"\r"):
            convert = f"{cat} {self.path} | tr '\\r' '\\n' > NEW_FILE"
            raise InputError(f"{self.path}: its lines end in CR alone, as on old Macs; convert it: {convert}")


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a text file. Raises InputError on an empty file, and on a line that is empty, too long or not UTF-8."""
    number = 0
    for number, line in enumerate(LineReader(path), 1):
        line = line.removesuffix(b"\r")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}:{number}: not UTF-8 ({error.reason}); {how_to_convert(path, line)}") from None
        if not text.strip():
            raise InputError(f"{path}:{number}: an empty line; remove it")
        if len(line) > MAX_LINE:
            raise InputError(f"{path}:{number}: a line of over {MAX_LINE} bytes; split it into sentences")
        yield text
    if number == 0:
        raise InputError(f"{path}: the file is empty")


def unpacked_name(path: Path) -> Path:
    """What a file would be called without .gz or .xz. Raises InputError if it is packed otherwise."""
    unpacked = path.with_suffix("") if path.suffix in UNPACKERS else path
    if unpacked.suffix in PACKED_OTHERWISE:
        raise InputError(f"{path}: cannot read {unpacked.suffix}; unpack it, or pack it as .gz or .xz")
    return unpacked


def is_unicode(text: str) -> bool:
    """Whether *text* can be written as UTF-8: JSON may hold half a character, a lone surrogate."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def how_to_convert(path: Path, line: bytes) -> str:
    """Advice for a file that has *line*, which is not UTF-8: the encoding to assume, and the command."""
    letters = [byte for byte in line if byte >= 0x80 or chr(byte).isalpha()]
    if sum(byte >= 0x80 for byte in letters) < len(letters) / 2:  # mostly ASCII, as in Western languages
        name = "WINDOWS-1252" if any(0x80 <= byte < 0xA0 for byte in line) else "ISO-8859-1"
        guess = f"perhaps {name} (Latin-1)"
    else:
        name, guess = "ENCODING", "perhaps WINDOWS-1251, GB18030 or SHIFT_JIS"
    return f"{guess}: convert it with `iconv -f {name} -t UTF-8 {path} > NEW_FILE`"


def unquote(cell: str) -> str | None:
    """The text of a TSV cell that a CSV writer wrapped in quotes; None if the cell is not written so."""
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"':
        return None
    inner = cell[1:-1].replace('""', "\0")
    return None if '"' in inner else inner.replace("\0", '"')
