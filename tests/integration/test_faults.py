"""Disk full, folders that cannot be written to, data that vanish: told in one line, and no checkpoint is lost."""

import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.hf_folders import make_bert
from helpers.tiny_folder import make_folder
from transformers import BertForQuestionAnswering, BertForSequenceClassification

from ppa_fairseq.checkpoints.weights import load_pickle
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.nli.reader import LABELS
from ppa_fairseq.utils.errors import InputError, one_line

NOWHERE = Path("/sys/ppa")  # a file system in which nobody, not even root, makes a folder
SAVES = ["--save-interval-updates", "2", "--keep-interval-updates", "1", "--disable-validation", "--log-interval", "1"]
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


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
        resource.setrlimit(resource.RLIMIT_FSIZE, UNLIMITED)
    told = one_line(caught.value)
    assert told.startswith("[Errno 27] File too large: nothing more can be written") and "\n" not in told
    assert updates(folder / "checkpoint_last.pt") == updates(folder / "checkpoint_1_4.pt") == 4
    train("--max-update", "8", *SAVES)  # there is room again
    assert updates(folder / "checkpoint_last.pt") == 8 and not list(folder.glob("*.tmp"))


def test_a_disk_that_was_full_for_a_moment_costs_no_checkpoint(train, tmp_path, monkeypatch):
    """fairseq's second attempt goes into the same file, behind the first part, where nobody can read it."""
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
    with pytest.raises(InputError, match="could not be written whole"):
        train("--max-update", "8", *SAVES)
    assert failed
    assert all(updates(path) == 4 for path in (tmp_path / "checkpoints").glob("*.pt"))


def test_a_folder_that_cannot_be_written_to_is_told_before_training(train):
    with pytest.raises(OSError) as caught:
        train("--max-update", "4", save_dir=NOWHERE)
    assert str(NOWHERE) in one_line(caught.value) and "start the same command again" in one_line(caught.value)


def test_data_that_are_removed_are_still_read_to_the_end_of_their_epoch(train, data_bin, tmp_path, monkeypatch):
    """Linux keeps what is open: binarizing anew into the same place disturbs no training."""
    from fairseq.trainer import Trainer

    data, step = tmp_path / "data", Trainer.train_step
    shutil.copytree(data_bin, data)

    def remove_first(self, *arguments, **named):
        shutil.rmtree(data, ignore_errors=True)
        return step(self, *arguments, **named)

    expected = train("--max-update", "6", *SAVES)
    monkeypatch.setattr(Trainer, "train_step", remove_first)
    trained = train("--max-update", "6", *SAVES, data=data, save_dir="removed")
    assert not data.exists()
    assert all(torch.equal(tensor, trained["model"][name]) for name, tensor in expected["model"].items())


def test_a_shard_that_vanished_is_told_and_the_checkpoint_before_it_stays(train, data_bin, tmp_path):
    for name in ("shard0", "shard1"):
        shutil.copytree(data_bin, tmp_path / name)
    shards = f"{tmp_path}/shard0:{tmp_path}/shard1"
    train("--max-update", "4", *SAVES, data=shards)
    for file in (tmp_path / "shard1").glob("train.de-en.*"):
        file.unlink()
    with pytest.raises(Exception) as caught:
        train("--max-update", "40", *SAVES, data=shards)
    assert "shard1" in one_line(caught.value)
    assert updates(tmp_path / "checkpoints" / "checkpoint_last.pt") >= 4


def test_data_cut_off_in_place_end_the_process_with_the_line_that_read_them(tmp_path):
    """What fairseq-preprocess does to a folder that is in use: the pages of a mapped file are gone, SIGBUS."""
    (tmp_path / "data.bin").write_bytes(bytes(1 << 20))
    program = f"""
import ppa_fairseq, numpy
data = numpy.memmap({str(tmp_path / "data.bin")!r}, mode="r")
open({str(tmp_path / "data.bin")!r}, "wb").close()
data.sum()
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in run.stderr and 'File "<string>", line 5' in run.stderr


COMMANDS = {
    "import-hf": "import-hf {root}/hf {out}",
    "export-hf": "export-hf {root}/imported {out}",
    "prepare-bitext": "prepare-bitext --tokenizer {root}/imported --out {out} --min-tokens 1 de-en={root}/de-en.tsv",
    "prepare-xnli": "prepare-xnli --tokenizer {root}/imported --out {out} --train en={root}/nli.tsv",
    "prepare-qa": "prepare-qa --tokenizer {root}/imported --out {out} --train en={root}/qa.json",
    "binarize": "binarize {root}/text --destdir {out}",
    "embed": "embed --model {root}/imported --input {root}/lines --output {out}",
    "retrieve": "retrieve --model m={root}/imported --pairs {root}/pairs --output {out}",
    "word-align": "word-align --model m={root}/imported --text {root}/de-en.tsv --output {out}",
    "trim-vocab": "trim-vocab {root}/imported {out} de-en={root}/de-en.tsv --workers 1",
    "evaluate-xnli": "evaluate-xnli --model m={root}/classifier --data en={root}/few.tsv --output {out} "
    "--max-length 32",
    "evaluate-qa": "evaluate-qa --model m={root}/reader --data en={root}/qa.json --output {out} --max-length 32 "
    "--doc-stride 8",
    "perplexity": "perplexity --model m={root}/imported --text en={root}/lines --max-length 12 --output {out}",
}
PROGRAM = """
import contextlib, io, json, resource, sys
from ppa_fairseq.commands import main as cli
for place, name, command, limit in json.loads(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(io.StringIO()):
        try:
            status = cli.main(command.split())
        except BaseException as error:
            status = repr(error)
    print(json.dumps([place, name, status, *told.getvalue().splitlines()[-1:]]), flush=True)
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with a model and text for every command above."""
    root, rng = tmp_path_factory.mktemp("faults"), random.Random(0)

    def sentence() -> str:
        return " ".join(rng.choices("abcdefghijklmno", k=9))

    make_folder(root / "hf")
    rows = [(sentence(), sentence()) for _ in range(400)]
    (root / "pairs").mkdir()
    for path in (root / "de-en.tsv", root / "pairs" / "de-en.tsv"):
        path.write_text("".join(f"{one}\t{other}\n" for one, other in rows))
    for name, count in (("nli", 400), ("few", 40)):
        text = "".join(f"{one}\t{other}\tneutral\n" for one, other in rows[:count])
        (root / f"{name}.tsv").write_text(text)
    (root / "lines").write_text("".join(f"{one}\n" for one, _ in rows))
    paragraphs = [
        {
            "context": one,
            "qas": [{"id": str(number), "question": other, "answers": [{"text": one[2:5], "answer_start": 2}]}],
        }
        for number, (one, other) in enumerate(rows)
    ]
    (root / "qa.json").write_text(json.dumps({"data": [{"title": "", "paragraphs": paragraphs}]}))
    for name, kind in (("classifier", BertForSequenceClassification), ("reader", BertForQuestionAnswering)):
        (root / name).mkdir()
        make_bert(root / name, kind, **{"id2label": dict(enumerate(LABELS))} if name == "classifier" else {})
    for command in ("import-hf {root}/hf {root}/imported", COMMANDS["prepare-bitext"]):
        assert cli.main(command.format(root=root, out=root / "text").split()) == 0
    return root


def sizes(output: Path) -> dict[str, int]:
    """Of the files of an output, in the order in which they were written."""
    files = [output] if output.is_file() else [path for path in output.rglob("*") if path.is_file()]
    files.sort(key=lambda path: path.stat().st_mtime_ns)
    return {str(path.relative_to(output)): path.stat().st_size for path in files}


def test_every_command_tells_of_a_full_disk_and_of_a_folder_that_cannot_be_written_to(places, tmp_path):
    """The disk is full at once, or after the first file: at a later one that is larger."""
    whole, at_once, later = (tmp_path / name for name in ("whole", "at-once", "later"))
    later_limits = {}
    for name, text in COMMANDS.items():
        assert cli.main(text.format(root=places, out=whole / name).split()) == 0, name
        first, *others = sizes(whole / name).values()
        if first < max(others, default=0):
            later_limits[name] = first
    assert {"prepare-bitext", "binarize", "evaluate-xnli", "evaluate-qa"} <= later_limits.keys(), later_limits
    limits = {at_once: dict.fromkeys(COMMANDS, 100), NOWHERE: dict.fromkeys(COMMANDS, 1 << 30), later: later_limits}
    runs = [
        (str(place), name, COMMANDS[name].format(root=places, out=place / name), limit)
        for place, by_name in limits.items()
        for name, limit in by_name.items()
    ]  # bytes that a file may have
    run = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(runs)], stdout=subprocess.PIPE)
    done = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(done) == len(runs)
    for place, name, status, told in done:
        assert status == 1 and told.startswith(f"ppa {name}: error: "), (name, status, told)
        expected = place if place == str(NOWHERE) else r"\[Errno 27\] File too large: .*nothing more can be written"
        assert re.search(expected, told), told
    assert not [path for path in at_once.rglob("*") if path.is_file()]
    for name in later_limits:  # what stands there was whole before the disk was full
        left, expected = sizes(later / name), sizes(whole / name)
        assert all(expected[file] == size for file, size in left.items()) and len(left) < len(expected), left
