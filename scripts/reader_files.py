"""The files that the checks of readers work on: where they lie, what is in them, how they may be refused."""

import gzip
import lzma
import tempfile
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

from ppa_fairseq.data.bitext_reader import UTF16_MARKS
from ppa_fairseq.errors import InputError
from ppa_fairseq.families import BERT

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!äü水म"
SYMBOLS = [*BERT.specials, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
FILE_SEPARATOR = b"\x1c"  # between the two files of a pair, in the one string of bytes that a check takes
LONGEST_MESSAGE = 1000
BOM = b"\xef\xbb\xbf"
GOLD_SIZES = ((3, 2), (4, 5), (1, 1), (12, 10))  # words of the sentence pairs that a gold standard is checked with


@cache
def folder() -> Path:
    """An empty folder for the files of this process."""
    folder.kept = tempfile.TemporaryDirectory(prefix="reader-checks-")
    return Path(folder.kept.name)


@cache
def tokenizer_texts() -> dict[str, str]:
    return {"vocab.txt": "".join(symbol + "\n" for symbol in SYMBOLS)}


def place(name: str, content: bytes) -> Path:
    path = folder() / name
    path.write_bytes(content)
    return path


def refused(error: InputError) -> bool:
    """False, the outcome of a refusal. Its message must be one short line that a terminal can show."""
    message = str(error)
    assert message and len(message) <= LONGEST_MESSAGE and message.isprintable(), repr(message[: 2 * LONGEST_MESSAGE])
    return False


def as_expected(found: Callable[[], object], expected: object) -> bool:
    """Whether *found* reads; it must give what is *expected*, and refuse where that is None alone."""
    try:
        read = found()
    except InputError as error:
        assert expected is None, f"a sound file refused: {error}"
        return refused(error)
    assert read == expected, "not what the file holds" if expected is not None else "read, and should not have been"
    return True


def unpacked(name: str, content: bytes) -> bytes | None:
    """The content without .gz or .xz; None if it is damaged."""
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(Path(name).suffix)
    try:
        return opener(BytesIO(content)).read() if opener else content
    except Exception:
        return None


def lines_of(content: bytes) -> list[bytes]:
    lines = content.removeprefix(BOM).split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def is_utf16(content: bytes) -> bool:
    return content.removeprefix(BOM).startswith(UTF16_MARKS)


class Pairs(list):
    """A JSON object as its (key, value) pairs."""

    def all(self, key: str) -> list:
        return [value for name, value in self if name == key]
