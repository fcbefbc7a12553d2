"""`ppa probe` against plain transformers and scikit-learn on the same data, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from helpers.hf_folders import make_bert
from helpers.tables import table_rows

from ppa_fairseq.commands.main import main
from ppa_fairseq.data.labelled import READERS
from ppa_fairseq.evaluation.probing.probes import fit


@pytest.fixture
def folder(tmp_path):
    """A tiny BERT, and three tasks in two languages whose labels follow from the words."""
    rng = np.random.default_rng(0)
    (tmp_path / "bert").mkdir()
    make_bert(tmp_path / "bert")
    words = {"a": ["dog", "cat", "house"], "b": ["run", "see", "go"]}

    def sentences(count):
        labels = rng.choice(["a", "b"], count)
        return [(label, " ".join(rng.choice(words[label], 4))) for label in labels]

    for name in ("topics", "pairs", "tags"):
        (tmp_path / name).mkdir()
    for name, count in (("train-en", 120), ("test-en", 40), ("test-de", 40)):
        rows = sentences(count)
        text = "".join(f"{label}\t{sentence}\n" for label, sentence in rows)
        (tmp_path / "topics" / f"{name}.tsv").write_text("category\ttext\n" + text)
        halves = zip(rows, rows[::-1], strict=True)
        pairs = [(first[1], second[1], str(first[0] == second[0])) for first, second in halves]
        (tmp_path / "pairs" / f"{name}.tsv").write_text("".join("\t".join(pair) + "\n" for pair in pairs))
        tags = "\n".join("".join(f"{word}\t{label}\n" for word in sentence.split()) for label, sentence in rows)
        (tmp_path / "tags" / f"{name}.tsv").write_text(tags)
    return tmp_path


def task(folder, name):
    return f"{name}={folder}/{name}/train-en.tsv:{folder}/{name}"


def plain_accuracy(bert, folder, kind):
    """The same probe, by AutoModel on one sentence at a time and by scikit-learn, on test-de."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()

    @torch.no_grad()
    def hidden(text, **settings):
        batch = tokenizer(text, return_tensors="pt", **settings)
        return batch, model(**batch).last_hidden_state[0]

    def vector(text):
        return hidden(text)[1].mean(0).numpy()

    def features(file):
        rows, labels = [], []
        for one in READERS[kind](file):
            if kind == "tags":
                batch, states = hidden(one.parts, is_split_into_words=True)
                rows += [states[batch.word_ids().index(word)].numpy() for word in range(len(one.parts))]
            else:
                vectors = list(map(vector, one.parts))
                u, v = vectors[0], vectors[-1]
                rows.append(u if kind == "sentences" else np.concatenate([u, v, abs(u - v), u * v]))
            labels += one.labels
        return rows, labels

    train, test = (tuple(map(np.array, features(folder / f"{name}.tsv"))) for name in ("train-en", "test-de"))
    if kind == "pairs":
        stop = {"early_stopping": True, "validation_fraction": 0.1, "n_iter_no_change": 5}
        network = MLPClassifier((512,), random_state=0, **stop)
        best = make_pipeline(StandardScaler(), network)
    else:
        models = [LogisticRegression(C=c, max_iter=300) for c in (0.01, 0.1, 1, 10)]
        candidates = [make_pipeline(StandardScaler(), model) for model in models]
        x, x_out, y, y_out = train_test_split(*train, test_size=0.1, random_state=0, stratify=train[1])
        best = max(candidates, key=lambda candidate: candidate.fit(x, y).score(x_out, y_out))
    return 100 * best.fit(*train).score(*test)


@pytest.mark.parametrize(("kind", "name"), [("sentences", "topics"), ("pairs", "pairs"), ("tags", "tags")])
def test_accuracy_is_that_of_plain_transformers_and_scikit_learn(folder, kind, name):
    bert, out = folder / "bert", folder / "out"
    assert main(["probe", "--model", f"m={bert}", f"--{kind}", task(folder, name), "--output", str(out)]) == 0
    results = json.loads((out / "probes.json").read_text())["results"]
    (found,) = (one["accuracy"] for one in results if one["language"] == "de")
    assert found == pytest.approx(plain_accuracy(bert, folder / name, kind), abs=0.5)


def test_mixed_pairs_have_an_average_of_their_own_and_translations_count_once(folder, capsys):
    """Here `de` is a copy of `en`, so that all averages and their intervals are those of `en`."""
    (folder / "pairs" / "test-de.tsv").write_bytes((folder / "pairs" / "test-en.tsv").read_bytes())
    models = ["--model", f"a={folder}/bert", "--model", f"b={folder}/bert"]
    flags = ["--pairs", task(folder, "pairs"), "--mixed", "en", "--seeds", "2"]
    assert main(["probe", *models, *flags]) == 0
    rows = {row[0]: row[2:] for row in table_rows(capsys.readouterr().out)}
    assert list(rows)[2:] == ["de", "en", "de+en", "en+de", "others", "mixed"]
    assert all(row == rows["en"] for row in list(rows.values())[2:]) and "[" in rows["en"][0]
    assert rows["en"][2] == "+0.0 (p = 1.000)"


def test_probes_are_fitted_where_a_label_has_one_example():
    """A tenth of the data cannot hold every label then."""
    features = np.random.default_rng(0).normal(size=(12, 3))
    labels = np.array(["a"] * 6 + ["b"] * 5 + ["c"])
    for kind in ("sentences", "pairs"):
        assert set(fit(features, labels, kind, seed=0)(features)) <= {"a", "b", "c"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to measure"),
        (["--sentences", "topics"], "expected NAME=TRAIN:TEST"),
        (["--sentences", "a={f}/none.tsv:{f}/topics"], "no such file"),
        (["--sentences", "a={f}/topics/train-en.tsv:{f}/bert"], "bert: no file"),
        (["--sentences", "a={f}/topics/train-en.tsv:{f}/other-de.tsv"], "the labels of de are none of a, b"),
        (["--sentences", "a={f}/other-de.tsv:{f}/topics"], "has one label, x"),
        (["--pairs", "p={f}/pairs/train-en.tsv:{f}/pairs", "--mixed", "fr"], "no test data in it"),
        (["--tags", "p={f}/tags/train-en.tsv:{f}/tags"] * 2, "two tasks are named p"),
    ],
    ids=["nothing", "form", "missing", "no language", "other labels", "one label", "mixed", "one name"],
)
def test_bad_input_is_refused_in_one_line(folder, capsys, flags, message):
    (folder / "other-de.tsv").write_text("category\ttext\nx\tdog\n")
    assert main(["probe", "--model", f"m={folder}/bert", *(flag.format(f=folder) for flag in flags)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert message in line
