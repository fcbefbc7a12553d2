"""Standard output that may be full, closed or limited to ASCII."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from ppa_fairseq.utils.errors import InputError


class OutputLost(InputError):
    """Standard output takes nothing more."""


class _Output(io.TextIOBase):
    def __init__(self, stream: io.TextIOBase):
        self.stream = stream

    def write(self, text: str) -> int:
        return self._call(self.stream.write, text)

    def flush(self) -> None:
        self._call(self.stream.flush)

    def _call(self, function, *arguments):
        try:
            return function(*arguments)
        except OSError as error:
            raise OutputLost(f"standard output: {error.strerror}; its end is lost, all files are whole") from None


@contextmanager
def safe_stdout() -> Iterator[None]:
    """Raise `OutputLost` if standard output fails in the block; escape characters that its encoding lacks."""
    stream = sys.stdout
    if stream is None:  # closed from the start (`>&-`); print() is silent then
        yield
        return
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    try:
        with redirect_stdout(_Output(stream)) as output:
            yield
            output.flush()
    except OutputLost:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else Python fails again when it ends
        raise
