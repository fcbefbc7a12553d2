"""Work spread over processes: results in order, a bounded number of items in memory."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from queue import SimpleQueue
from traceback import format_exc

from ppa_fairseq.utils.errors import InputError


class OrderedPool:
    """*workers* processes. Each calls `make_worker(*arguments)` at its first item, and what that returns on every item.

    A context manager. A thread of this process serves each worker and notices at once when the worker is killed:
    `ProcessPoolExecutor` and `multiprocessing.Pool` wait forever if that happens while a result is sent.
    """

    def __init__(self, workers: int, make_worker: Callable[..., Callable], *arguments):
        self.at_once = 3 * workers
        self.idle: SimpleQueue[Connection] = SimpleQueue()
        self.processes = []
        for _ in range(workers):
            ours, theirs = Pipe()
            self.processes.append(Process(target=_serve, args=(theirs, ours, make_worker, arguments), daemon=True))
            self.processes[-1].start()
            theirs.close()
            self.idle.put(ours)
        self.threads = ThreadPoolExecutor(workers)

    def __enter__(self) -> "OrderedPool":
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            process.kill()  # not SIGTERM: a process that has just begun still has this process's handler
        self.threads.shutdown(cancel_futures=True)

    def map(self, items: Iterable) -> Iterator[tuple[object, object]]:
        """Every item with its result, in order; at most three items per process are in memory.

        Raises InputError if a process is killed. An InputError or OSError of a worker is raised as it is, any other
        error and SystemExit as RuntimeError, with the traceback.
        """
        items, waiting = iter(items), deque()
        try:
            while True:
                for item in islice(items, self.at_once - len(waiting)):
                    waiting.append((item, self.threads.submit(self._call, item)))
                if not waiting:
                    return
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
            raise InputError("a worker process was killed, perhaps out of memory; use fewer --workers") from None
        finally:
            self.idle.put(process)
        if error is not None:
            raise error
        return result


def _serve(parent: Connection, parents_end: Connection, make_worker: Callable, arguments: tuple) -> None:
    # A worker inherits the parent's ends of the earlier workers, too: when the parent dies, the last worker ends first.
    parents_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes use the cores already
    worker = None
    with suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            item = parent.recv()
            try:
                worker = worker or make_worker(*arguments)
                answer = worker(item), None
            except (InputError, OSError) as error:
                answer = None, error
            except (Exception, SystemExit):  # not every exception can be sent, and none with its traceback
                answer = None, RuntimeError(f"in a worker process:\n{format_exc()}")
            parent.send(answer)
