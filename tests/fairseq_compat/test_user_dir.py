"""`ppa_fairseq` imported before fairseq sees `--user-dir`."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.training import TINY_TRAINING

PACKAGE = Path(__file__).parents[2] / "ppa_fairseq"


@pytest.mark.parametrize("first", ["ppa_fairseq", "ppa_fairseq.utils.files"])
def test_user_dir_registers_tasks_after_an_import(data_bin, tmp_path, first):
    flags = [str(data_bin), *TINY_TRAINING, "--max-update", "1", "--disable-validation", "--save-dir", str(tmp_path)]
    flags[flags.index("--user-dir") + 1] = str(PACKAGE)
    program = f"import {first}; from fairseq_cli.train import cli_main; cli_main()"
    done = subprocess.run([sys.executable, "-c", program, *flags], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "checkpoint_last.pt").exists()


def test_user_dir_of_another_folder_is_refused(tmp_path):
    (tmp_path / "ppa_fairseq").mkdir()
    program = f"""
import argparse, ppa_fairseq
from fairseq.utils import import_user_module
import_user_module(argparse.Namespace(user_dir="{tmp_path}/ppa_fairseq"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert "not globally unique" in done.stderr.splitlines()[-1]
