"""Errors that a user reads as one line; every other error keeps its traceback."""

import errno
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ADVICE = {
    errno.ENOTDIR: "a part of this path is a file; choose another path",
    errno.EISDIR: "give a file",
    errno.ENOENT: "give an existing path",
    errno.EACCES: "choose another path or change its permissions",
    errno.EROFS: "choose another path",
}


class InputError(Exception):
    """Bad input. The message says where (file:line), what is wrong and what to do."""


@contextmanager
def about_model(name: str) -> Iterator[None]:
    """Let an InputError of this block name the model, one of several, that it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"model {name}: {error}") from error


def quote(value: object) -> str:
    """Return the `repr` of *value* for a message: shortened, without control characters."""
    return _short.repr(value)


_short = reprlib.Repr()
_short.maxlevel, _short.maxdict, _short.maxlist, _short.maxstring, _short.maxother = 3, 3, 3, 80, 80


def one_line(error: BaseException | None) -> str | None:
    """Return the line that a user reads instead of a traceback; None if the traceback helps more."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.filename and error.errno not in DISK_FULL:
        return _describe(error, ADVICE.get(error.errno))
    while error and not (isinstance(error, OSError) and error.errno in DISK_FULL):
        error = error.__cause__ or error.__context__  # torch raises an error of its own after it
    return _describe(error, "free some space and repeat the command; all files are whole or absent") if error else None


def _describe(error: OSError, advice: str | None) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}" + (f"; {advice}" if advice else "")
