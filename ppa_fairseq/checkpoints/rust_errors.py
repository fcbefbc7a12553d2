"""What the tokenizers library raises: bare Exceptions, and where its Rust code panics no Exception at all."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ppa_fairseq.utils.errors import InputError


@contextmanager
def told_as(source: str) -> Iterator[None]:
    """Raise InputError, which names *source* as what cannot be read, for whatever the library raises in the block."""
    try:
        with _no_notice_of_panics():
            yield
    except InputError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        fault = " ".join(str(error).split())[:200]
        fault = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in fault)
        raise InputError(f"{source}: cannot be read ({fault}); fetch it again") from None


@contextmanager
def _no_notice_of_panics() -> Iterator[None]:
    """Rust writes its own lines on a panic to the process's error output, below Python."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    if sys.stderr:
        sys.stderr.flush()
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
