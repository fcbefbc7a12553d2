"""`ppa evaluate-xnli`: logits against transformers, numbers against scikit-learn, what it writes and refuses."""

import csv
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.hf_folders import make_xlm_roberta, sample_sentences
from helpers.nli_data import SHIFT, make_nli_bin, rows
from helpers.tables import table_rows
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
from ppa_fairseq.evaluation.significance import interval, sign_flip_test

LABELS = ("entailment", "neutral", "contradiction")
OTHER_ORDER = ("contradiction", "Entailment", "neutral")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(40)), "##s"]
SIZES = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, initializer_range=0.3)


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
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    config = BertConfig(vocab_size=len(VOCABULARY), max_position_embeddings=128, **SIZES, **names)
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


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """dev-en.tsv, dev-fr.tsv and dev-sw.tsv of 60 rows each, with the same labels row by row."""
    folder = tmp_path_factory.mktemp("data")
    labels = [LABELS[number % 3] for number in np.random.default_rng(0).permutation(60)]
    for seed, language in enumerate(("en", "fr", "sw")):
        lines = zip(*some_pairs(60, seed), labels, strict=True)
        (folder / f"dev-{language}.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
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


def evaluate(models, *flags) -> int:
    named = [flag for name, path in models.items() for flag in ("--model", f"{name}={path}")]
    return cli.main(["evaluate-xnli", *map(str, [*named, *flags])])


def read_predictions(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def assert_same_predictions(*paths):
    """Up to the place where a row was read, and to rounding."""
    for one, other in zip(*map(read_predictions, paths), strict=True):
        assert one.pop("place").rpartition(":")[2].isdecimal() and other.pop("place")
        probabilities = [[float(row.pop(label)) for label in LABELS] for row in (one, other)]
        assert one == other and probabilities[0] == pytest.approx(probabilities[1], abs=1e-5)


def test_mixed_pairs_have_the_premise_of_one_language_and_the_hypothesis_of_another(models, data, tmp_path):
    """As files of such pairs, written by hand, are measured; each direction has an average of its own."""
    rows = {
        name: [line.split("\t") for line in (data / f"dev-{name}.tsv").read_text().splitlines()]
        for name in "en fr".split()
    }
    for one, other in (("fr", "en"), ("en", "fr")):
        lines = ((a[0], b[1], a[2]) for a, b in zip(rows[one], rows[other], strict=True))
        (tmp_path / f"{one}.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    assert evaluate(models, "--data", data, "--mixed", "en", "--output", tmp_path / "mixed") == 0
    by_hand = [f"{name}={tmp_path}/{name}.tsv" for name in ("fr", "en")]
    assert evaluate(models, "--data", *by_hand, "--output", tmp_path / "by-hand") == 0
    scores, expected = (
        {
            (one["model"], one["language"]): one["accuracy"]
            for one in json.loads((tmp_path / name / "xnli.json").read_text())["results"]
        }
        for name in ("mixed", "by-hand")
    )
    for model in models:
        assert scores[model, "fr-en"] == expected[model, "fr"] and scores[model, "en-fr"] == expected[model, "en"]
        assert scores[model, "xx-en"] == pytest.approx((scores[model, "fr-en"] + scores[model, "sw-en"]) / 2)
        assert scores[model, "average"] == pytest.approx(np.mean([scores[model, name] for name in ("en", "fr", "sw")]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--mixed", "de"], "--mixed de: "), (["--mixed", "en", "--langs", "en"], "--mixed en: needs it and another")],
)
def test_mixed_pairs_need_two_languages(models, data, tmp_path, capsys, flags, message):
    assert evaluate(models, "--data", data, *flags, "--output", tmp_path / "out") == 1
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_mixed_pairs_need_translations(models, data, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "data")
    lines = (data / "dev-fr.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "data/dev-fr.tsv").write_text("".join(lines[:-1]))
    assert evaluate(models, "--data", tmp_path / "data", "--mixed", "en", "--output", tmp_path / "out") == 1
    assert "--mixed en: the languages differ" in capsys.readouterr().err


@pytest.mark.parametrize("max_length", [8, 21, 128])
def test_logits_equal_transformers(models, max_length):
    """In batches of any size."""
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


def test_two_models_in_three_languages(models, data, tmp_path, capsys):
    output = tmp_path / "new" / "out"
    assert evaluate(models, "--data", data, "--output", output) == 0
    document = json.loads((output / "xnli.json").read_text())
    found = {(result["model"], result["language"]): result for result in document["results"]}
    assert len(found) == len(document["results"]) == 2 * 4
    right, languages = {}, ("en", "fr", "sw")
    for name, folder in models.items():
        rows = read_predictions(output / f"predictions-{name}.tsv")
        places = [(language, str(number)) for language in languages for number in range(1, 61)]
        assert [(row["language"], row["row"]) for row in rows] == places
        # The predictions are transformers', whatever the order of its classes; the numbers scikit-learn's.
        by_name = [label.lower() for label in (OTHER_ORDER if name == "base" else LABELS)]
        for seed, language in enumerate(languages):
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
            right[name, language] = np.array(gold) == np.array(predicted)
        total = np.sum([document["confusions"][name][language] for language in languages], axis=0)
        assert document["confusions"][name]["all"] == total.tolist()
    assert document["data"]["translations"] and document["data"]["languages"]["fr"] == dict.fromkeys(LABELS, 20)

    for name in models:
        right[name, "average"] = np.mean([right[name, language] for language in languages], axis=0)
    for language in (*languages, "average"):
        base, tuned = (100 * right[name, language] for name in models)
        result = found["tuned", language]
        assert (result["low"], result["high"]) == pytest.approx(interval([(range(60), tuned)]))
        gain = [(range(60), tuned - base)]
        assert result["accuracy"] == pytest.approx(tuned.mean())
        assert result["gain"] == pytest.approx((tuned - base).mean())
        assert result["p_value"] == pytest.approx(sign_flip_test(gain))
        assert (result["gain_low"], result["gain_high"]) == pytest.approx(interval(gain))
    assert found["base", "average"]["p_value"] is None

    printed = capsys.readouterr().out
    assert (output / "table.md").read_text() in printed
    base, gain = found["base", "average"], found["tuned", "average"]
    cells = [f"{one['accuracy']:.1f} [{one['low']:.1f}, {one['high']:.1f}]" for one in (base, gain)]
    cells = ["average", "180", *cells, f"{gain['gain']:+.1f} (p = {gain['p_value']:.3f})"]
    assert all(row in table_rows(printed) for row in (["language", "examples", "base", "tuned", "gain"], cells))


def test_checkpoint_gives_what_its_folder_gives(models, data, tmp_path, capsys):
    checkpoint.write(tmp_path / "model.pt", checkpoint.read(models["base"]))
    both = {"folder": models["base"], "checkpoint": tmp_path / "model.pt"}
    assert evaluate(both, "--data", data, "--output", tmp_path / "out", "--batch-tokens", 100) == 0
    table = table_rows(capsys.readouterr().out)[2:]
    assert len(table) == 4 and all(row[2] == row[3] and row[4] == "+0.0 (p = 1.000)" for row in table)
    assert_same_predictions(*(tmp_path / "out" / f"predictions-{name}.tsv" for name in both))


def test_a_training_scores_as_it_did_in_validation(imported, dictionary, tmp_path):
    """From `fairseq-train` to the table: the same rows as text give the accuracy that the checkpoint was chosen by."""
    data_bin = make_nli_bin(tmp_path, dictionary, {"train": 150, "valid": 45})
    settings = """
        --user-dir ppa_fairseq --task xnli_codeswitch --arch ppa_bert_classifier --criterion sentence_prediction --cpu
        --optimizer adam --lr 1e-2 --batch-size 8 --max-length 32 --max-epoch 5 --no-epoch-checkpoints --num-workers 0
        --best-checkpoint-metric accuracy_avg --maximize-best-checkpoint-metric --train-langs en,fr --code-switch
    """.split()
    run_training([str(data_bin), *settings, "--pretrained", str(imported())], tmp_path / "trained")
    (tmp_path / "text").mkdir()
    for language, shift in SHIFT.items():
        lines = []
        for premise, hypothesis, label in rows(45, seed=len("valid")):
            sides = (" ".join(f"w{word + shift}" for word in side) for side in (premise, hypothesis))
            lines.append("\t".join([*sides, label]) + "\n")
        (tmp_path / "text" / f"dev-{language}.tsv").write_text("".join(lines))
    best = {"m": tmp_path / "trained" / "checkpoint_best.pt"}
    assert evaluate(best, "--data", tmp_path / "text", "--max-length", 32, "--output", tmp_path / "out") == 0
    document = json.loads((tmp_path / "out" / "xnli.json").read_text())
    average, training = document["results"][-1], document["models"]["m"]["training"]
    assert average["language"] == "average"
    assert training["value"] == training["best"] == pytest.approx(average["accuracy"], abs=0.01)
    assert (training["train_langs"], training["code_switch"], training["metric"]) == ("en,fr", True, "accuracy_avg")
    assert average["accuracy"] > 40  # more than one class for all


def test_half_precision_tells_its_error(models, data, tmp_path, capsys):
    for dtype in ("float32", "bfloat16"):
        flags = ["--data", data, "--langs", "en", "--output", tmp_path / dtype, "--dtype", dtype]
        assert evaluate({"base": models["base"]}, *flags) == 0
    assert "base: logits in bfloat16 are off by " in capsys.readouterr().err
    about = [json.loads((tmp_path / dtype / "xnli.json").read_text())["models"]["base"]
             for dtype in ("float32", "bfloat16")]  # fmt: skip
    assert "error" not in about[0] and about[1]["dtype"] == "bfloat16"
    assert 0 < about[1]["error"]["mean"] < about[1]["error"]["largest"]
    predictions = [read_predictions(tmp_path / dtype / "predictions-base.tsv") for dtype in ("float32", "bfloat16")]
    gaps = [abs(float(one["neutral"]) - float(other["neutral"])) for one, other in zip(*predictions, strict=True)]
    assert 0 < max(gaps) < 0.05


def test_languages_are_chosen_and_the_run_repeats(models, data, tmp_path):
    documents = []
    for _ in range(2):  # the second time onto the first one's folder
        flags = ["--data", f"de={data / 'dev-fr.tsv'}", data / "dev-sw.tsv", data / "dev-en.tsv"]
        assert evaluate(models, *flags, "--langs", "sw,de", "--cpu", "--output", tmp_path / "out") == 0
        documents.append((tmp_path / "out" / "xnli.json").read_bytes())
    assert documents[0] == documents[1]
    languages = [result["language"] for result in json.loads(documents[0])["results"]]
    assert languages == ["sw", "de", "average"] * 2


def test_rows_are_matched_by_their_ids(models, tmp_path):
    """MultiNLI's JSON lines in an order of their own: the same rows are taken for translations."""
    for name, order in (("same", range(40)), ("other", np.random.default_rng(0).permutation(40).tolist())):
        (tmp_path / name).mkdir()
        for seed, language, places in ((5, "en", range(40)), (6, "fr", order)):
            keys = ("sentence1", "sentence2", "gold_label", "pairID")
            rows = list(zip(*some_pairs(40, seed), (LABELS * 14)[:40], map(str, range(40)), strict=True))
            text = "".join(json.dumps(dict(zip(keys, rows[i], strict=True))) + "\n" for i in places)
            (tmp_path / name / f"dev.{language}.jsonl").write_text(text)
        assert evaluate(models, "--data", tmp_path / name, "--output", tmp_path / name / "out") == 0
        assert json.loads((tmp_path / name / "out" / "xnli.json").read_text())["data"]["translations"]
    assert_same_predictions(*(tmp_path / name / "out" / "predictions-base.tsv" for name in ("same", "other")))


@pytest.mark.parametrize("change", ["fewer rows", "another label"])
def test_languages_with_rows_of_their_own_are_resampled_by_themselves(models, data, tmp_path, capsys, change):
    shutil.copy(data / "dev-en.tsv", tmp_path)
    lines = (data / "dev-fr.tsv").read_text().splitlines()
    lines[7] = lines[7].rpartition("\t")[0] + "\t" + LABELS[lines[7].endswith(LABELS[0])]
    (tmp_path / "dev-fr.tsv").write_text("\n".join(lines[: 20 if change == "fewer rows" else 60]) + "\n")
    assert evaluate(models, "--data", tmp_path, "--output", tmp_path / "out") == 0
    assert "resamples each by itself" in capsys.readouterr().out
    sets = {"en": ([], []), "fr": ([], [])}
    for row in read_predictions(tmp_path / "out" / "predictions-base.tsv"):
        ids, values = sets[row["language"]]
        ids.append((row["language"], row["row"]))
        values.append(100.0 * (row["gold"] == row["predicted"]))
    average = json.loads((tmp_path / "out" / "xnli.json").read_text())["results"][2]
    sets = [(ids, np.array(values)) for ids, values in sets.values()]
    assert average["accuracy"] == pytest.approx(np.mean([values.mean() for _, values in sets]))
    assert (average["low"], average["high"]) == pytest.approx(interval(sets))


def test_classes_without_names_need_the_users(models, data, tmp_path, capsys):
    unnamed = save_classifier(tmp_path, seed=0, labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    both = {"unnamed": unnamed, "base": models["base"]}
    flags = ["--data", data, "--output", tmp_path / "out"]
    assert evaluate(both, *flags) == 1
    error = capsys.readouterr().err
    assert "model unnamed: its classes have no names (LABEL_0, LABEL_1, LABEL_2)" in error and "--labels" in error
    assert evaluate(both, *flags, "--labels", "contradiction,entailment") == 1
    assert "2 classes (contradiction, entailment), but the data has 3" in capsys.readouterr().err
    assert evaluate(both, *flags, "--labels", ",".join(OTHER_ORDER)) == 0
    assert_same_predictions(*(tmp_path / "out" / f"predictions-{name}.tsv" for name in both))


def test_cut_pairs_are_counted_and_a_name_that_is_not_utf8_costs_no_result(models, data, tmp_path, capsys):
    name = os.fsdecode(b"\xff-en.tsv")
    shutil.copy(data / "dev-en.tsv", tmp_path / name)
    flags = ["--data", tmp_path / name, "--max-length", 30, "--output", tmp_path / "out"]
    assert evaluate({"m": models["base"]}, *flags) == 0
    document = json.loads((tmp_path / "out/xnli.json").read_text("utf-8"))
    assert document["data"]["paths"] == [str(tmp_path / name)]
    cut = document["models"]["m"]["truncated"]
    assert 0 < cut < 60 and f"m: {cut} of 60 pairs cut to 30 tokens" in capsys.readouterr().err
    assert "\\udcff-en.tsv:1" in read_predictions(tmp_path / "out/predictions-m.tsv")[0]["place"]


@pytest.fixture(scope="module")
def broken(models, tmp_path_factory):
    """A folder of checkpoints, each of which is wrong in its own way."""
    folder, model = tmp_path_factory.mktemp("broken"), checkpoint.read(models["base"])
    headless = {name: value for name, value in model.state.items() if not name.startswith(CLASSIFICATION_HEAD)}
    huge = model.state | {CLASSIFICATION_HEAD + "out_proj.weight": torch.full((3, 16), 3e38)}
    checkpoint.write(folder / "headless.pt", replace(model, state=headless))
    checkpoint.write(folder / "huge.pt", replace(model, state=huge))
    checkpoint.write(folder / "other.pt", replace(model, labels=["good", "bad", "neutral"]))
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "base=x"], "two models of this name"),
        (["--model", "a/b=x"], "leave the / out"),
        (["--model", "x={0}/headless.pt"], "headless.pt: no classification head"),
        (["--model", "x={0}/huge.pt"], "model x: the classifier's logits are not finite"),
        (["--model", "x={0}/other.pt"], "model x: 3 classes (good, bad, neutral), but the data has 3"),
        (["--max-length", "4"], "has 128 positions; give 5 to 128"),
        (["--langs", "fr,de"], "--langs de: not in the data, which has en, fr, sw"),
    ],
)
def test_bad_models_and_flags_are_refused(models, data, broken, tmp_path, capsys, flags, message):
    (tmp_path / "out").mkdir()
    flags = [flag.format(broken) for flag in flags]
    assert evaluate({"base": models["base"]}, "--data", data, "--output", tmp_path / "out", *flags) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("ppa evaluate-xnli: error: ") and message in error
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


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
