"""What all measuring commands promise: which modules they import, how often they read a model, when they warn."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers.hf_folders import make_bert, sample_sentences
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from transformers import BertForQuestionAnswering, BertForSequenceClassification

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands import main as cli

RUN = """
import sys
from ppa_fairseq.commands import main
for flags in sys.argv[1:]:
    assert main.main(flags.split()) == 0, flags
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(loaded & {"fairseq", "matplotlib", "scipy", "sklearn", "hydra"}), file=sys.stderr)
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
    labels = zip(lines, "ab" * 40, strict=True)
    (folder / "topics-en.tsv").write_text("text\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in labels))
    (folder / "dev-en.tsv").write_text("a\tb\tneutral\nc\td\tentailment\n")
    question = {"id": "1", "question": "a", "answers": [{"text": "b", "answer_start": 2}]}
    data = {"data": [{"title": "", "paragraphs": [{"context": "a b", "qas": [question]}]}]}
    (folder / "xquad.de.json").write_text(json.dumps(data))
    return folder


def test_commands_import_neither_fairseq_nor_plotting_libraries(world, tmp_path):
    commands = [
        "retrieve --model m={0}/lm --pairs {0}/de-en.tsv",
        "embed --model {0}/lm --input {0}/text --output {1}/vectors.npy",
        "word-align --model m={0}/lm --text {0}/words",
        "perplexity --model m={0}/lm --text de={0}/text --max-length 60",
    ]
    flags = [command.format(world, tmp_path) for command in commands]
    done = subprocess.run([sys.executable, "-c", RUN, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "" and done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "retrieve --model a={0}/lm --model b={0}/lm --pairs {0}/de-en.tsv",
        "probe --model a={0}/lm --model b={0}/lm --sentences t={0}/topics-en.tsv:{0}/topics-en.tsv",
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
        monkeypatch.setattr(module, name, lambda *args, load=load, name=name: reads.append(name) or load(*args))
    checkpoint.write(tmp_path / "copy.pt", checkpoint.read(world / command.split("/")[1].split()[0]))
    reads.clear()
    flags = command.format(world, tmp_path).split()
    flags = [f"b={tmp_path}/copy.pt" if flag.startswith("b=") else flag for flag in flags]
    assert cli.main(flags) == 0
    assert sorted(reads) == ["load_pickle", "read", "read", "read"]  # a folder is read by both modules


@pytest.fixture(scope="module")
def sentence_encoder(world):
    """As LaBSE's folder: [CLS] pooling, 64 tokens, a Dense layer. The `lm` of the world in a form of its own."""
    modules = [Transformer(str(world / "lm"), max_seq_length=64), Pooling(16, "cls"), Dense(16, 16)]
    SentenceTransformer(modules=modules, device="cpu").save(str(world / "labse"))
    return world / "labse"


def test_embed_follows_a_sentence_encoders_folder(world, sentence_encoder, tmp_path, capsys):
    (tmp_path / "text").write_text("ab cd.\n" + "abcdefgh " * 20 + "\n")
    flags = ["embed", "--model", sentence_encoder, "--input", tmp_path / "text", "--output", tmp_path / "v.npy"]
    assert cli.main(list(map(str, flags))) == 0
    errors = capsys.readouterr().err
    assert "embed: not taken: its module Dense (2_Dense)" in errors and "1 of 2 sentences cut to 64 tokens" in errors
    modules = list(SentenceTransformer(str(sentence_encoder), device="cpu"))[:2]  # without Dense
    expected = SentenceTransformer(modules=modules, device="cpu").encode((tmp_path / "text").read_text().splitlines())
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-5)
    assert cli.main([*map(str, flags), "--pooling", "mean", "--max-length", "9"]) == 0
    assert "cut to 9 tokens" in capsys.readouterr().err
    assert not np.allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("retrieve --pairs {0}/de-en.tsv", "retrieval.json"),
        ("probe --sentences t={0}/topics-en.tsv:{0}/topics-en.tsv", "probes.json"),
    ],
)
def test_each_model_has_its_own_pooling_and_length(world, sentence_encoder, tmp_path, capsys, command, file):
    models = ["--model", f"a={world}/lm", "--model", f"b={sentence_encoder}"]
    assert cli.main([*command.format(world).split(), *models, "--output", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "b: not taken: its module Dense" in captured.err
    document = json.loads((tmp_path / "out" / file).read_text())
    assert [document["models"][name]["max_length"] for name in "ab"] == [66, 64]
    if command.startswith("retrieve"):
        assert [result["pooling"] for result in document["results"]] == ["mean", "cls"] * 2
        assert [result["gain_forward"] is None for result in document["results"]] == [True, False] * 2
        assert captured.out.startswith("Last layer, mean pooling for a, [CLS] for b, cosine, top-1")
        assert (tmp_path / "out" / "by-pair-own-cosine.png").exists()
    else:
        assert [document["models"][name]["pooling"] for name in "ab"] == ["mean", "cls"]


def test_retrieve_warns_of_a_sorted_side_and_counts_equal_texts(world, tmp_path, capsys):
    """XTREME's scripts sort one side of Tatoeba."""
    rows = [line.split("\t") for line in (world / "de-en.tsv").read_text().splitlines()]
    english = [second for _, second in rows]
    flags = ["retrieve", "--model", f"m={world}/lm", "--output", str(tmp_path / "out"), "--pairs"]
    for side, is_warned in ((sorted(english), True), (english, False), (english[:-5] + english[:5], False)):
        lines = zip((first for first, _ in rows), side, strict=True)
        (tmp_path / "de-en.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in lines))
        assert cli.main([*flags, str(tmp_path / "de-en.tsv")]) == 0
        captured = capsys.readouterr()
        assert ("warning: de-en: retrieval is at chance" in captured.err) == is_warned
    assert "Some sentences repeat an earlier one (5 en in de-en)" in captured.out
    document = json.loads((tmp_path / "out" / "retrieval.json").read_text())
    assert document["sets"]["de-en"]["repeated"] == {"de": 0, "en": 5}


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
