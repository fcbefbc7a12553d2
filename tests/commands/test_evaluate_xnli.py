"""`ppa evaluate-xnli`: logits against transformers, numbers against scikit-learn, what it writes and refuses."""

import argparse
import csv
import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from helpers.hf_folders import make_xlm_roberta, sample_sentences
from helpers.nli_data import SHIFT, make_nli_bin, rows
from helpers.training import run_training
from sklearn.metrics import accuracy_score, confusion_matrix
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    XLMRobertaForSequenceClassification,
)

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD
from ppa_fairseq.commands import main as cli
from ppa_fairseq.evaluation.classification.classifier import PairClassifier
from ppa_fairseq.evaluation.significance import interval, mcnemar, sign_flip_test

LABELS = ("entailment", "neutral", "contradiction")
OTHER_ORDER = ("contradiction", "Entailment", "neutral")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(40)), "##s"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: Hugging Face folder} of two classifiers, whose classes stand in different orders."""
    return {
        "base": save_classifier(tmp_path_factory.mktemp("base"), seed=0, labels=OTHER_ORDER),
        "tuned": save_classifier(tmp_path_factory.mktemp("tuned"), seed=4, labels=LABELS),
    }


def save_classifier(folder, seed, labels):
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": false}')
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
        initializer_range=0.3,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    model = BertForSequenceClassification(config)
    model.save_pretrained(folder)
    with torch.no_grad():  # let it predict every class
        model.classifier.bias -= torch.from_numpy(logits_by_transformers(folder, *some_pairs(60, seed=9), 128)).mean(0)
    model.save_pretrained(folder)
    return folder


def some_pairs(count, seed):
    """Premises of 1 to 30 words and hypotheses of 1 to 20; every fifth word is made of two pieces."""
    words = [f"w{word}{'' if word % 5 else 's'}" for word in range(40)]
    rng = np.random.default_rng(seed)
    sides = []
    for longest in (30, 20):
        rows = [rng.integers(40, size=rng.integers(1, longest + 1)) for _ in range(count)]
        sides.append([" ".join(words[word] for word in row) for row in rows])
    return sides


def write_rows(path, count, seed, labels=None):
    premises, hypotheses = some_pairs(count, seed)
    labels = labels or [LABELS[number % 3] for number in np.random.default_rng(0).permutation(count)]
    path.write_text("".join(f"{a}\t{b}\t{c}\n" for a, b, c in zip(premises, hypotheses, labels, strict=True)))
    return labels


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """dev-en.tsv, dev-fr.tsv and dev-sw.tsv of 60 rows each, with the same labels row by row."""
    folder = tmp_path_factory.mktemp("data")
    for seed, language in enumerate(("en", "fr", "sw")):
        write_rows(folder / f"dev-{language}.tsv", 60, seed)
    return folder


@torch.no_grad()
def logits_by_transformers(folder, premises, hypotheses, max_length):
    """In padded batches of 7."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = []
    for start in range(0, len(premises), 7):
        inputs = tokenizer(
            premises[start : start + 7], hypotheses[start : start + 7], padding=True,
            truncation="longest_first", max_length=max_length, return_tensors="pt",
        )  # fmt: skip
        logits.append(model(**inputs).logits)
    return torch.cat(logits).numpy()


def evaluate(*flags) -> int:
    return cli.main(["evaluate-xnli", *map(str, flags)])


def model_flags(models):
    return [flag for name, path in models.items() for flag in ("--model", f"{name}={path}")]


def read_predictions(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def assert_same_predictions(*paths):
    first, second = map(read_predictions, paths)
    for one, other in zip(first, second, strict=True):
        assert all(re.search(r"\.\w+:\d+$", row.pop("place")) for row in (one, other))  # where each was read
        probabilities = [[float(row.pop(label)) for label in LABELS] for row in (one, other)]
        assert one == other and probabilities[0] == pytest.approx(probabilities[1], abs=1e-5)


def test_a_file_whose_name_is_not_utf8_costs_no_result(models, data, tmp_path, capsys):
    name = os.fsdecode(b"\xff-en.tsv")
    shutil.copy(data / "dev-en.tsv", tmp_path / name)
    flags = ["--data", tmp_path / name, "--output", tmp_path / "out", "--cpu"]
    assert evaluate(*model_flags({"a": models["base"]}), *flags) == 0, capsys.readouterr().err
    assert "\\udcff-en.tsv:1" in read_predictions(tmp_path / "out/predictions-a.tsv")[0]["place"]
    assert json.loads((tmp_path / "out/xnli.json").read_text("utf-8"))["data"]["paths"] == [str(tmp_path / name)]


@pytest.mark.parametrize("max_length", [8, 21, 128])
def test_logits_equal_transformers(models, max_length):
    premises, hypotheses = some_pairs(50, seed=1)
    for folder in models.values():
        classifier = PairClassifier(checkpoint.read(folder), "it", max_length, batch_tokens=200, cpu=True)
        logits = classifier(premises, hypotheses)
        expected = logits_by_transformers(folder, premises, hypotheses, max_length)
        assert logits == pytest.approx(expected, abs=1e-5)
        assert set(expected.argmax(1)) == {0, 1, 2} and np.ptp(expected, axis=0).min() > 0.1
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lengths = [len(ids) for ids in tokenizer(premises, hypotheses)["input_ids"]]
    assert classifier.truncated == sum(length > max_length for length in lengths)


def test_xlm_roberta_too(tmp_path):
    """In 15 languages: two separators between the sentences, one token type, positions from 2."""
    make_xlm_roberta(tmp_path, XLMRobertaForSequenceClassification, id2label=dict(enumerate(LABELS)))
    sentences = sample_sentences("test", 4)
    premises, hypotheses = sentences[::2], sentences[1::2]
    classifier = PairClassifier(checkpoint.read(tmp_path), "it", 60, cpu=True)
    expected = logits_by_transformers(tmp_path, premises, hypotheses, 60)
    assert classifier(premises, hypotheses) == pytest.approx(expected, abs=1e-5)
    assert 0 < classifier.truncated < len(premises) == 56 and np.ptp(expected, axis=0).min() > 0.01


def test_long_data_is_done_in_windows(models, monkeypatch):
    premises, hypotheses = some_pairs(30, seed=3)
    classifier = PairClassifier(checkpoint.read(models["base"]), "it", max_length=20, cpu=True)
    whole, truncated = classifier(premises, hypotheses), classifier.truncated
    monkeypatch.setattr("ppa_fairseq.evaluation.classification.classifier.WINDOW", 7)
    assert classifier(premises, hypotheses) == pytest.approx(whole, abs=1e-5)
    assert classifier.truncated == 2 * truncated > 0


def test_two_models_in_three_languages(models, data, tmp_path, capsys):
    output = tmp_path / "new" / "out"
    assert evaluate(*model_flags(models), "--data", data, "--output", output) == 0
    document = json.loads((output / "xnli.json").read_text())
    found = {(result["model"], result["language"]): result for result in document["results"]}
    assert len(found) == len(document["results"]) == 2 * 4
    right = {}
    for name, folder in models.items():
        rows = read_predictions(output / f"predictions-{name}.tsv")
        assert [(row["language"], row["row"]) for row in rows] == [
            (language, str(number)) for language in ("en", "fr", "sw") for number in range(1, 61)
        ]
        # The predictions are transformers', whatever the order of its classes; the numbers scikit-learn's.
        by_name = [json.loads((folder / "config.json").read_text())["id2label"][str(i)].lower() for i in range(3)]
        total = 0
        for seed, language in enumerate(("en", "fr", "sw")):
            here = [row for row in rows if row["language"] == language]
            logits = torch.from_numpy(logits_by_transformers(folder, *some_pairs(60, seed), 128))
            assert [row["predicted"] for row in here] == [by_name[i] for i in logits.argmax(1)]
            written = [[float(row[label]) for label in by_name] for row in here]
            assert written == pytest.approx(logits.softmax(1).numpy(), abs=1e-5)
            gold, predicted = [row["gold"] for row in here], [row["predicted"] for row in here]
            text = (data / f"dev-{language}.tsv").read_text().splitlines()
            assert gold == [line.split("\t")[2] for line in text]
            assert found[name, language]["accuracy"] == pytest.approx(100 * accuracy_score(gold, predicted))
            matrix = confusion_matrix(gold, predicted, labels=LABELS)
            assert document["confusions"][name][language] == matrix.tolist()
            total += matrix
            right[name, language] = np.array(gold) == np.array(predicted)
        assert document["confusions"][name]["all"] == total.tolist()

    assert document["data"]["translations"] and document["data"]["languages"]["fr"] == dict.fromkeys(LABELS, 20)
    means = {}
    for name in models:
        means[name] = np.mean([right[name, language] for language in ("en", "fr", "sw")], axis=0)
        average = found[name, "average"]
        assert average["accuracy"] == pytest.approx(100 * means[name].mean()) and average["examples"] == 180
        assert (average["low"], average["high"]) == pytest.approx(interval([(range(60), 100 * means[name])]))
        assert average["low"] < average["accuracy"] < average["high"]
    for language in ("en", "fr", "sw"):
        base, tuned = right["base", language], right["tuned", language]
        assert found["tuned", language]["p_value"] == pytest.approx(mcnemar(base, tuned))
        assert found["tuned", language]["gain"] == pytest.approx(100 * (tuned.mean() - base.mean()))
        assert found["base", language]["p_value"] is None
    difference = [(range(60), 100 * (means["tuned"] - means["base"]))]
    gain = found["tuned", "average"]
    assert gain["p_value"] == pytest.approx(sign_flip_test(difference))
    assert (gain["gain_low"], gain["gain_high"]) == pytest.approx(interval(difference))

    printed = capsys.readouterr().out
    assert (output / "table.md").read_text() in printed
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines()]
    assert ["language", "examples", "base", "tuned", "gain"] in rows
    base = found["base", "average"]
    cells = [f"{one['accuracy']:.1f} [{one['low']:.1f}, {one['high']:.1f}]" for one in (base, gain)]
    assert ["average", "180", *cells, f"{gain['gain']:+.1f} (p = {gain['p_value']:.3f})"] in rows
    assert ["tuned: true \\ predicted", *LABELS] in rows
    assert [LABELS[1], *map(str, document["confusions"]["tuned"]["all"][1])] in rows
    plots = [path for path in output.iterdir() if path.suffix == ".png"]
    assert {path.name for path in plots} == {"by-language.png", "confusions.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots)


def save_training(path, folder, **changes):
    """What `fairseq-train --task xnli_codeswitch` leaves, in its places."""
    model = checkpoint.read(folder)
    content = {
        "cfg": {
            "model": argparse.Namespace(**checkpoint.sizes_in_cfg(model.shape)),
            "task": {"_name": "xnli_codeswitch", "train_langs": "en,fr", "code_switch": True},
            "checkpoint": {"best_checkpoint_metric": "accuracy_en", "maximize_best_checkpoint_metric": True},
        },
        "model": model.state,
        "task_state": {"tokenizer": model.tokenizer, "labels": model.labels},
        "extra_state": {"val_loss": 71.25, "best": 71.25},
    }
    torch.save(content | changes, path)
    return path


def test_checkpoint_gives_what_its_folder_gives_and_its_training(models, data, tmp_path, capsys):
    trained = {
        "best": save_training(tmp_path / "best.pt", models["base"]),
        "last": save_training(tmp_path / "last.pt", models["base"], extra_state={"val_loss": 70.5, "best": 71.25}),
    }
    flags = model_flags({"folder": models["base"], **trained})
    assert evaluate(*flags, "--data", data, "--output", tmp_path / "out", "--batch-tokens", 100) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line.strip("|").split("|") for line in lines if line.startswith(("| en ", "| fr ", "| sw ", "| average "))]
    assert len(table) == 4 and all(row[2].strip() == row[3].strip() == row[5].strip() for row in table)
    assert [line for line in lines if line.startswith("- ")] == [  # nothing is known of the folder
        "- best: trained on en,fr with code-switching, chosen for the highest accuracy_en in validation (71.25)",
        "- last: trained on en,fr with code-switching, not the update that accuracy_en would choose "
        "(70.5 in validation; the best was 71.25)",
    ]
    document = json.loads((tmp_path / "out" / "xnli.json").read_text())
    assert document["models"]["folder"]["training"] is None
    assert document["models"]["last"]["training"]["best"] == 71.25
    gains = [result for result in document["results"] if result["model"] == "best"]
    assert {(gain["gain"], gain["p_value"]) for gain in gains} == {(0, 1)}
    assert_same_predictions(*(tmp_path / "out" / f"predictions-{name}.tsv" for name in ("folder", "best")))


def test_a_training_scores_as_it_did_in_validation(imported, dictionary, tmp_path, capsys):
    """From `fairseq-train` to the table: the same rows as text give the accuracy that the checkpoint was chosen by."""
    data_bin = make_nli_bin(tmp_path, dictionary, {"train": 150, "valid": 45})
    settings = """
        --user-dir ppa_fairseq --task xnli_codeswitch --arch ppa_bert_classifier --criterion sentence_prediction --cpu
        --optimizer adam --lr 1e-2 --batch-size 8 --max-length 32 --max-epoch 5 --no-epoch-checkpoints --num-workers 0
        --best-checkpoint-metric accuracy_avg --maximize-best-checkpoint-metric --train-langs en,fr --code-switch
    """.split()
    run_training([str(data_bin), *settings, "--pretrained", str(imported())], tmp_path / "trained")
    text = tmp_path / "text"
    text.mkdir()
    for language, shift in SHIFT.items():
        lines = []
        for premise, hypothesis, label in rows(45, seed=len("valid")):
            sides = (" ".join(f"w{word + shift}" for word in side) for side in (premise, hypothesis))
            lines.append("\t".join([*sides, label]) + "\n")
        (text / f"dev-{language}.tsv").write_text("".join(lines))
    best = tmp_path / "trained" / "checkpoint_best.pt"
    output = tmp_path / "out"
    assert evaluate("--model", f"m={best}", "--data", text, "--max-length", 32, "--output", output) == 0
    document = json.loads((output / "xnli.json").read_text())
    average = next(result for result in document["results"] if result["language"] == "average")
    training = document["models"]["m"]["training"]
    assert training["value"] == training["best"] == pytest.approx(average["accuracy"], abs=0.01)
    assert average["accuracy"] > 40  # more than one class for all
    chosen = f"chosen for the highest accuracy_avg in validation ({training['best']:.4g})"
    assert f"- m: trained on en,fr with code-switching, {chosen}" in capsys.readouterr().out.splitlines()


def test_languages_are_chosen_and_the_run_repeats(models, data, tmp_path):
    documents = []
    for _ in range(2):  # the second time onto the first one's folder
        flags = ["--data", f"de={data / 'dev-fr.tsv'}", data / "dev-sw.tsv", data / "dev-en.tsv"]
        out = tmp_path / "out"
        assert evaluate(*model_flags(models), *flags, "--langs", "sw,de", "--cpu", "--output", out) == 0
        documents.append((out / "xnli.json").read_bytes())
    assert documents[0] == documents[1]
    languages = [result["language"] for result in json.loads(documents[0])["results"]]
    assert languages == ["sw", "de", "average"] * 2


def write_json_rows(path, order, seed):
    """MultiNLI's JSON lines, each pairID with its own label, in the order given."""
    premises, hypotheses = some_pairs(len(order), seed)
    rows = [
        {"sentence1": premises[i], "sentence2": hypotheses[i], "gold_label": LABELS[i % 3], "pairID": f"p{i}"}
        for i in order
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_are_matched_by_their_ids(models, tmp_path, capsys):
    """An order of its own changes nothing: the same rows are taken for translations."""
    order = np.random.default_rng(0).permutation(40).tolist()
    for number, french in enumerate((range(40), order)):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_json_rows(folder / "dev.en.jsonl", range(40), seed=5)
        write_json_rows(folder / "dev.fr.jsonl", french, seed=6)
        assert evaluate(*model_flags(models), "--data", folder, "--output", folder / "out") == 0
        assert json.loads((folder / "out" / "xnli.json").read_text())["data"]["translations"]
    assert_same_predictions(*(tmp_path / number / "out" / "predictions-base.tsv" for number in ("0", "1")))


@pytest.mark.parametrize("change", ["fewer rows", "another label"])
def test_languages_with_rows_of_their_own_are_resampled_by_themselves(models, data, tmp_path, capsys, change):
    (tmp_path / "dev-en.tsv").write_bytes((data / "dev-en.tsv").read_bytes())
    lines = (data / "dev-fr.tsv").read_text().splitlines()
    if change == "fewer rows":
        lines = lines[:20]
    else:
        lines[7] = lines[7].rpartition("\t")[0] + "\t" + LABELS[lines[7].endswith(LABELS[0])]
    (tmp_path / "dev-fr.tsv").write_text("\n".join(lines) + "\n")
    assert evaluate(*model_flags(models), "--data", tmp_path, "--output", tmp_path / "out") == 0
    assert "rows are not the same examples" in capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "xnli.json").read_text())
    assert not document["data"]["translations"]
    rows = read_predictions(tmp_path / "out" / "predictions-base.tsv")
    right = [
        np.array([row["gold"] == row["predicted"] for row in rows if row["language"] == language])
        for language in ("en", "fr")
    ]
    sets = [([f"{place} {i}" for i in range(len(side))], 100 * side) for place, side in enumerate(right)]
    average = next(r for r in document["results"] if r["language"] == "average")
    assert average["accuracy"] == pytest.approx(50 * (right[0].mean() + right[1].mean()))
    assert (average["low"], average["high"]) == pytest.approx(interval(sets))


def test_classes_without_names_need_the_users(models, data, tmp_path, capsys):
    folder = save_classifier(tmp_path, seed=0, labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    flags = ["--data", data, "--output", tmp_path / "out", "--model", f"unnamed={folder}"]
    assert evaluate(*flags) == 1
    error = capsys.readouterr().err
    assert "model unnamed: its classes have no names (LABEL_0, LABEL_1, LABEL_2)" in error and "--labels" in error
    assert evaluate(*flags, "--labels", "contradiction,entailment") == 1
    assert "--labels has 2 names, but there are 3 classes" in capsys.readouterr().err
    assert evaluate(*flags, "--labels", ",".join(OTHER_ORDER), "--model", f"base={models['base']}") == 0
    assert_same_predictions(*(tmp_path / "out" / f"predictions-{name}.tsv" for name in ("unnamed", "base")))


def test_cut_pairs_are_counted_on_stderr(models, data, tmp_path, capsys):
    flags = ["--data", data / "dev-en.tsv", "--max-length", 30, "--output", tmp_path / "out"]
    assert evaluate("--model", f"m={models['base']}", *flags) == 0
    cut = json.loads((tmp_path / "out" / "xnli.json").read_text())["models"]["m"]["truncated"]
    assert 0 < cut < 60 and f"m: {cut} of 60 pairs cut to 30 tokens" in capsys.readouterr().err


def test_bad_models_and_flags_are_refused_and_nothing_is_written(models, data, tmp_path, capsys):
    base = f"base={models['base']}"
    model = checkpoint.read(models["base"])
    head = {name: value for name, value in model.state.items() if name.startswith(CLASSIFICATION_HEAD)}
    states = {
        "headless": {name: value for name, value in model.state.items() if name not in head},
        "nan": model.state | {CLASSIFICATION_HEAD + "out_proj.bias": torch.tensor([0, float("nan"), 0])},
        "huge": model.state | {CLASSIFICATION_HEAD + "out_proj.weight": torch.full((3, 16), 3e38)},
    }
    for name, state in states.items():
        save_training(tmp_path / f"{name}.pt", models["base"], model=state)
    other = {"tokenizer": model.tokenizer, "labels": ["good", "bad", "neutral"]}
    save_training(tmp_path / "other.pt", models["base"], task_state=other)
    (tmp_path / "foreign.pt").write_bytes(b"no checkpoint")
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    for flags, message in (
        (["--model", "x=nowhere"], "x=nowhere: no such file or folder"),
        (["--model", base, "--model", base], "two models of this name"),
        (["--model", f"a/b={models['base']}"], "leave the / out"),
        (["--model", base, "--model", f"x={tmp_path / 'foreign.pt'}"], "model x: "),
        (["--model", base, "--model", f"x={tmp_path / 'headless.pt'}"], "headless.pt: no classification head"),
        (["--model", f"x={tmp_path / 'nan.pt'}"], "out_proj.bias holds NaN"),
        (["--model", f"x={tmp_path / 'huge.pt'}"], "model x: the classifier's logits are not finite"),
        (["--model", f"x={tmp_path / 'other.pt'}"], "model x: 3 classes (good, bad, neutral), but the data has 3"),
        (["--model", base, "--max-length", "129"], "has 128 positions; give 5 to 128"),
        (["--model", base, "--max-length", "4"], "has 128 positions; give 5 to 128"),
        (["--model", base, "--langs", "fr,de"], "--langs de: not in the data, which has en, fr, sw"),
        (["--model", base, "--output", tmp_path / "file"], "file: is a file"),
        (["--model", base, "--output", tmp_path / "full"], "full: holds thesis.tex, which"),
    ):
        assert evaluate("--data", data, "--output", tmp_path / "out", *flags) == 1, flags
        error = capsys.readouterr().err
        assert message in error.splitlines()[-1] and "Traceback" not in error
        assert not list(tmp_path.glob("*out*")) and [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    for flags in (["--model", "unnamed"], ["--model", base, "--langs", "en,en"], ["--model", base, "--labels", "a,"]):
        with pytest.raises(SystemExit, match="2"):
            evaluate("--data", data, "--output", tmp_path / "out", *flags)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no .tsv, .jsonl or .json in this folder"),
        ({"dev-en.tsv": ""}, "dev-en.tsv: no row in it"),
        ({"dev-en.tsv": "w1\tw2\tneutral\n"}, "dev-en.tsv:1: the only labelled row of its language"),
        ({"dev-en.tsv": "w1\tw2\tneutral\nw1\tw2\tmaybe\n"}, "dev-en.tsv:2: unknown label 'maybe'"),
        ({"dev-en.tsv": "w1\tw2\tneutral\n\tw2\tneutral\n"}, "dev-en.tsv:2: empty premise"),
        ({"dev-en.tsv": "w1\tw2\tneutral\n" * 2, "test-en.tsv": "w1\tw2\tneutral\n" * 2}, "both have en"),
    ],
)
def test_bad_data_is_refused_and_an_earlier_evaluation_stays(models, data, tmp_path, capsys, files, message):
    model, out = ("--model", f"m={models['base']}"), tmp_path / "out"
    assert evaluate(*model, "--data", data / "dev-en.tsv", "--output", out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    folder = tmp_path / "data"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    assert evaluate(*model, "--data", folder, "--output", out) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("ppa evaluate-xnli: error: ") and message in error
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_standin_on_xnli_in_five_scripts_equals_transformers(shared_data, tmp_path):
    """Real text and a real vocabulary, with a head of random weights."""
    standin, xnli = shared_data("standin"), shared_data("xnli-dev")
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    BertForSequenceClassification.from_pretrained(standin, **labels).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(standin).save_pretrained(tmp_path)
    classifier = PairClassifier(checkpoint.read(tmp_path), "it", max_length=40, cpu=True)
    for language in ("ar", "en", "hi", "th", "zh"):
        lines = (xnli / f"dev-{language}.tsv").read_text(encoding="utf-8").split("\n")[:12]
        premises, hypotheses, _ = zip(*(line.split("\t") for line in lines), strict=True)
        expected = logits_by_transformers(tmp_path, list(premises), list(hypotheses), 40)
        assert classifier(premises, hypotheses) == pytest.approx(expected, abs=1e-5)
    assert classifier.truncated


def test_data_labels_and_unquote_read_numbers_and_quoted_cells(models, data, tmp_path, capsys):
    order = ["neutral", "entailment", "contradiction"]
    rows = [line.split("\t") for line in (data / "dev-en.tsv").read_text().splitlines()]
    with open(tmp_path / "dev-en.tsv", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([first, second, order.index(label)] for first, second, label in rows)

    def run(folder, out, *flags):
        paths = ["--data", str(folder / "dev-en.tsv"), "--output", str(tmp_path / out)]
        return cli.main(["evaluate-xnli", "--model", f"m={models['base']}", *paths, *flags])

    assert run(data, "plain") == run(tmp_path, "read", "--unquote", "--data-labels", ",".join(order)) == 0
    assert_same_predictions(*(tmp_path / out / "predictions-m.tsv" for out in ("plain", "read")))
    capsys.readouterr()
    assert run(tmp_path, "refused", "--unquote") == 1
    assert "is a number, and publishers number differently; " in (error := capsys.readouterr().err.splitlines()[-1])
    assert error.endswith("(`ppa evaluate-xnli`: --data-labels)")
