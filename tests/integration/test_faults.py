"""A full disk or a folder that cannot be written to is one line; no checkpoint and no earlier output is lost."""

import errno
import json
import os
import random
import resource
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
for name, command, limit in json.loads(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        try:
            status = cli.main(command.split())
        except BaseException as error:
            status = repr(error)
    print(json.dumps([status, (errors.getvalue().splitlines() or [""])[-1]]), flush=True)
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


def snapshot(output: Path) -> dict[str, bytes]:
    """The files of an output, a file or a folder, by name."""
    return {str(path): path.read_bytes() for path in (output, *output.rglob("*")) if path.is_file()}


def test_every_command_keeps_its_earlier_output_on_a_full_disk(places, tmp_path):
    """Each runs again when no file may be as large as its largest, and once more into a folder that takes nothing."""
    earlier, runs = {}, []
    for name, command in COMMANDS.items():
        assert cli.main(command.format(root=places, out=tmp_path / name).split()) == 0, name
        earlier[name] = snapshot(tmp_path / name)
        largest = max(map(len, earlier[name].values()))
        runs.append((name, command.format(root=places, out=tmp_path / name), largest // 2))
        runs.append((name, command.format(root=places, out=NOWHERE / name), 1 << 30))
    run = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(runs)], stdout=subprocess.PIPE)
    done = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(done) == len(runs)
    for (name, command, _), (status, last) in zip(runs, done, strict=True):
        if str(status).startswith(("SafetensorError(", "OSError(")):  # a library's own, without the system's number
            continue
        assert status == 1 and last.startswith(f"ppa {name}: error: "), (name, status, last)
        assert f" {NOWHERE}" in last if str(NOWHERE) in command else last.endswith(FULL), last
    assert {name: snapshot(tmp_path / name) for name in COMMANDS} == earlier
    assert {path.name for path in tmp_path.iterdir()} == set(COMMANDS)
