"""Work spread over processes: results in order, a bounded number under way."""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from ppa_fairseq.errors import InputError


def ordered_map(
    pool: ProcessPoolExecutor, task: Callable, items: Iterable, at_once: int
) -> Iterator[tuple[object, object]]:
    """Every item with `task(item)`, in order; at most *at_once* items are in memory.

    Raises InputError if a worker process is killed.
    """
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(task, item)))
            if len(waiting) == at_once:
                item, future = waiting.popleft()
                yield item, future.result()
        while waiting:
            item, future = waiting.popleft()
            yield item, future.result()
    except BrokenProcessPool:
        raise InputError("a worker process was killed, out of memory perhaps; take fewer --workers") from None
    finally:
        for _, future in waiting:
            future.cancel()


def leave_interrupts_to_the_parent() -> None:
    """For a worker's start: on Ctrl-C the parent says one line, instead of a traceback from each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
