"""Memory of a training on the CPU, which glibc would let grow to several times what is in use."""

import ctypes
import functools


@functools.cache
def _malloc_trim():
    """glibc's malloc_trim; None where the C library has none (musl, macOS)."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def return_freed() -> None:
    """Give freed memory back to the system.

    Batches of ever other lengths leave gaps in the heap that no later tensor fits. Called every few updates, this keeps
    a training's memory flat, for some per cent of its time; without, it was seen to reach three times as much in 75.
    """
    if trim := _malloc_trim():
        trim(0)
