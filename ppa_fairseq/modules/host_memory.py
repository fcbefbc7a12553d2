"""Memory that a process takes from the host: what it gave up is returned, a hostile file gets no more than its due."""

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OWN_PAGES = 4 << 20  # bytes from which a tensor has pages of its own
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h has them


@functools.cache
def _of_glibc(name: str):
    """malloc_trim or mallopt; None where the C library has none (musl, macOS)."""
    return getattr(ctypes.CDLL(None), name, None)


def keep_heap_small() -> None:
    """Let large tensors on the CPU have pages of their own, huge ones where the system has them to give.

    In the heap, tensors of ever other sizes leave ever more gaps: a training's heap was seen to double in 20 minutes,
    and with it the pages that every update takes anew. Call it before the first of them.
    """
    if mallopt := _of_glibc("mallopt"):
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's own switch
        mallopt(M_MMAP_THRESHOLD, OWN_PAGES)  # glibc's own limit moves up to 32 MiB
        mallopt(M_TRIM_THRESHOLD, 1 << 30)  # what is freed at the heap's end is given back by return_freed alone


def return_freed() -> None:
    """Give freed memory back to the system.

    Batches of ever other lengths leave gaps in the heap that no later tensor fits. Called every few updates, this keeps
    a training's memory flat, for some per cent of its time; without, it was seen to reach three times as much in 75.
    """
    if trim := _of_glibc("malloc_trim"):
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
