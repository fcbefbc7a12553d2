"""Bad input: one file broken, or one flag wrong, in a world that is sound otherwise.

Every case must end with a status that is not 0 and one clear line, without a traceback, and must leave all files as
they were: no output, no half of one, nothing temporary.
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
from helpers import bad_flag_cases, bad_input_cases
from helpers.bad_input_cases import ALIGN, BINARIZE, BITEXT, CLASSIFY, EMBED, PERPLEXITY, ROOT, TRAIN, write
from helpers.sound_world import make_world

from ppa_fairseq.commands import main as cli
from ppa_fairseq.utils import errors
from ppa_fairseq.utils.files import atomic_path

CASES = bad_input_cases.CASES + bad_flag_cases.CASES
PROGRESS = re.compile(r"\[\d\d:\d\d[<,]")  # tqdm's times
NO_LINE = "Traceback|panicked|Logging error"
# By fairseq-preprocess, before all; and, where the text is what is wrong, the half that it had written by then.
LEFT_BY_FAIRSEQ = {"out", "out/preprocess.log", "out/dict.de.txt", "out/dict.en.txt", "out/train.de-en.de.bin"}


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


def run(command: str, capfd) -> tuple[int | str | None, list[str], str]:
    """Run a command in this process: exit status, error output by lines without progress, and all of its output."""
    program, *arguments = shlex.split(command)
    capfd.readouterr()
    hooked = []
    try:
        if program == "ppa":
            status = cli.main(arguments)
        else:
            run_fairseq(program, arguments)
            status = 0
    except SystemExit as error:
        status = error.code
    except BaseException as error:  # what ppa_fairseq's excepthook makes of it
        line = errors.one_line(error)
        assert program != "ppa" and line, f"a traceback: {error!r}"
        status, hooked = 1, [line]
    output, told = capfd.readouterr()
    lines = [line for line in re.split("[\r\n]", told) if line.strip() and not PROGRESS.search(line)]
    return status, lines + hooked, output + told


def run_fairseq(program: str, arguments: list[str]) -> None:
    from fairseq import checkpoint_utils
    from fairseq.logging import metrics

    for task in ("ppa_alignment", "xnli_codeswitch", "mlqa_codeswitch"):
        importlib.import_module(f"ppa_fairseq.tasks.{task}")  # fairseq does it where the package is not imported yet
    metrics.reset()
    vars(checkpoint_utils.save_checkpoint).pop("best", None)
    module = importlib.import_module(f"fairseq_cli.{program.removeprefix('fairseq-')}")
    log = logging.StreamHandler(sys.stdout)  # fairseq's own, if it was imported before, is of another test's output
    with mock.patch.object(sys, "argv", [program, *arguments]), mock.patch.object(logging.root, "handlers", [log]):
        module.cli_main()


@pytest.mark.parametrize(("command", "change", "told"), CASES)
def test_bad_input_is_one_clear_line_and_leaves_nothing(world, capfd, caplog, command, change, told):
    caplog.set_level(logging.INFO)
    change(world)
    before = snapshot(world)
    status, lines, output = run(command, capfd)
    line = lines[-1]
    assert status not in (0, None)
    assert all(part in line for part in told), line
    assert line.isprintable() and len(line) < 700, line
    assert not re.search(NO_LINE, output), output
    if command.startswith("ppa"):
        assert lines == [line] if status == 1 else lines[0].startswith("usage: ppa"), lines
    after = snapshot(world)
    left = after.keys() - before.keys() - (LEFT_BY_FAIRSEQ if "preprocess" in command else set())
    assert not left and all(after[name] == content for name, content in before.items())


def test_every_command_has_its_cases():
    """At least three for each command, and for each task of fairseq-train; sixty in all."""
    counts = Counter()
    for command in (parameters.values[0] for parameters in CASES):
        program, *arguments = command.split()
        counts[arguments[0] if program == "ppa" else program] += 1
        if program == "fairseq-train":
            counts[arguments[arguments.index("--task") + 1]] += 1
    tasks = {"ppa_alignment", "xnli_codeswitch", "mlqa_codeswitch"}
    wanted = {*cli.COMMANDS, "fairseq-train", "fairseq-validate", "fairseq-preprocess", *tasks}
    assert {name: counts[name] for name in wanted if counts[name] < 3} == {}
    assert len(CASES) >= 60


@pytest.mark.parametrize("command", [BITEXT, TRAIN], ids=["ppa", "fairseq-train"])
def test_a_process_of_its_own_ends_the_same_way(world, command):
    """The exit status and the whole error output, in a locale that is not UTF-8."""
    for name in ("text/de-en.tsv", "bin/train.de-en.de.idx"):
        write(name, b"")(world)
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    program, *arguments = shlex.split(command)
    module = "ppa_fairseq.commands.main" if program == "ppa" else "fairseq_cli.train"
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 1
    assert not re.search(NO_LINE, done.stdout + done.stderr)
    assert "error: " in done.stderr.rstrip().split("\n")[-1]


def test_an_error_without_a_word_is_not_taken_for_fairseqs():
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError
    assert errors.one_line(raised.value) is None


@pytest.mark.parametrize(
    "command",
    [
        EMBED.replace("text/a.de", "{}"),
        PERPLEXITY.replace("text/a.de", "{}"),
        ALIGN.replace("text/de-en.tsv", "{}"),
        ALIGN + " --gold {}",
        CLASSIFY.replace("--data nli", "--data en={}"),
    ],
    ids=["embed --input", "perplexity --text", "word-align --text", "word-align --gold", "evaluate-xnli --data"],
)
def test_a_pipe_is_told_as_what_it_is(world, capfd, command):
    """As `<(zcat …)` of the shell, and /dev/stdin, are."""
    before = snapshot(world)
    reading, writing = os.pipe()
    os.write(writing, b"ab ||| ab\n")
    os.close(writing)
    pipe = f"/dev/fd/{reading}"
    status, lines, _ = run(command.format(pipe), capfd)
    os.close(reading)
    assert status == 1 and len(lines) == 1 and f"{pipe}: is a pipe, which cannot be read twice" in lines[0]
    assert snapshot(world) == before


def test_a_file_never_replaces_a_folder(world):
    before = snapshot(world)
    with pytest.raises(errors.InputError, match="full: is a folder"), atomic_path("full") as beside:
        beside.write_text("new")
    assert snapshot(world) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
@pytest.mark.parametrize("command", [BITEXT, EMBED, CLASSIFY, BINARIZE])
def test_what_may_not_be_read_or_written_is_told(world, capfd, command):
    world.chmod(0o555)
    status, lines, _ = run(command, capfd)
    world.chmod(0o755)
    assert status == 1 and len(lines) == 1 and "Permission denied" in lines[0]
