"""Work spread over processes: results in order, a bounded number of items in memory."""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import Pipe, Process, get_start_method
from multiprocessing.connection import Connection
from queue import SimpleQueue

from ppa_fairseq.utils.errors import InputError


class OrderedPool:
    """*workers* processes that each run `setup(*arguments)` once, then *task* on the items they get.

    A context manager. Each process is served by a thread here, which learns at once when it is killed:
    `ProcessPoolExecutor` can wait forever then (before Python 3.12), and so can `multiprocessing.Pool`. And each
    learns when this process is killed, and ends.
    """

    def __init__(self, workers: int, task: Callable, setup: Callable | None = None, arguments: tuple = ()):
        self.at_once = 3 * workers
        self.idle: SimpleQueue[Connection] = SimpleQueue()
        self.processes = []
        parents_ends: list[Connection] = []
        for _ in range(workers):
            ours, theirs = Pipe()
            if get_start_method() == "fork":  # else nothing is inherited
                parents_ends.append(ours)
            serving = (theirs, parents_ends, task, setup, arguments)
            self.processes.append(Process(target=_serve, args=serving, daemon=True))
            self.processes[-1].start()
            theirs.close()
            self.idle.put(ours)
        self.threads = ThreadPoolExecutor(workers)

    def __enter__(self) -> "OrderedPool":
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            process.kill()  # SIGTERM may be lost: one that has just begun has this process's handler
        self.threads.shutdown(cancel_futures=True)
        for process in self.processes:
            process.join()

    def map(self, items: Iterable) -> Iterator[tuple[object, object]]:
        """Every item with its result, in order; at most three items a process are in memory.

        Raises what the task raised, and InputError if a process is killed.
        """
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append((item, self.threads.submit(self._call, item)))
                if len(waiting) == self.at_once:
                    item, future = waiting.popleft()
                    yield item, future.result()
            while waiting:
                item, future = waiting.popleft()
                yield item, future.result()
        finally:
            for _, future in waiting:
                future.cancel()

    def _call(self, item: object) -> object:
        process = self.idle.get()
        try:
            process.send(item)
            result, error = process.recv()
        except (EOFError, ConnectionError):
            message = "a worker process was killed, out of memory perhaps; take fewer --workers"
            raise InputError(message) from None
        finally:
            self.idle.put(process)
        if error is not None:
            raise error
        return result


def _serve(
    parent: Connection, parents_ends: list[Connection], task: Callable, setup: Callable | None, arguments: tuple
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    for end in parents_ends:  # inherited; while any process holds such an end, its pipe tells of no death
        end.close()
    if setup:
        setup(*arguments)
    with suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            item = parent.recv()
            try:
                answer = task(item), None
            except Exception as error:
                answer = None, error
            parent.send(answer)
