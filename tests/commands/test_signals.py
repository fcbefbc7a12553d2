"""A command that a signal ends leaves no process and nothing incomplete."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.hf_folders import make_bert

from ppa_fairseq.commands._signals import ENDING, Stopped, stop_in_order


@pytest.fixture
def running(tmp_path):
    """`ppa prepare-bitext` with three workers at work, and their process ids."""
    (tmp_path / "hf").mkdir()
    make_bert(tmp_path / "hf")
    (tmp_path / "a.tsv").write_text("abcd efgh abcd efgh ab.\tefgh abcd efgh abcd ef.\n" * 300_000)
    command = [sys.executable, "-m", "ppa_fairseq.commands.main", "prepare-bitext", "de-en=a.tsv", "--tokenizer", "hf"]
    process = subprocess.Popen(
        [*command, "--out", "out", "--workers", "3", "--min-tokens", "1"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        # Under nohup the tests ignore SIGHUP, and the command would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    while "de-en: " not in process.stderr.read(40):  # the bar of the first batch
        assert process.poll() is None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [child for child in children if b"prepare-bitext" in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(workers) >= 3
    yield process, workers
    process.kill()
    for worker in filter(is_running, workers):
        os.kill(int(worker), signal.SIGKILL)
    process.communicate()


def is_running(number: str) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{number}/stat").read_text()  # in a container, zombies may stay
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_end(processes: list[str]) -> bool:
    for _ in range(100):
        if not any(map(is_running, processes)):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_signal_removes_incomplete_output_and_ends_workers(running, tmp_path, number):
    process, workers = running
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    assert errors.endswith(f"ppa prepare-bitext: stopped by {number.name}\n") and "Traceback" not in errors
    assert process.returncode == 128 + number
    assert all_end(workers)
    assert {path.name for path in tmp_path.iterdir()} == {"hf", "a.tsv"}


def test_workers_end_when_their_command_is_killed(running):
    process, workers = running
    process.kill()
    assert all_end(workers)
    assert "Traceback" not in process.communicate(timeout=60)[1]


def test_a_pool_that_is_left_at_once_ends():
    """A worker's first moments pass in Python's hooks after a fork, where exceptions of a handler are dropped."""
    program = """
from ppa_fairseq.commands._signals import stop_in_order
from ppa_fairseq.data.ordered_pool import OrderedPool
with stop_in_order():
    for _ in range(200):
        with OrderedPool(2, lambda: abs):
            pass
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)


def test_a_repeated_signal_does_not_interrupt_the_clean_up():
    before = signal.getsignal(signal.SIGTERM)
    cleaned = False
    with pytest.raises(Stopped), stop_in_order():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned = True
    assert cleaned and signal.getsignal(signal.SIGTERM) == before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_in_order():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
