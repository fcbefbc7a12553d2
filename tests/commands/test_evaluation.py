"""What all measuring commands promise: which modules they import, how often they read a model, when they warn."""

import json
import subprocess
import sys

import pytest
from helpers.hf_folders import make_bert, sample_sentences
from transformers import BertForQuestionAnswering, BertForSequenceClassification

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands import main as cli

RUN = """
import sys
from ppa_fairseq.commands import main
status = main.main(sys.argv[1:])
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(loaded & {"fairseq", "matplotlib", "scipy", "sklearn", "hydra"}), file=sys.stderr)
sys.exit(status)
"""
LABELS = {"id2label": dict(enumerate(("entailment", "neutral", "contradiction")))}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Models of every kind over letters, and data for them."""
    folder = tmp_path_factory.mktemp("world")
    makers = {"lm": {}, "xnli": {"model_class": BertForSequenceClassification, **LABELS},
              "qa": {"model_class": BertForQuestionAnswering}}  # fmt: skip
    for name, options in makers.items():
        (folder / name).mkdir()
        make_bert(folder / name, **options)
    lines = sample_sentences("test", 40)[160:240]  # German and English
    first, second = lines[::2], lines[1::2]
    (folder / "text").write_text("\n".join(lines) + "\n")
    (folder / "de-en.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in zip(first, second, strict=True)))
    (folder / "words").write_text("".join(f"{a} ||| {b}\n" for a, b in zip(first, second, strict=True)))
    (folder / "dev-en.tsv").write_text("a\tb\tneutral\nc\td\tentailment\n")
    question = {"id": "1", "question": "a", "answers": [{"text": "b", "answer_start": 2}]}
    data = {"data": [{"title": "", "paragraphs": [{"context": "a b", "qas": [question]}]}]}
    (folder / "xquad.de.json").write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "retrieve --model m={0}/lm --pairs {0}/de-en.tsv",
        "embed --model {0}/lm --input {0}/text --output {1}/vectors.npy",
        "word-align --model m={0}/lm --text {0}/words",
        "perplexity --model m={0}/lm --text de={0}/text --max-length 60",
    ],
    ids=lambda command: command.split()[0],
)
def test_commands_import_neither_fairseq_nor_plotting_libraries(world, tmp_path, command):
    flags = command.format(world, tmp_path).split()
    done = subprocess.run([sys.executable, "-c", RUN, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "" and done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "retrieve --model a={0}/lm --model b={0}/lm --pairs {0}/de-en.tsv",
        "word-align --model a={0}/lm --model b={0}/lm --text {0}/words --output {1}/out",
        "perplexity --model a={0}/lm --model b={0}/lm --text de={0}/text --max-length 60",
        "evaluate-xnli --model a={0}/xnli --model b={0}/xnli --data {0}/dev-en.tsv --max-length 60 --output {1}/out",
        "evaluate-qa --model a={0}/qa --model b={0}/qa --data {0}/xquad.de.json --max-length 60 --doc-stride 9",
    ],
    ids=lambda command: command.split()[0],
)
def test_each_model_is_read_once(world, tmp_path, monkeypatch, command):
    reads = []
    loaders = [(checkpoint, "read"), (checkpoint, "load_pickle"), (checkpoint.huggingface, "read")]
    for module, name in loaders:
        load = getattr(module, name)
        monkeypatch.setattr(module, name, lambda path, load=load, name=name: reads.append(name) or load(path))
    checkpoint.write(tmp_path / "copy.pt", checkpoint.read(world / command.split("/")[1].split()[0]))
    reads.clear()
    flags = command.format(world, tmp_path).split()
    flags = [f"b={tmp_path}/copy.pt" if flag.startswith("b=") else flag for flag in flags]
    assert cli.main(flags) == 0
    assert sorted(reads) == ["load_pickle", "read", "read", "read"]  # a folder is read by both modules


def test_retrieve_warns_of_a_sorted_side(world, tmp_path, capsys):
    """As XTREME's scripts leave Tatoeba."""
    lines = (world / "de-en.tsv").read_text().splitlines()
    for name, side in zip(("de", "en"), zip(*(line.split("\t") for line in lines), strict=True), strict=True):
        (tmp_path / f"de-en.{name}").write_text("\n".join(sorted(side) if name == "en" else side) + "\n")
    model = ["retrieve", "--model", f"m={world}/lm", "--pairs"]
    assert cli.main([*model, str(tmp_path)]) == 0
    assert "warning: de-en: the en side is sorted and the de side is not" in capsys.readouterr().err
    assert cli.main([*model, str(world / "de-en.tsv")]) == 0
    assert "warning" not in capsys.readouterr().err


def test_retrieve_counts_sentences_that_repeat(world, tmp_path, capsys):
    lines = (world / "de-en.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines[:20]]
    rows += [[f"{first} ?", second] for first, second in rows[:5]]
    (tmp_path / "de-en.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    flags = ["--model", f"m={world}/lm", "--pairs", str(tmp_path / "de-en.tsv"), "--output", str(tmp_path / "out")]
    assert cli.main(["retrieve", *flags]) == 0
    assert "Some sentences repeat an earlier one (5 en in de-en)." in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "retrieval.json").read_text())
    assert found["sets"]["de-en"]["repeated"] == {"de": 0, "en": 5}
    assert found["results"][0]["forward"] > 0


@pytest.mark.parametrize("command", ["retrieve", "perplexity"])
def test_an_earlier_output_is_replaced_and_a_foreign_file_stays(world, tmp_path, capsys, command):
    data = {"retrieve": ["--pairs"], "perplexity": ["--max-length", "60", "--pairs"]}[command]
    out = tmp_path / "out"
    flags = [command, "--model", f"m={world}/lm", *data, str(world / "de-en.tsv"), "--output", str(out)]
    assert cli.main(flags) == cli.main(flags) == 0
    (out / "notes.txt").write_text("mine")
    assert cli.main(flags) == 1
    assert f"out: holds notes.txt, which `ppa {command}` did not write" in capsys.readouterr().err
    assert (out / "notes.txt").read_text() == "mine" and (out / "table.md").exists()
