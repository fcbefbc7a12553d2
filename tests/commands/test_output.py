"""Standard output that is full, closed or limited to ASCII costs no result, and `ppa --help` is fast."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppa_fairseq.commands import main as cli

PROGRAM = """
import sys, types
from ppa_fairseq.commands import main as cli

def run(args):
    with open("result", "w") as file:
        file.write("whole")
    print("aä" * 9999)

sys.modules["command"] = types.SimpleNamespace(add_arguments=lambda parser: None, run=run)
cli.COMMANDS["fake"] = "command"
sys.exit(cli.main(["fake"]))
"""


@pytest.fixture
def run(tmp_path):
    """``run(stdout=…, VARIABLE="…")``: a command that writes a file and then prints."""
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}

    def run(stdout=subprocess.PIPE, preexec_fn=None, **environment):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            stdout=stdout, stderr=subprocess.PIPE, cwd=tmp_path, env=os.environ | path | environment,
            preexec_fn=preexec_fn,
        )  # fmt: skip
        assert (tmp_path / "result").read_text() == "whole"
        return done

    return run


def test_a_narrow_encoding_costs_no_result(run):
    done = run(PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and rb"a\xe4" in done.stdout, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_behind_the_output_is_one_line(run):
    with open("/dev/full", "wb") as full:
        done = run(stdout=full)
    assert done.returncode == 1
    message = "No space left on device; free some space and repeat the command; all files are whole or absent"
    assert done.stderr.decode() == f"ppa fake: error: {message}\n"


def test_a_closed_output_costs_no_result(run):
    assert run(preexec_fn=lambda: os.close(1)).returncode == 0


def test_a_broken_pipe_is_one_line(run):
    reader, writer = os.pipe()
    os.close(reader)
    done = run(stdout=writer)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr.decode() == "ppa fake: error: standard output: its reader has ended; all files are whole\n"


def test_help_lists_every_command_without_importing_it():
    program = "import sys; from ppa_fairseq.commands import main as cli\ntry: cli.main(['--help'])\nfinally: "
    program += "print([name for name in ('torch', 'fairseq', 'transformers', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("[]\n"), done.stderr
    assert all(f"\n  {name} " in done.stdout for name in cli.COMMANDS)


def test_an_unexpected_error_keeps_its_traceback(monkeypatch):
    def fail(args):
        raise ZeroDivisionError

    monkeypatch.setattr("ppa_fairseq.commands.embed.run", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main("embed --model a --input b --output c".split())
