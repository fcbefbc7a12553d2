"""The recipes in scripts/ tell how they are called, and work from any folder. Nothing is trained or downloaded."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TRAININGS = {"align": "250k", "finetune_xnli": "zero-shot", "finetune_mlqa": "zero-shot"}
RECIPES = [*TRAININGS, "prepare_bitext", "prepare_xnli", "prepare_mlqa"]


def run(folder, name, *arguments, **environment):
    command = ["bash", SCRIPTS / f"{name}.sh", *arguments]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", RECIPES)
def test_help_is_the_head_of_the_script(tmp_path, name):
    head = (SCRIPTS / f"{name}.sh").read_text("utf-8").partition("\nset -")[0].splitlines()[1:]
    text = "".join(f"{line[2:]}\n" for line in head)
    told = {flag: run(tmp_path, name, *flag.split()) for flag in ("--help", "-h", "")}
    assert [(done.returncode, done.stdout, done.stderr) for done in told.values()] == [
        (0, text, ""),
        (0, text, ""),
        (2, "", text),
    ]


@pytest.mark.parametrize(("name", "how"), TRAININGS.items())
@pytest.mark.parametrize("chosen", [None, "mine"])
def test_a_training_is_started_from_any_folder(tmp_path, name, how, chosen):
    commands = {"ppa": 'printf "%s\\n" "$@"', "python": '[ "$1" = -c ] && echo 0 || { [ -f "$1" ] && echo 100; }'}
    for command, line in commands.items():
        (tmp_path / command).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / command).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | ({"SAVE_DIR": chosen} if chosen else {})
    done = run(tmp_path, name, how, "data", "imported", **environment)
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert Path(words[words.index("--user-dir") + 1]).samefile(SCRIPTS.parent / "ppa_fairseq")
    default = f"runs/{name.rpartition('_')[2]}-{how}"
    assert words[words.index("--save-dir") + 1] == (chosen or default)


def test_the_quickstarts_folders_are_the_callers(tmp_path):
    """Its set-up, which comes next, refuses a folder that is no environment of its own."""
    (tmp_path / "mbert").mkdir()
    done = run(tmp_path, "quickstart", "--base", "mbert", PPA_VENV=str(tmp_path))
    assert "setup: error" in done.stderr
