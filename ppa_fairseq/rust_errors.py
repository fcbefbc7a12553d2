"""What the tokenizers library raises: bare Exceptions, and where its Rust code panics no Exception at all."""

from collections.abc import Iterator
from contextlib import contextmanager

from ppa_fairseq.errors import InputError


@contextmanager
def told_as(source: str) -> Iterator[None]:
    """Raise InputError, which names *source* as what cannot be read, for whatever the library raises in the block."""
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        fault = " ".join(str(error).split())[:200]
        fault = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in fault)
        raise InputError(f"{source}: cannot be read ({fault}); fetch it again") from None
