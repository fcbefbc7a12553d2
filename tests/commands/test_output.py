"""What a command prints: an encoding or a disk that cannot take it costs no result, and is told in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.hf_folders import make_bert


@pytest.fixture
def ppa(tmp_path):
    """``ppa("retrieve …", stdout=…, VARIABLE="…")``: a process in a folder with a model and a text."""
    (tmp_path / "hf").mkdir()
    make_bert(tmp_path / "hf")
    rows = [f"{chr(97 + i)}bc abcd\tabc {chr(97 + i)}bcd\n" for i in range(8)]
    (tmp_path / "de-en.tsv").write_text("".join(rows))
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}

    def run(command: str, stdout=subprocess.PIPE, preexec_fn=None, **environment):
        return subprocess.run(
            [sys.executable, "-m", "ppa_fairseq.commands.main", *command.split()],
            stdout=stdout, stderr=subprocess.PIPE, cwd=tmp_path, env=os.environ | path | environment,
            preexec_fn=preexec_fn,
        )  # fmt: skip

    return run


def test_a_narrow_encoding_costs_no_result(ppa, tmp_path):
    command = "retrieve --model aä=hf --pairs de-en.tsv --output out --cpu"
    done = ppa(command, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert rb"a\xe4" in done.stdout
    assert "aä" in (tmp_path / "out/table.md").read_text("utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_full_disk_behind_the_output_is_not_taken_for_that_of_the_files(ppa, tmp_path):
    command = "prepare-bitext de-en=de-en.tsv --tokenizer hf --out out --min-tokens 1 --valid-share 0 --workers 1"
    with open("/dev/full", "wb") as full:
        done = ppa(command, stdout=full)
    last = done.stderr.decode().splitlines()[-1]
    assert done.returncode == 1 and b"Exception ignored" not in done.stderr
    assert last.startswith("ppa prepare-bitext: error: standard output: No space left on device: the end of it is lost")
    assert (tmp_path / "out/statistics.json").exists()


def test_a_closed_output_costs_no_result(ppa, tmp_path):
    done = ppa("retrieve --model a=hf --pairs de-en.tsv --output out --cpu", preexec_fn=lambda: os.close(1))
    assert done.returncode == 0 and (tmp_path / "out/table.md").exists(), done.stderr


def test_a_reader_that_is_gone_is_told_in_one_line(ppa):
    reader, writer = os.pipe()
    os.close(reader)
    done = ppa("retrieve --model a=hf --pairs de-en.tsv --cpu", stdout=writer)
    os.close(writer)
    assert done.returncode == 1 and b"Exception ignored" not in done.stderr and b"Traceback" not in done.stderr
    assert done.stderr.decode().splitlines()[-1].startswith("ppa retrieve: error: standard output: Broken pipe")
