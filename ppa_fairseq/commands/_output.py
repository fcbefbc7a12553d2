"""Standard output that cannot take what is printed: told as such, and not as a failure of the files."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from ppa_fairseq.utils.errors import InputError


class OutputLost(InputError):
    """Nothing more can be printed."""


class Output:
    """A stream whose failures are `OutputLost`."""

    def __init__(self, stream: io.TextIOBase):
        self.stream = stream

    def write(self, text: str) -> int:
        with told():
            return self.stream.write(text)

    def flush(self) -> None:
        with told():
            self.stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


@contextmanager
def told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"standard output: {error.strerror}: the end of it is lost; every file is whole or absent"
        raise OutputLost(message) from None


@contextmanager
def printing() -> Iterator[None]:
    """Let all that is printed in the block go out by its end, and what the encoding lacks be shown as on stderr."""
    stream = sys.stdout
    if stream is None:  # closed before the start (`>&-`): Python's print is silent then
        yield
        return
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    output = Output(stream)
    try:
        with redirect_stdout(output):
            yield
            output.flush()
    except OutputLost:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else Python fails again at its end
        raise
