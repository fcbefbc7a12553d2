"""`ppa retrieve` against plain transformers loops; its tables, files and answers to bad input."""

import gzip
import json
import lzma

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from ppa_fairseq.commands import main as cli

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(40))]
LAYERS = {"before": 2, "after": 3}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: Hugging Face folder} of two encoders of different depth."""
    paths = {}
    for seed, (name, layers) in enumerate(LAYERS.items()):
        paths[name] = tmp_path_factory.mktemp(name)
        (paths[name] / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
            initializer_range=0.2,
        )
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
    for seed, language in enumerate(("de", "fr")):
        source, target = some_pairs(40, seed)
        if language == "de":
            for side, sentences in (("de", source), ("en", target)):
                (folder / f"de-en.{side}.gz").write_bytes(gzip.compress("\n".join(sentences).encode()))
        else:
            text = "".join(f"{a}\t{b}\tsource\n" for a, b in zip(source, target, strict=True))
            (folder / "fr-en.test.tsv.xz").write_bytes(lzma.compress(text.encode()))
    (folder / "fr-en.train.tsv").write_text("w1\tw2\n")
    (folder / "README.txt").write_text("no pairs\n")
    return folder


def retrieve(*flags) -> int:
    return cli.main(["retrieve", *map(str, flags)])


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
        cosines = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (
            y / np.linalg.norm(y, axis=1, keepdims=True)
        ).T
        every = np.arange(len(x))
        found = [cosines.argmax(axis) == every for axis in (1, 0)]
        accuracy[pooling] = tuple(100 * np.mean(side) for side in found)
    return accuracy


def test_last_layer_of_two_models_equals_transformers(models, pairs_folder, tmp_path, capsys):
    flags = [flag for name, path in models.items() for flag in ("--model", f"{name}={path}")]
    output = tmp_path / "new" / "out"
    assert (
        retrieve(*flags, "--pairs", pairs_folder, "--pooling", "both", "--max-pairs", 30, "--output", output)
        == 0
    )
    document = json.loads((output / "retrieval.json").read_text())
    assert list(document["models"]) == ["before", "after"]
    assert document["models"]["after"]["layers"] == 3 and document["models"]["after"]["truncated"] == 0
    assert document["settings"]["max_pairs"] == 30 and document["settings"]["layer"] == "last"
    assert document["sets"]["fr-en"] == {
        "files": [str(pairs_folder / "fr-en.test.tsv.xz")], "pairs": 30, "repeated": {"fr": 0, "en": 0}
    }  # fmt: skip

    found = {(r["model"], r["pair"], r["pooling"]): r for r in document["results"]}
    assert len(found) == len(document["results"]) == 2 * 3 * 2
    for seed, pair in enumerate(("de-en", "fr-en")):
        source, target = (side[:30] for side in some_pairs(40, seed))
        for name, layers in LAYERS.items():
            expected = accuracy_by_transformers(models[name], source, target, layers)
            for pooling in ("cls", "mean"):
                result = found[name, pair, pooling]
                assert (result["forward"], result["backward"]) == pytest.approx(expected[pooling])
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
    cells = [
        "average", "60", f"{before['forward']:.1f}", f"{before['backward']:.1f}",
        f"{after['forward']:.1f} ({after['gain_forward']:+.1f})",
        f"{after['backward']:.1f} ({after['gain_backward']:+.1f})",
    ]  # fmt: skip
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines()]
    assert cells in rows
    assert ["pair", "pairs", "before xx→en", "before en→xx", "after xx→en", "after en→xx"] in rows
    names = {"table.md", "retrieval.json", "by-pair-cls-cosine.png", "by-pair-mean-cosine.png", ".ppa-output.json"}
    assert {path.name for path in output.iterdir()} == names
    assert (output / "by-pair-mean-cosine.png").read_bytes().startswith(b"\x89PNG")


def test_all_layers_by_both_scorings(models, pairs_folder, tmp_path, capsys):
    flags = [flag for name, path in models.items() for flag in ("--model", f"{name}={path}")]
    output = tmp_path / "out"
    wanted = ["--layer", "all", "--scoring", "both", "--max-pairs", "0", "--output", output]
    assert retrieve(*flags, "--pairs", pairs_folder, *wanted) == 0
    results = json.loads((output / "retrieval.json").read_text())["results"]
    by_layer = {(r["model"], r["layer"], r["scoring"]): r for r in results if r["pair"] == "average"}
    assert len(by_layer) == (3 + 4) * 2
    assert all(r["pairs"] == 80 for r in by_layer.values())
    gain = by_layer["after", 2, "margin"]["forward"] - by_layer["before", 2, "margin"]["forward"]
    assert by_layer["after", 2, "margin"]["gain_forward"] == pytest.approx(gain)
    assert by_layer["after", 3, "margin"]["gain_forward"] is None  # `before` has no layer 3
    for layer in (0, 1):
        one = next(r for r in results if (r["model"], r["layer"], r["pair"], r["scoring"]) ==
                   ("before", layer, "de-en", "cosine"))  # fmt: skip
        expected = accuracy_by_transformers(models["before"], *some_pairs(40, 0), layer)
        assert (one["forward"], one["backward"]) == pytest.approx(expected["mean"])
    # one line a layer; the shallower model's cells of layer 3 are empty
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()
    ]
    assert [row[2:4] for row in rows if row[0] == "3"] == [["", ""]] * 2
    assert {path.name for path in output.glob("*.png")} == {
        "by-layer-mean-cosine.png",
        "by-layer-mean-margin.png",
    }


def test_one_side_names_its_set_and_columns_may_be_turned(models, pairs_folder, tmp_path, capsys):
    model = ("--model", f"m={models['before']}")
    assert retrieve(*model, "--pairs", pairs_folder / "de-en.en.gz", "--layer", "0") == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "de-en" in line)
    source, target = some_pairs(40, 0)
    (tmp_path / "de-en.tsv").write_text(
        "".join(f"{b}\tx\t{a}\n" for a, b in zip(source, target, strict=True))
    )
    assert retrieve(*model, "--pairs", tmp_path / "de-en.tsv", "--layer", "0", "--columns", "3,1") == 0
    assert row in capsys.readouterr().out.splitlines()


def test_cut_sentences_are_counted_on_stderr(models, tmp_path, capsys):
    (tmp_path / "de-en.tsv").write_text("w1 w2 w3 w4 w5\tw1\nw2\tw3 w4 w5 w6\n")
    assert retrieve("--model", f"m={models['before']}", "--pairs", tmp_path, "--max-length", 5) == 0
    assert "m: 2 of 4 sentences cut to 5 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "pairs: no sets of pairs in this folder"),
        ({"notes.txt": "x\n"}, "pairs: no sets of pairs in this folder"),
        ({"de-en.de": "a\nb\n", "de-en.en": "a\nb\nc\n"}, "de-en.en has 3 lines but"),
        ({"de-en.de": "a\nb\n"}, "de-en.en: no such file"),
        ({"de-en.de": "a\n\nc\n", "de-en.en": "a\nb\nc\n"}, "de-en.de:2: an empty sentence"),
        ({"de-en.de": "a\nb\nc\n", "de-en.en": "a\nb\n  \n"}, "de-en.en:3: an empty sentence"),
        ({"de-en.de": "", "de-en.en": ""}, "de-en.de: the file is empty"),
        ({"de-en.tsv": ""}, "de-en.tsv: the file is empty"),
        ({"de-en.tsv": "a\tb\n"}, "de-en.tsv: only one pair"),
        ({"de-en.tsv": "a\tb\nc\nd\te\n"}, "de-en.tsv:2: 1 columns"),
        ({"de-en.tsv": "a\tb\nc\t\n"}, "de-en.tsv:2: an empty sentence"),
        ({"de-en.tsv": b"a\tb\n\xff\tc\n"}, "de-en.tsv:2: not UTF-8"),
        ({"de-en.tsv.xz": b"no archive"}, "de-en.tsv.xz: truncated or damaged"),
        ({"de-en.tsv.gz": gzip.compress(b"a\tb\n" * 99)[:-9]}, "de-en.tsv.gz: truncated or damaged"),
        ({"de-en.tsv": "w ##x\tb\nw ##y\tc\n"}, "de-en.tsv: the text is already split into WordPieces"),
        ({"de-en.a.tsv": "a\tb\nc\td\n", "de-en.b.tsv": "a\tb\nc\td\n"}, "is a set of de-en, too"),
    ],
)
def test_bad_pairs_are_refused_and_nothing_is_written(models, tmp_path, capsys, files, message):
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert retrieve("--model", f"m={models['before']}", "--pairs", folder, "--output", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith("ppa retrieve: error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_bad_models_and_flags_are_refused(models, pairs_folder, tmp_path, capsys):
    (tmp_path / "foreign.pt").write_bytes(b"no checkpoint")
    (tmp_path / "file").write_text("")
    (tmp_path / "something").mkdir()
    before = f"before={models['before']}"
    for flags, message in (
        (["--model", "x=nowhere"], "x=nowhere: no such file or folder"),
        (["--model", before, "--model", before], "two models of this name"),
        (["--model", f"x={tmp_path / 'foreign.pt'}"], "model x: "),
        (["--model", f"x={tmp_path / 'something'}"], "model x: "),
        (["--model", before, "--layer", "3"], "model before: --layer 3: no such layer"),
        (["--model", before, "--max-pairs", "-1"], "--max-pairs -1: give two pairs or more"),
        (["--model", before, "--max-pairs", "1"], "--max-pairs 1: give two pairs or more"),
        (["--model", before, "--max-length", "33"], "has 32 positions"),
        (["--model", before, "--pairs", tmp_path / "nothing"], "nothing: no such file or folder"),
        (["--model", before, "--pairs", tmp_path / "file"], "file: no language pair in the file's name"),
        (["--model", before, "--output", tmp_path / "file"], "file: is a file"),
    ):
        assert retrieve("--pairs", pairs_folder, "--output", tmp_path / "out", *flags) == 1
        error = capsys.readouterr().err
        assert message in error.splitlines()[-1] and "Traceback" not in error
        assert not (tmp_path / "out").exists()
    for flags in (["--model", "unnamed"], ["--model", before, "--columns", "1,1"]):
        with pytest.raises(SystemExit, match="2"):
            retrieve("--pairs", pairs_folder, *flags)


def test_standin_on_tatoeba_equals_transformers(shared_data, tmp_path):
    """The numbers that an unaligned encoder of 8 layers really has, on real text in three scripts."""
    standin, tatoeba = shared_data("standin"), shared_data("tatoeba")
    languages = ("de", "ur", "zh")
    files = [tatoeba / f"{language}-en.{language}" for language in languages]
    flags = ["--layer", 7, "--pooling", "both", "--max-pairs", 60, "--output", tmp_path / "out"]
    assert retrieve("--model", f"standin={standin}", "--pairs", *files, *flags) == 0
    results = json.loads((tmp_path / "out" / "retrieval.json").read_text())["results"]
    for language in languages:
        source, target = (
            (tatoeba / f"{language}-en.{side}").read_text(encoding="utf-8").split("\n")[:60]
            for side in (language, "en")
        )
        for pooling, expected in accuracy_by_transformers(standin, source, target, 7).items():
            result = next(r for r in results if (r["pair"], r["pooling"]) == (f"{language}-en", pooling))
            assert (result["forward"], result["backward"]) == pytest.approx(expected, abs=0.1)
