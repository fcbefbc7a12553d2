"""The files that the checks of readers work on: where they lie, what is in them, how they may be refused."""

import gzip
import lzma
import tempfile
from functools import cache
from io import BytesIO
from pathlib import Path

from ppa_fairseq.errors import InputError
from ppa_fairseq.families import BERT

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!äü水म"
SYMBOLS = [*BERT.specials, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
FILE_SEPARATOR = b"\x1c"  # between the two files of a pair, in the one string of bytes that a check takes
LONGEST_MESSAGE = 1000
BOM = b"\xef\xbb\xbf"


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
