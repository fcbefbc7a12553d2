"""Signals that end a command, but let it first remove incomplete output and stop its processes."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGTERM, signal.SIGHUP)  # from `kill`, a scheduler, a lost connection; Python handles Ctrl-C


class Stopped(SystemExit):
    """A signal arrived. `code` is the exit status that a shell reports for it."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


@contextmanager
def stop_in_order() -> Iterator[None]:
    """Let signals raise `Stopped` in the block, except those that are ignored (nohup) or handled already."""
    own = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in own:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, _) -> None:
    for each in ENDING:  # `timeout` sends SIGTERM twice, the end of a session sends both; let the clean-up finish
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)
