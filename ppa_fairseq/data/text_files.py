"""Text files, plain or packed: their lines in constant memory, and what users and files call languages."""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ppa_fairseq.data.packed import CAT, PACKINGS, File, ZipMember, open_unpacked
from ppa_fairseq.utils.errors import InputError

BLOCK = 1 << 20  # bytes read at once
MAX_LINE = 1 << 15  # bytes; no sentence is longer, and a file without line ends must not fill the memory
UTF32_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
CONVERT = (
    "convert it, as by `iconv -f ISO-8859-1 -t UTF-8 FILE > NEW_FILE` if it is Latin-1 (Cyrillic may be WINDOWS-1251, "
    "Chinese GB18030)"
)
JSON_ARRAY = "a JSON array; write its objects one a line: jq -c '.[]' FILE > NEW_FILE"
AS_CSV = 'the quotes are those of a CSV writer ("a ""b"" c" for a "b" c) and are kept as text; --unquote removes them'
LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # what a user may call a language; no hyphen, which joins a pair
# A code among the other words of a file's name: de, deu, zh_CN, zh-CN, pt_br, sr_Latn.
LANGUAGE_IN_NAME = re.compile(r"[a-z]{2,3}(?:[-_](?:[A-Z]{2}|[A-Z][a-z]{3})|_[a-z]{2})?")
# At the end of a name without its endings: dev-fr, multinli.train.fr, test-zh_CN. Three letters need a script or a
# country after them, or "dev" would be a language.
LANGUAGE_AT_END = re.compile(r"(?:^|[-._])([a-z]{2}|[a-z]{2,3}[-_](?:[A-Z]{2}|[A-Z][a-z]{3}))$")


@dataclass
class LineReader:
    """Lines of a file as bytes, without their ends. `position` counts the bytes read of the file itself, packed or not.

    A line longer than MAX_LINE is cut, to a length that is still over MAX_LINE. Raises InputError on a pipe, on a
    missing or damaged file, on UTF-16, and where CR alone ends the lines.
    """

    path: File
    position: int = 0

    def __iter__(self) -> Iterator[bytes]:
        try:
            with open_unpacked(self.path) as (raw, file):
                if not raw.seekable():  # most texts are read twice, and the progress bar needs the position
                    raise InputError(f"{self.path}: is a pipe, which cannot be read twice; give a file")
                start = raw.tell() if isinstance(self.path, ZipMember) else 0
                block, tail = file.read(BLOCK).removeprefix(codecs.BOM_UTF8), b""
                refuse_utf_16(self.path, block)
                text = block.rstrip(b"\r\n")
                lone = text.count(b"\r") - text.count(b"\r\n")
                if lone > text.count(b"\n") + (b"\n" in block):  # the last line may end in LF
                    advice = f"{_convert(self.path)} tr '\\r' '\\n' > NEW_FILE"
                    raise InputError(f"{self.path}: its lines end in CR alone, as on old Macs; {advice}")
                while block:
                    self.position = raw.tell() - start
                    *lines, tail = (tail + block).split(b"\n")
                    yield from (line.removesuffix(b"\r") for line in lines)
                    tail = tail[: MAX_LINE + 2]
                    block = file.read(BLOCK)
                if tail:
                    yield tail.removesuffix(b"\r")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise InputError(f"{self.path}: {error.strerror}; give a text file, {PACKINGS}") from None


def refuse_utf_16(path: File, start: bytes) -> None:
    """Raise InputError if a file with this start is UTF-16 or UTF-32.

    Without a mark, every other byte of ASCII in UTF-16 is 0.
    """
    start = start[:4096]
    if start.startswith(UTF32_MARKS):  # that of little-endian UTF-32 begins like UTF-16's
        name = "UTF-32"
    elif start.startswith(UTF16_MARKS):
        name = "UTF-16"
    elif 4 * start.count(0) > len(start):
        name = "UTF-16BE" if start[0] == 0 else "UTF-16LE"
    else:
        return
    raise InputError(f"{path}: is {name}, not UTF-8; {_convert(path)} iconv -f {name} -t UTF-8 > NEW_FILE")


def _convert(path: File) -> str:
    if isinstance(path, ZipMember):
        return f"convert it: unzip -p {path.archive} {path.inside} |"
    return f"convert it: {CAT.get(path.suffix, 'cat')} {path} |"


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Place (file:line) and text of every line. Raises InputError on a line that is too long or not UTF-8."""
    for number, line in enumerate(LineReader(path), 1):
        where = f"{path}:{number}"
        if len(line) > MAX_LINE:
            raise InputError(f"{where}: a line of over {MAX_LINE} bytes; split it")
        try:
            yield where, line.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: not UTF-8 ({error.reason}); {CONVERT}") from None


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a text file.

    Raises InputError on an empty file, and on a line that is empty, too long, not UTF-8 or has a CR inside.
    """
    where = None
    for where, text in numbered_lines(path):
        if not text.strip():
            raise InputError(f"{where}: an empty line; remove it")
        if "\r" in text:  # perhaps the end of a line, in a file of mixed ends
            raise InputError(f"{where}: a CR inside the line; end each line with LF, or remove the CR")
        yield text
    if where is None:
        raise InputError(f"{path}: the file is empty")


def is_unicode(text: str) -> bool:
    """Whether *text* can be written as UTF-8: JSON may hold half a character, a lone surrogate."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def unquote(cell: str) -> str:
    """The text of a TSV cell that a CSV writer wrapped in quotes; any other cell as it is."""
    inner = cell[1:-1].replace('""', "\0")
    is_wrapped = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner
    return inner.replace("\0", '"') if is_wrapped else cell


def seems_csv(cells: Iterable[str]) -> bool:
    """Whether a CSV writer wrote *cells*: it wrapped all that have a quote; in one a quote remains, or it wrapped all.

    Else whole sentences in quotes, as in direct speech, would seem wrapped.
    """
    cells = list(cells)
    quoted = [cell for cell in cells if '"' in cell]
    texts = list(map(unquote, quoted))
    is_wrapped = bool(quoted) and all(text != cell for text, cell in zip(texts, quoted, strict=True))
    return is_wrapped and (len(quoted) == len(cells) or any('"' in text for text in texts))
