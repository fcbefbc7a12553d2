"""`ppa retrieve` against plain transformers loops; its tables, files and answers to bad input."""

import gzip
import json
import lzma

import numpy as np
import pytest
import torch
from helpers.tables import table_rows
from transformers import BertConfig, BertModel, BertTokenizer

from ppa_fairseq.commands import main as cli

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(40))]
LAYERS = {"before": 2, "after": 3}
SIZES = dict(hidden_size=16, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: Hugging Face folder} of two encoders of different depth."""
    paths = {}
    for seed, (name, layers) in enumerate(LAYERS.items()):
        paths[name] = tmp_path_factory.mktemp(name)
        (paths[name] / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
        torch.manual_seed(seed)
        config = BertConfig(vocab_size=len(VOCABULARY), num_hidden_layers=layers, initializer_range=0.2, **SIZES)
        BertModel(config).save_pretrained(paths[name])
    return paths


def some_pairs(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Sentences of 4 to 12 words, and 'translations' in which a third of the words are others."""
    rng = np.random.default_rng(seed)
    source = [rng.integers(40, size=rng.integers(4, 13)) for _ in range(count)]
    target = [np.where(rng.random(len(row)) < 0.35, rng.integers(40, size=len(row)), row) for row in source]
    return tuple([" ".join(f"w{word}" for word in row) for row in side] for side in (source, target))


@pytest.fixture
def pairs_folder(tmp_path):
    """A folder with de-en as two files, fr-en as a TSV of three columns, and files that are no sets."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for side, sentences in zip(("de", "en"), some_pairs(40, seed=0), strict=True):
        (folder / f"de-en.{side}.gz").write_bytes(gzip.compress("\n".join(sentences).encode()))
    text = "".join(f"{a}\t{b}\tsource\n" for a, b in zip(*some_pairs(40, seed=1), strict=True))
    (folder / "fr-en.test.tsv.xz").write_bytes(lzma.compress(text.encode()))
    (folder / "fr-en.train.tsv").write_text("w1\tw2\n")
    (folder / "README.txt").write_text("no pairs\n")
    return folder


def retrieve(models, *flags) -> int:
    named = [flag for name, path in models.items() for flag in ("--model", f"{name}={path}")]
    return cli.main(["retrieve", *map(str, [*named, *flags])])


@torch.no_grad()
def accuracy_by_transformers(folder, source, target, layer) -> dict[str, tuple[float, float]]:
    """{pooling: (forward, backward)}: one sentence at a time through BertModel, cosines in float64."""
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = BertTokenizer.from_pretrained(folder)
    sides = []
    for sentences in (source, target):
        inputs = (tokenizer(sentence, return_tensors="pt") for sentence in sentences)
        hidden = [model(**one, output_hidden_states=True).hidden_states[layer][0].double() for one in inputs]
        sides.append({"cls": [states[0] for states in hidden], "mean": [states.mean(0) for states in hidden]})
    accuracy = {}
    for pooling in ("cls", "mean"):
        x, y = (np.stack(side[pooling]) for side in sides)
        x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
        found = [(x @ y.T).argmax(axis) == np.arange(len(x)) for axis in (1, 0)]
        accuracy[pooling] = tuple(100 * np.mean(side) for side in found)
    return accuracy


def test_last_layer_of_two_models_equals_transformers(models, pairs_folder, tmp_path, capsys):
    output = tmp_path / "new" / "out"
    flags = ["--pooling", "both", "--max-pairs", 30, "--output", output]
    assert retrieve(models, "--pairs", pairs_folder, *flags) == 0
    document = json.loads((output / "retrieval.json").read_text())
    assert {name: (one["layers"], one["truncated"]) for name, one in document["models"].items()} == {
        "before": (2, 0), "after": (3, 0)
    }  # fmt: skip
    assert document["settings"]["max_pairs"] == 30 and document["settings"]["layer"] == "last"
    assert document["sets"]["fr-en"] == {
        "files": [str(pairs_folder / "fr-en.test.tsv.xz")], "pairs": 30, "repeated": {"fr": 0, "en": 0}
    }  # fmt: skip

    found = {(r["model"], r["pair"], r["pooling"]): r for r in document["results"]}
    assert len(found) == len(document["results"]) == 2 * 3 * 2
    for seed, pair in enumerate(("de-en", "fr-en")):
        source, target = (side[:30] for side in some_pairs(40, seed))
        for name, layers in LAYERS.items():
            for pooling, expected in accuracy_by_transformers(models[name], source, target, layers).items():
                result = found[name, pair, pooling]
                assert (result["forward"], result["backward"]) == pytest.approx(expected)
                assert (result["layer"], result["scoring"], result["pairs"]) == (layers, "cosine", 30)
    for pooling in ("cls", "mean"):
        for side in ("forward", "backward"):
            for name in LAYERS:
                both = [found[name, pair, pooling][side] for pair in ("de-en", "fr-en")]
                assert found[name, "average", pooling][side] == pytest.approx(sum(both) / 2)
            for pair in ("de-en", "fr-en", "average"):
                before, after = (found[name, pair, pooling] for name in LAYERS)
                assert before[f"gain_{side}"] is None
                assert after[f"gain_{side}"] == pytest.approx(after[side] - before[side])

    printed = capsys.readouterr().out
    assert (output / "table.md").read_text() in printed
    before, after = found["before", "average", "mean"], found["after", "average", "mean"]
    cells = [f"{before[side]:.1f}" for side in ("forward", "backward")]
    cells += [f"{after[side]:.1f} ({after[f'gain_{side}']:+.1f})" for side in ("forward", "backward")]
    heading = ["pair", "pairs", "before xx→en", "before en→xx", "after xx→en", "after en→xx"]
    assert all(line in table_rows(printed) for line in (heading, ["average", "60", *cells]))
    names = {"table.md", "retrieval.json", "by-pair-cls-cosine.png", "by-pair-mean-cosine.png", ".ppa-output.json"}
    assert {path.name for path in output.iterdir()} == names
    assert (output / "by-pair-mean-cosine.png").read_bytes().startswith(b"\x89PNG")


def test_all_layers_by_both_scorings(models, pairs_folder, tmp_path, capsys):
    flags = ["--layer", "all", "--scoring", "both", "--max-pairs", "0", "--output", tmp_path / "out"]
    assert retrieve(models, "--pairs", pairs_folder, *flags) == 0
    results = json.loads((tmp_path / "out" / "retrieval.json").read_text())["results"]
    found = {(r["model"], r["layer"], r["pair"], r["scoring"]): r for r in results}
    by_layer = [result for result in results if result["pair"] == "average"]
    assert len(by_layer) == (3 + 4) * 2 and all(result["pairs"] == 80 for result in by_layer)
    after = found["after", 2, "average", "margin"]
    gain = after["forward"] - found["before", 2, "average", "margin"]["forward"]
    assert after["gain_forward"] == pytest.approx(gain)
    assert found["after", 3, "average", "margin"]["gain_forward"] is None  # `before` has no layer 3
    for layer in (0, 1):
        one = found["before", layer, "de-en", "cosine"]
        expected = accuracy_by_transformers(models["before"], *some_pairs(40, 0), layer)
        assert (one["forward"], one["backward"]) == pytest.approx(expected["mean"])
    # A line for each layer; the shallower model's cells of layer 3 are empty.
    assert [row[2:4] for row in table_rows(capsys.readouterr().out) if row[0] == "3"] == [["", ""]] * 2
    plots = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert plots == {"by-layer-mean-cosine.png", "by-layer-mean-margin.png"}


def test_one_side_names_its_set_and_columns_may_be_turned(models, pairs_folder, tmp_path, capsys):
    one = {"m": models["before"]}
    text = "".join(f"{b}\tx\t{a}\n" for a, b in zip(*some_pairs(40, 0), strict=True))
    (tmp_path / "de-en.tsv").write_text(text)
    tables = []
    for flags in ([pairs_folder / "de-en.en.gz"], [tmp_path / "de-en.tsv", "--columns", "3,1"]):
        assert retrieve(one, "--layer", "0", "--pairs", *flags) == 0
        tables.append(table_rows(capsys.readouterr().out))
    assert tables[0] == tables[1] and tables[0][2][0] == "de-en"


def test_cut_sentences_are_counted_on_stderr(models, tmp_path, capsys):
    (tmp_path / "de-en.tsv").write_text("w1 w2 w3 w4 w5\tw1\nw2\tw3 w4 w5 w6\n")
    assert retrieve({"m": models["before"]}, "--pairs", tmp_path, "--max-length", 5) == 0
    assert "m: 2 of 4 sentences cut to 5 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "flags", "message"),
    [
        pytest.param({"notes.txt": "x\n"}, [], "pairs: no parallel text found", id="no set"),
        pytest.param({"de-en.de": "a\nb\n"}, [], "de-en.de: no de-en.en beside it", id="no translation"),
        pytest.param({"de-en.de": "a\nb\n", "de-en.en": "a\n"}, [], "de-en.de has 2 lines but", id="unequal"),
        pytest.param({"de-en.de": "a\nb\n", "de-en.en": "a\n \n"}, [], "de-en.en:2: an empty", id="half a pair"),
        pytest.param({"de-en.tsv": "a\tb\n"}, [], "de-en.tsv: fewer than two pairs", id="one pair"),
        pytest.param({"de-en.tsv": "a\tb\nc\nd\te\n"}, [], "de-en.tsv:2: 1 columns", id="a column less"),
        pytest.param({"de-en.tsv": "a\tb\rc\td\r"}, [], "de-en.tsv: its lines end in CR alone", id="CR alone"),
        pytest.param({"de-en.a.tsv": "a\tb\n", "de-en.b.tsv": "a\tb\n"}, [], "is a set of de-en, too", id="two sets"),
        pytest.param({"de-en.tsv": "a\tb\n"}, ["--max-pairs", "1"], "--max-pairs 1: give two", id="--max-pairs"),
        pytest.param({"de-en.tsv": "a\tb\n" * 2}, ["--max-length", "33"], "has 32 positions", id="--max-length"),
        pytest.param({"de-en.tsv": "a\tb\n" * 2}, ["--model", "m=x"], "two models of this name", id="--model"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(models, tmp_path, capsys, files, flags, message):
    (tmp_path / "pairs").mkdir()
    for name, content in files.items():
        (tmp_path / "pairs" / name).write_text(content, newline="")
    output = ["--pairs", tmp_path / "pairs", "--output", tmp_path / "out"]
    assert retrieve({"m": models["before"]}, *output, *flags) == 1
    error = capsys.readouterr().err
    assert error.startswith("ppa retrieve: error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_standin_on_tatoeba_equals_transformers(shared_data, tmp_path):
    """The numbers that an unaligned encoder of 8 layers really has, on real text in three scripts."""
    standin, tatoeba = shared_data("standin"), shared_data("tatoeba")
    languages = ("de", "ur", "zh")
    files = [tatoeba / f"{language}-en.{language}" for language in languages]
    flags = ["--layer", 7, "--pooling", "both", "--max-pairs", 60, "--output", tmp_path / "out"]
    assert retrieve({"standin": standin}, "--pairs", *files, *flags) == 0
    results = json.loads((tmp_path / "out" / "retrieval.json").read_text())["results"]
    for language in languages:
        names = (tatoeba / f"{language}-en.{side}" for side in (language, "en"))
        source, target = (name.read_text(encoding="utf-8").split("\n")[:60] for name in names)
        for pooling, expected in accuracy_by_transformers(standin, source, target, 7).items():
            result = next(r for r in results if (r["pair"], r["pooling"]) == (f"{language}-en", pooling))
            assert (result["forward"], result["backward"]) == pytest.approx(expected, abs=0.1)
