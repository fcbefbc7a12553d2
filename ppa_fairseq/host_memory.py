"""Memory that a process takes from the host: what it gave up is returned, a hostile file gets no more than its due."""

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


@contextmanager
def at_most(more: int) -> Iterator[None]:
    """In this block allocations fail once the process has taken *more* bytes than before; on Linux alone.

    Mapped files that can be written to count as well.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    lower = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([used + more, *lower]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
