"""Trainings in children of this process, which has everything imported already: to kill, or on several ranks."""

import functools
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from helpers.training import run_training

TIMEOUT = 300  # seconds
PATIENCE = 60  # seconds in which the other ranks end when one has
LOG_FORMAT = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"


class Forked:
    """A function in a child process, which writes its output to *log*."""

    def __init__(self, function: Callable[[], object], log: Path):
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.exitcode: int | None = None  # negative: the signal
        self.pid = os.fork()
        if not self.pid:
            self._run(function)
        with suppress(OSError):  # it has ended
            os.setpgid(self.pid, self.pid)
        os.close(self.output)

    def _run(self, function: Callable[[], object]) -> None:
        from ppa_fairseq.fairseq_compat.environment import prepare

        code = 1
        try:
            os.setpgid(0, 0)  # with the data workers that it will have
            os.dup2(self.output, 1)
            os.dup2(self.output, 2)
            sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = open(1, "w", buffering=1)
            logging.basicConfig(format=LOG_FORMAT, level=logging.INFO, stream=sys.stdout, force=True)
            prepare()
            function()
            code = 0
        except SystemExit as end:
            code = int(bool(end.code))
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        if self.exitcode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.exitcode = os.waitstatus_to_exitcode(status)
        return self.exitcode

    def wait(self, seconds: float = TIMEOUT) -> int | None:
        """Wait until it has ended, at most so long; returns its exit code."""
        give_up = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < give_up:
            time.sleep(0.01)
        return self.exitcode

    def kill(self) -> None:
        """Kill it, and its data workers if it has any."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()


class Rank(NamedTuple):
    exitcode: int
    output: str  # stdout and stderr, without torch's "[rank0]: "
    error: str  # its last line, as a user sees it


def start_ranks(count: int, argv: list[str], folder: Path, logs: list[Path], in_rank=None) -> list[Forked]:
    """Start fairseq-train with *argv* on *count* ranks, as torchrun does; call *in_rank* in each with its number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])

    def run(rank: int) -> None:
        if count > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        if in_rank:
            in_rank(rank)
        run_training(argv, folder)

    return [Forked(functools.partial(run, rank), log) for rank, log in enumerate(logs)]


def train_on_ranks(count: int, argv: list[str], folder: Path, in_rank=None, stopped: int | None = None) -> list[Rank]:
    """Run `start_ranks` to its end.

    Fails if ranks are left when the first one has ended for a minute. Rank *stopped* is not waited for, but killed.
    """
    logs = [folder / f"rank{rank}.log" for rank in range(count)]
    ranks = start_ranks(count, argv, folder, logs, in_rank)
    awaited = [rank for number, rank in enumerate(ranks) if number != stopped]
    try:
        give_up = time.monotonic() + TIMEOUT
        while all(rank.poll() is None for rank in awaited) and time.monotonic() < give_up:
            time.sleep(0.05)
        left = [rank for rank in awaited if rank.wait(PATIENCE) is None]
        assert not left, f"a rank goes on:\n{left[0].log.read_text()[-2000:]}"
    finally:
        for rank in ranks:
            rank.kill()
    outputs = [re.sub(r"^\[rank\d+\]: ", "", log.read_text(), flags=re.MULTILINE) for log in logs]
    return [
        Rank(rank.exitcode, output, (output.splitlines() or [""])[-1])
        for rank, output in zip(ranks, outputs, strict=True)
    ]


def at_update(number: int, happens) -> None:
    """Let *happens* be called with the model when weights, momentum encoder and queue have moved in update *number*."""
    from ppa_fairseq.models.ppa import PPAModel

    succeeded, updates = PPAModel.update_succeeded, []

    def moved(model):
        succeeded(model)
        updates.append(model)
        if len(updates) == number:
            happens(model)

    PPAModel.update_succeeded = moved
