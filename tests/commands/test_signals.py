"""A command that is ended by a signal leaves no process and, where it can still act, nothing half-written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.hf_folders import make_bert

from ppa_fairseq.commands import _signals as signals


@pytest.fixture
def running(tmp_path):
    """`ppa prepare-bitext` with three workers in the midst of its work, and the ids of these."""
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
        # Where the tests run under nohup, SIGHUP is ignored, and the command would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    while "de-en: " not in process.stderr.read(40):  # the bar of the first batch
        assert process.poll() is None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [child for child in children if b"prepare-bitext" in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(workers) >= 3
    yield process, workers
    process.kill()
    for worker in filter(runs, workers):
        os.kill(int(worker), signal.SIGKILL)
    process.communicate()


def runs(number: str) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{number}/stat").read_text()  # in a container, nobody may bury the dead
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_end(processes: list[str]) -> bool:
    for _ in range(100):
        if not any(map(runs, processes)):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", signals.ENDING, ids=lambda number: number.name)
def test_a_signal_ends_a_command_in_order(running, tmp_path, number):
    process, workers = running
    process.send_signal(number)
    told = process.communicate(timeout=60)[1]
    assert told.endswith(f"ppa prepare-bitext: stopped by {number.name}\n") and "Traceback" not in told
    assert process.returncode == 128 + number
    assert all_end(workers)
    assert {path.name for path in tmp_path.iterdir()} == {"hf", "a.tsv"}


def test_workers_end_when_their_command_is_killed(running):
    process, workers = running
    process.kill()
    assert all_end(workers)
    assert "Traceback" not in process.communicate(timeout=60)[1]


def test_a_pool_that_is_left_at_once_is_left():
    """A worker's first moments are in Python's hooks behind a fork, where what a handler raises is dropped."""
    program = """
from ppa_fairseq.commands import _signals as signals
from ppa_fairseq.data.ordered_pool import OrderedPool
with signals.ending_in_order():
    for _ in range(200):
        with OrderedPool(2, lambda: abs):
            pass
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)


def test_a_repeated_signal_does_not_cut_the_way_out_short():
    before = signal.getsignal(signal.SIGTERM)
    left = False
    with pytest.raises(signals.Stopped, match="stopped by SIGTERM"), signals.ending_in_order():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            left = True
    assert left and signal.getsignal(signal.SIGTERM) == before


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.ending_in_order():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
