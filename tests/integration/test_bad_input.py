"""Bad input: one file or one flag is wrong in a sound world.

Every case must end with a status other than 0 and one clear line, without a traceback, and must leave all files as
they were: no output, no part of one, nothing temporary.
"""

import importlib
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
from helpers.bad_input_cases import BITEXT, CASES, ROOT, TRAIN, write
from helpers.sound_world import make_world

from ppa_fairseq.commands import main as cli
from ppa_fairseq.utils.errors import one_line

PROGRESS = re.compile(r"\[\d\d:\d\d[<,]")  # tqdm's times
# By fairseq-preprocess before it reads anything; by a training until the next one.
LEFT = {"fairseq-preprocess": {"out", "out/preprocess.log"}, "fairseq-train": {"checkpoints/.ppa-lock"}}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")
    make_world(root)
    return root


@pytest.fixture
def world(sound, tmp_path, monkeypatch):
    """A copy of the sound world, which is the current folder."""
    shutil.copytree(sound, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    return tmp_path / "world"


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def run(command: str, capfd) -> tuple[int | str | None, list[str]]:
    """Run a command in this process: exit status, and error output by lines without progress."""
    program, *arguments = shlex.split(command)
    capfd.readouterr()
    hooked = []
    try:
        status = cli.main(arguments) if program == "ppa" else run_fairseq(program, arguments)
    except SystemExit as error:
        status = error.code
    except BaseException as error:  # the excepthook of fairseq's process prints the line
        line = one_line(error)
        assert program != "ppa" and line, f"a traceback: {error!r}"
        status, hooked = 1, [line]
    errors = capfd.readouterr().err
    return status, [line for line in re.split("[\r\n]", errors) if line.strip() and not PROGRESS.search(line)] + hooked


def run_fairseq(program: str, arguments: list[str]) -> None:
    from fairseq import checkpoint_utils
    from fairseq.logging import metrics

    metrics.reset()
    vars(checkpoint_utils.save_checkpoint).pop("best", None)
    module = importlib.import_module(f"fairseq_cli.{program.removeprefix('fairseq-')}")
    log = logging.StreamHandler(sys.stdout)  # fairseq's own may write to the output of an earlier test
    with mock.patch.object(sys, "argv", [program, *arguments]), mock.patch.object(logging.root, "handlers", [log]):
        module.cli_main()


@pytest.mark.parametrize(("command", "change", "named"), CASES)
def test_bad_input_is_one_clear_line_and_leaves_nothing(world, capfd, command, change, named):
    change(world)
    before = snapshot(world)
    status, lines = run(command, capfd)
    line = lines[-1]
    assert status not in (0, None)
    assert all(part in line for part in named), line
    assert line.isprintable() and len(line) < 700, line
    if command.startswith("ppa"):
        assert lines == [line] if status == 1 else lines[0].startswith("usage: ppa"), lines
    after = snapshot(world)
    left = after.keys() - before.keys() - LEFT.get(command.split()[0], set())
    assert not left and all(after[name] == content for name, content in before.items())


def test_every_command_has_its_cases():
    programs = Counter()
    for command in (parameters.values[0] for parameters in CASES):
        program, name, *_ = command.split()
        programs[name if program == "ppa" else program] += 1
    every = [*cli.COMMANDS, "fairseq-train", "fairseq-validate", "fairseq-preprocess"]
    assert {name: programs[name] for name in every if programs[name] < 2} == {}


@pytest.mark.parametrize("command", [BITEXT, TRAIN], ids=["ppa", "fairseq-train"])
def test_a_process_of_its_own_ends_the_same_way(world, command):
    """In a locale that is not UTF-8."""
    for name in ("text/de-en.tsv", "bin/train.de-en.de.idx"):
        write(name, b"")(world)
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    program, *arguments = shlex.split(command)
    module = "ppa_fairseq.commands.main" if program == "ppa" else "fairseq_cli.train"
    start = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(start, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "error: " in done.stderr.rstrip().split("\n")[-1]
