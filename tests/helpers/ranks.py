"""Trainings on several ranks, as torchrun would start them, from one process that has everything imported already."""

import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NamedTuple

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["fairseq_cli.train", "ppa_fairseq.tasks.ppa_alignment"])
PATIENCE = 60  # seconds in which the others end when one rank has


class Rank(NamedTuple):
    exitcode: int  # negative: the signal
    output: str  # stdout and stderr, without torch's "[rank0]: "
    error: str  # its last line, as a user sees it


def train_on_ranks(count: int, argv: list[str], folder: Path, in_rank=None, stopped: int | None = None) -> list[Rank]:
    """fairseq-train with *argv* on *count* ranks; *in_rank* (picklable) is called in each, with its number.

    Fails if ranks are left when the first one has ended for a minute. Rank *stopped* is not waited for, but killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    logs = [folder / f"rank{rank}.log" for rank in range(count)]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    ranks = [
        FORKSERVER.Process(
            target=_run,
            args=([*argv, "--save-dir", str(folder)], shared | {"RANK": str(n), "LOCAL_RANK": str(n)}, log, in_rank),
        )
        for n, log in enumerate(logs)
    ]
    for rank in ranks:
        rank.start()
    awaited = [rank for number, rank in enumerate(ranks) if number != stopped]
    try:
        multiprocessing.connection.wait([rank.sentinel for rank in awaited], timeout=300)
        end = time.monotonic() + PATIENCE
        for rank in awaited:
            rank.join(max(0, end - time.monotonic()))
        left = [number for number, rank in enumerate(ranks) if rank.is_alive() and number != stopped]
        assert not left, f"ranks {left} go on:\n" + logs[left[0]].read_text()[-2000:]
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    outputs = [re.sub(r"^\[rank\d+\]: ", "", log.read_text(), flags=re.MULTILINE) for log in logs]
    return [
        Rank(rank.exitcode, output, (output.splitlines() or [""])[-1])
        for rank, output in zip(ranks, outputs, strict=True)
    ]


def _run(argv: list[str], environment: dict[str, str], log: Path, in_rank) -> None:
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1, 2)
    from fairseq_cli.train import cli_main

    if in_rank:
        in_rank(int(environment["RANK"]))
    sys.argv = ["fairseq-train", *argv]
    try:
        cli_main()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)


def at_update(number: int, rank: int, happens) -> None:
    """Let *happens* be called with the model when weights, momentum encoder and queue have moved in update *number*."""
    from ppa_fairseq.models.ppa import PPAModel

    succeeded, updates = PPAModel.update_succeeded, []

    def moved(model):
        succeeded(model)
        updates.append(rank)
        if len(updates) == number:
            happens(model)

    PPAModel.update_succeeded = moved


def signal_oneself(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
