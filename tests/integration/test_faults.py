"""A full disk or a folder that cannot be written to is one line; no checkpoint and no earlier output is lost."""

import errno
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import bad_input_cases as sound
from helpers.sound_world import make_world

from ppa_fairseq.checkpoints.weights import load_pickle
from ppa_fairseq.commands import main as cli
from ppa_fairseq.utils.errors import InputError, one_line

NOWHERE = Path("/sys/ppa")  # a file system in which nobody, not even root, makes a folder
SAVES = ["--save-interval-updates", "2", "--keep-interval-updates", "1", "--disable-validation", "--log-interval", "1"]
COMMANDS = (
    *(sound.IMPORT, sound.FIT, sound.EXPORT, sound.TRIM, sound.BITEXT, sound.XNLI, sound.QA, sound.BINARIZE),
    *(sound.RETRIEVE, sound.EMBED, sound.PROBE, sound.ALIGN, sound.PERPLEXITY, sound.CLASSIFY, sound.ANSWER),
    *(sound.ONNX, sound.MINE, sound.MARGINS, sound.TOPICS, sound.TAGS, sound.CLASSIFY_TOPICS, sound.TAG),
)
# Full disks in the words of safetensors, torch and tokenizers, without the system's number.
LIBRARIES = ("SafetensorError(", "OSError(", "Exception('File too large")
FULL = "free some space and repeat the command; all files are whole or absent"


def updates(checkpoint: Path) -> int:
    return load_pickle(checkpoint)["optimizer_history"][-1]["num_updates"]


def test_a_full_disk_ends_training_and_keeps_the_last_checkpoint(train, tmp_path):
    train("--max-update", "4", *SAVES)
    folder = tmp_path / "checkpoints"
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))  # a checkpoint has 170,000 bytes
    try:
        with pytest.raises(OSError) as caught:
            train("--max-update", "8", *SAVES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert one_line(caught.value).endswith(FULL)
    assert updates(folder / "checkpoint_last.pt") == updates(folder / "checkpoint_1_4.pt") == 4
    train("--max-update", "8", *SAVES)  # there is room again
    assert updates(folder / "checkpoint_last.pt") == 8 and not list(folder.glob("*.tmp"))


def test_a_disk_that_is_full_for_a_moment_costs_no_checkpoint(train, tmp_path, monkeypatch):
    """fairseq's second attempt writes into the same file, behind the first part, where nobody can read it."""
    from fairseq import checkpoint_utils

    train("--max-update", "4", *SAVES)
    save, failed = torch.save, []

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, content):
            if self.file.tell() > 10_000:
                failed.append(True)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(content)

    def fail_once(content, file):
        save(content, file if failed else Full(file))

    monkeypatch.setattr(checkpoint_utils.torch, "save", fail_once)
    monkeypatch.setattr(checkpoint_utils.time, "sleep", lambda seconds: None)
    with pytest.raises(InputError):
        train("--max-update", "8", *SAVES)
    assert failed
    assert all(updates(path) == 4 for path in (tmp_path / "checkpoints").glob("*.pt"))


def test_a_folder_that_cannot_be_written_to_is_named_before_training(train):
    with pytest.raises(OSError) as caught:
        train("--max-update", "4", save_dir=NOWHERE)
    assert one_line(caught.value).startswith(f"{NOWHERE}: ")


PROGRAM = """
import contextlib, io, json, resource, sys
from ppa_fairseq.commands import main as cli
for name, command, limit in json.loads(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        try:
            status = cli.main(command.split())
        except BaseException as error:
            status = repr(error)
    print(json.dumps([status, (errors.getvalue().splitlines() or [""])[-1]]), flush=True)
"""


def snapshot(output: Path) -> dict[str, bytes]:
    """The files of an output, a file or a folder, by name."""
    return {str(path): path.read_bytes() for path in (output, *output.rglob("*")) if path.is_file()}


def test_every_command_keeps_its_earlier_output_on_a_full_disk(tmp_path, monkeypatch):
    """Each runs again when no file may be as large as its largest, and once more into a folder that takes nothing."""
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    earlier, runs = {}, []
    for command in COMMANDS:
        name = command.split()[1]
        command = re.sub(r" out(\.npy)?(?= |$)", " {out}", command.removeprefix("ppa "))
        assert cli.main(command.format(out=f"new/{name}").split()) == 0, name
        earlier[name] = snapshot(Path("new", name))
        largest = max(map(len, earlier[name].values()))
        runs.append((name, command.format(out=f"new/{name}"), largest // 2))
        runs.append((name, command.format(out=NOWHERE / name), 1 << 30))
    assert earlier.keys() == cli.COMMANDS.keys()
    run = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(runs)], stdout=subprocess.PIPE)
    done = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(done) == len(runs)
    for (name, command, _), (status, last) in zip(runs, done, strict=True):
        if str(status).startswith(LIBRARIES):
            continue
        assert status == 1 and last.startswith(f"ppa {name}: error: "), (name, status, last)
        assert f" {NOWHERE}" in last if str(NOWHERE) in command else last.endswith(FULL), last
    assert {name: snapshot(Path("new", name)) for name in earlier} == earlier
    assert {path.name for path in Path("new").iterdir()} == earlier.keys()
