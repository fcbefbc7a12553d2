"""The task `ppa_classification`: sentences and pairs from published files to a model in transformers' own class."""

import csv
import json
import random

import numpy as np
import pytest
import torch
from fairseq.logging.progress_bar import SimpleProgressBar
from helpers.any_encoder import make_folder
from helpers.hf_folders import make_bert
from helpers.nli_data import make_nli_bin
from helpers.training import CLASSIFICATION, NLI, TINY_FINETUNING, assert_same_training, run_training
from sklearn.metrics import accuracy_score, f1_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ppa_fairseq.commands import main as cli
from ppa_fairseq.utils.errors import InputError

LABELS = ["arts and letters", "science/technology", "sports"]
METRIC = ["--best-checkpoint-metric", "accuracy_avg", "--maximize-best-checkpoint-metric"]


def run(*command) -> None:
    assert cli.main(list(map(str, command))) == 0


def write_topics(path, count, seed):
    """SIB-200's format; a topic has its own letters."""
    draw, lines = random.Random(seed), ["index_id\tcategory\ttext"]
    for number in range(count):
        topic = draw.randrange(len(LABELS))
        words = ("".join(draw.choices("abcdefghi"[3 * topic :][:3], k=4)) for _ in range(draw.randint(1, 7)))
        lines.append(f"{number}\t{LABELS[topic]}\t{' '.join(words)}.")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    """English and German files of topics, a BERT, and what is prepared for it."""
    root = tmp_path_factory.mktemp("topics")
    files = [
        write_topics(root / f"{name}.tsv", *size)
        for name, size in {"train-en": (90, 1), "dev-en": (30, 2), "dev-de": (24, 3)}.items()
    ]
    (root / "hf").mkdir()
    make_bert(root / "hf")
    run("import-hf", root / "hf", root / "base")
    run("prepare-classification", "--tokenizer", root / "base", "--out", root / "text", "--train", files[0],
        "--valid", *files[1:])  # fmt: skip
    run("binarize", root / "text", "--destdir", root / "bin", "--workers", "1")
    return root


def finetune(data, base, save_dir, *flags, parts=CLASSIFICATION):
    return run_training([str(data), *TINY_FINETUNING, *parts, "--pretrained", str(base), *flags], save_dir)


def read_predictions(folder):
    with open(folder / "predictions-m.tsv", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def evaluate(model, root, out, *flags):
    run("evaluate-classification", "--model", f"m={model}", "--data", root / "dev-en.tsv", root / "dev-de.tsv",
        "--output", out, "--max-length", "60", *flags)  # fmt: skip
    results = json.loads((out / "classification.json").read_text())["results"]
    return {result["language"]: result for result in results}, read_predictions(out)


def test_topics_are_learned_measured_and_exported(topics, tmp_path, monkeypatch, capsys):
    """Validation, `ppa evaluate-classification`, and transformers on the export agree."""
    logged = {}
    monkeypatch.setattr(SimpleProgressBar, "print", lambda bar, stats, tag, step: logged.update({tag: dict(stats)}))
    arguments = ["--max-epoch", "12", "--lr", "3e-3", *METRIC]
    flags = [flag for flag in TINY_FINETUNING if flag != "--disable-validation"]
    run_training(
        [str(topics / "bin"), *flags, *CLASSIFICATION, "--pretrained", str(topics / "base"), *arguments],
        tmp_path / "run",
    )
    checkpoint = tmp_path / "run" / "checkpoint_last.pt"
    results, rows = evaluate(checkpoint, topics, tmp_path / "ours")
    assert results["en"]["accuracy"] > 50  # by chance a third
    for language in ("en", "de", "average"):
        name = f"accuracy_{'avg' if language == 'average' else language}"
        assert logged["valid"][name] == pytest.approx(results[language]["accuracy"], abs=0.01)
    for language in ("en", "de"):
        gold, found = ([row[side] for row in rows if row["language"] == language] for side in ("gold", "predicted"))
        assert results[language]["accuracy"] == pytest.approx(100 * accuracy_score(gold, found))
        assert results[language]["macro_f1"] == pytest.approx(100 * f1_score(gold, found, average="macro"))
    assert "macro-F1" in capsys.readouterr().out

    run("export-hf", checkpoint, tmp_path / "hf")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").eval()
    assert model.config.id2label == dict(enumerate(LABELS))
    texts = [line.split("\t")[2] for line in (topics / "dev-en.tsv").read_text().splitlines()[1:]]
    batch = AutoTokenizer.from_pretrained(tmp_path / "hf")(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**batch).logits.softmax(1).numpy()
    ours = np.array([[float(row[label]) for label in LABELS] for row in rows if row["language"] == "en"])
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    again, _ = evaluate(tmp_path / "hf", topics, tmp_path / "theirs")
    assert again["average"]["accuracy"] == results["average"]["accuracy"]


def test_any_encoder_of_transformers_classifies_sentences(topics, tmp_path):
    symbols = (topics / "hf" / "vocab.txt").read_text().split()
    # `make_folder` has its own ids for special tokens.
    symbols = [symbols[0], *(f"[unused{i}]" for i in range(1, 6)), symbols[1], *symbols[2:]]
    make_folder(tmp_path / "theirs", "ModernBERT", symbols)
    run("import-hf", tmp_path / "theirs", tmp_path / "base")
    run("prepare-classification", "--tokenizer", tmp_path / "base", "--out", tmp_path / "text", "--train",
        topics / "train-en.tsv")  # fmt: skip
    run("binarize", tmp_path / "text", "--destdir", tmp_path / "bin", "--workers", "1")
    flags = ["--arch", "ppa_transformers_classifier", "--max-update", "3"]
    finetune(tmp_path / "bin", tmp_path / "base", tmp_path / "run", *flags)
    results, rows = evaluate(tmp_path / "run" / "checkpoint_last.pt", topics, tmp_path / "ours")
    run("export-hf", tmp_path / "run" / "checkpoint_last.pt", tmp_path / "hf")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    with torch.no_grad():
        for row, line in zip(rows, (topics / "dev-en.tsv").read_text().splitlines()[1:], strict=False):
            expected = model(**tokenizer(line.split("\t")[2], return_tensors="pt")).logits.softmax(1)[0]
            ours = torch.tensor([float(row[label]) for label in LABELS])
            torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_xnli_codeswitch_is_its_special_case(dictionary, imported, tmp_path):
    data, mixed = (
        make_nli_bin(tmp_path, dictionary, {"train": 30, "valid": 9}),
        ["--train-langs", "en,de", "--code-switch"],
    )
    trained = [
        finetune(data, imported(), tmp_path / parts[1], *mixed, "--max-update", "6", parts=parts)
        for parts in (NLI, CLASSIFICATION)
    ]
    assert_same_training(*trained)


def test_pairs_as_paws_x_publishes_them(topics, tmp_path):
    header, rows = "id\tsentence1\tsentence2\tlabel\n", ["1\tab cd.\tcd ab.\t1", "2\tab.\tef gh\t0", "3\t\tab\t0"]
    for language in ("en", "fr"):
        (tmp_path / language).mkdir()
        (tmp_path / language / "train.tsv").write_text(header + "\n".join(rows[: 2 + (language == "fr")]) + "\n")
    run("prepare-classification", "--tokenizer", topics / "base", "--out", tmp_path / "text", "--train",
        *(f"{language}={tmp_path}/{language}" for language in ("en", "fr")))  # fmt: skip
    for language in ("en", "fr"):  # the empty sentence is left out
        found = [(tmp_path / "text" / language / f"train.{part}").read_text() for part in ("input0", "input1", "label")]
        assert found == ["a ##b c ##d .\na ##b .\n", "c ##d a ##b .\ne ##f g ##h\n", "1\n0\n"]
    statistics = json.loads((tmp_path / "text" / "statistics.json").read_text())
    assert statistics["train fr"]["dropped"]["empty"] == 1 and statistics["train en"]["labels"] == {"0": 1, "1": 1}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train-langs", "en,de", "--code-switch"], "no training data in .de., only in en"),
        (["--criterion", "tag_prediction"], "do not fit together; use --task ppa_classification --criterion sentence_"),
        (
            ["--task", "ppa_tagging", "--arch", "ppa_bert_tagger", "--criterion", "tag_prediction"],
            "not one tag for each",
        ),
    ],
)
def test_flags_that_do_not_fit_are_refused(topics, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        finetune(topics / "bin", topics / "base", tmp_path / "run", *flags, "--max-update", "1")


def test_single_sentences_are_not_mixed(topics, tmp_path):
    run("prepare-classification", "--tokenizer", topics / "base", "--out", tmp_path / "text", "--train",
        topics / "dev-en.tsv", topics / "dev-de.tsv")  # fmt: skip
    run("binarize", tmp_path / "text", "--destdir", tmp_path / "bin", "--workers", "1")
    with pytest.raises(InputError, match="--code-switch mixes the two sentences of an example, but .* has one; omit"):
        finetune(tmp_path / "bin", topics / "base", tmp_path / "run", "--train-langs", "en,de", "--code-switch")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text\tlabel\nab\tcooking\n", "dev-en.tsv:2: the label 'cooking' is none of the model's classes, arts and"),
        ("ab\tsports\n", "dev-en.tsv:1: no columns named text or sentence"),
    ],
)
def test_data_of_another_task_is_named(topics, tmp_path, capsys, text, message):
    finetune(topics / "bin", topics / "base", tmp_path / "run", "--max-update", "1")
    (tmp_path / "dev-en.tsv").write_text(text)
    command = f"evaluate-classification --model m={tmp_path}/run/checkpoint_last.pt --data {tmp_path}/dev-en.tsv"
    assert cli.main([*command.split(), "--output", str(tmp_path / "out"), "--max-length", "60"]) == 1
    assert message in capsys.readouterr().err
