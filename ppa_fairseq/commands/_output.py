"""Standard output that may be full, closed or limited to ASCII."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ppa_fairseq.utils.errors import InputError


@contextmanager
def safe_stdout() -> Iterator[None]:
    """Raise InputError if nobody reads standard output any more; escape characters that its encoding lacks."""
    if sys.stdout is None:  # closed from the start (`>&-`); print() is silent then
        yield
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.ENOSPC):
            with suppress(OSError):  # else Python fails again when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            raise InputError("standard output: its reader has ended; all files are whole") from error
        raise
