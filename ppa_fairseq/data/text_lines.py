"""The lines of a text that has no broken ones."""

from collections.abc import Iterator
from pathlib import Path

from ppa_fairseq.data.bitext.reader import MAX_LINE, LineReader
from ppa_fairseq.utils.errors import InputError


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text file. Raises InputError on an empty file and on a line that is no sentence."""
    number = 0
    for number, line in enumerate(LineReader(path), 1):
        line = line.removesuffix(b"\r")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}:{number}: not UTF-8 ({error.reason}); convert the file") from None
        if not text.strip():
            raise InputError(f"{path}:{number}: an empty line; remove it")
        if len(line) > MAX_LINE:
            raise InputError(f"{path}:{number}: a line of over {MAX_LINE} bytes; split it into sentences")
        yield text
    if number == 0:
        raise InputError(f"{path}: the file is empty")
