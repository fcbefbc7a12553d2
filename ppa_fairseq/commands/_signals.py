"""A signal that ends a command lets it remove what it had begun to write, and stop its processes."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGTERM, signal.SIGHUP)  # of `kill`, a scheduler, a lost connection; Ctrl-C is Python's own


class Stopped(SystemExit):
    """A signal came. `code` is the exit status that a shell gives for it."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.name = signal.Signals(number).name

    def __str__(self) -> str:
        return f"stopped by {self.name}"


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let signals raise `Stopped` in the block, but for those that are ignored (nohup) or handled already."""
    own = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in own:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, _) -> None:
    for each in ENDING:  # `timeout` sends it twice, the end of a session both: that must not cut the way out short
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)
