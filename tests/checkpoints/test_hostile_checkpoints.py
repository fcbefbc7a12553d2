"""No code in a model's file is ever run, whichever command or training gets the file."""

import json

import pytest
import torch
from helpers.checkpoints import Touch, trained
from helpers.qa_data import make_qa_bin
from helpers.tiny_folder import make_folder
from helpers.training import run_training

from ppa_fairseq.commands import main as cli
from ppa_fairseq.utils.errors import InputError

COMMANDS = {
    "import-hf": "import-hf {folder} {out}",
    "export-hf": "export-hf {file} {out}",
    "retrieve": "retrieve --model m={file} --pairs {texts} --output {out}",
    "embed": "embed --model {file} --input {texts}/de-en.en --output {out}",
    "evaluate-xnli": "evaluate-xnli --model m={file} --data en={texts}/nli.tsv --output {out}",
    "evaluate-qa": "evaluate-qa --model m={file} --data en={texts}/qa.json --output {out}",
    "probe": "probe --model m={file} --pairs nli={texts}/nli.tsv:{texts}/nli-de.tsv --output {out}",
    "word-align": "word-align --model m={file} --text {texts}/words.tsv --output {out}",
    "perplexity": "perplexity --model m={file} --text en={texts}/de-en.en --output {out}",
    "trim-vocab": "trim-vocab {file} {out} en={texts}/de-en.en",
    "prepare-bitext": "prepare-bitext --tokenizer {folder} --out {out} de-en={texts}/words.tsv",
}


@pytest.fixture
def attack(tmp_path):
    """Files that make the folder `ran` when they are loaded, as pickles are by default: a checkpoint, weights alone."""
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "c.pt", tmp_path / "folder" / "pytorch_model.bin"):
        torch.save(trained(extra_state=Touch(tmp_path / "ran")), path)
    make_folder(tmp_path / "sound")
    for name in ("config.json", "vocab.txt", "tokenizer_config.json"):
        (tmp_path / "sound" / name).rename(tmp_path / "folder" / name)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_the_code_of_a_model(attack, capsys, command):
    (attack / "texts").mkdir()
    for name, text in (
        ("de-en.de", "a b\nc\n"),
        ("de-en.en", "a c\nd\n"),
        *((name, "a b\ta c\tneutral\nb\tc\tneutral\n") for name in ("nli.tsv", "nli-de.tsv")),
        ("words.tsv", "a b\ta c\n"),
    ):
        (attack / "texts" / name).write_text(text)
    question = {"id": "q", "question": "a", "answers": [{"text": "b", "answer_start": 2}]}
    squad = {"data": [{"title": "t", "paragraphs": [{"context": "a b", "qas": [question]}]}]}
    (attack / "texts" / "qa.json").write_text(json.dumps(squad))
    places = {"file": attack / "c.pt", "folder": attack / "folder", "texts": attack / "texts", "out": attack / "out"}
    status = cli.main(COMMANDS[command].format(**places).split())
    error = capsys.readouterr().err
    assert not (attack / "ran").exists()
    if command == "prepare-bitext":  # which reads no weights
        return
    assert status == 1 and "holds Python objects" in error.splitlines()[-1]
    assert not (attack / "out").exists()
    torch.load(attack / "c.pt", weights_only=False)
    assert (attack / "ran").exists()  # it would have run


PLACES = ["--pretrained", "--save-dir", "--restore-file", "--continue-once", "--finetune-from-model"]


@pytest.mark.parametrize("place", PLACES)
def test_no_training_runs_the_code_of_a_checkpoint(attack, train, place):
    (attack / "checkpoints").mkdir()
    flags = [place, str(attack / "c.pt")]
    if place == "--save-dir":  # as if it were this training's own
        (attack / "c.pt").rename(attack / "checkpoints" / "checkpoint_last.pt")
        flags = []
    with pytest.raises(InputError, match="holds Python objects"):
        train("--max-update", "1", *flags)
    assert not (attack / "ran").exists()


def test_no_fine_tuning_runs_the_code_of_a_checkpoint(attack, dictionary):
    (attack / "qa").mkdir()
    data = make_qa_bin(attack / "qa", dictionary, {"train": 4, "valid": 4})
    flags = "--user-dir ppa_fairseq --task mlqa_codeswitch --arch ppa_bert_reader --criterion span_prediction --cpu"
    flags = [*flags.split(), "--optimizer", "adam", "--batch-size", "2", "--pretrained", str(attack / "c.pt")]
    with pytest.raises(InputError, match="c.pt: .*holds Python objects"):
        run_training([str(data), *flags], attack / "checkpoints")
    assert not (attack / "ran").exists()
