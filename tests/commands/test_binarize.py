"""`ppa binarize` writes what fairseq-preprocess writes, and refuses text that fairseq would take for [UNK]."""

import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDataset
from fairseq_cli import preprocess

from ppa_fairseq.commands import main as cli
from ppa_fairseq.utils.files import MARKER

REPOSITORY = Path(__file__).resolve().parents[2]
SYMBOLS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(60))]
LABELS = ("entailment", "neutral", "contradiction")
NLI_SPLITS = {"en": {"train": 30, "valid": 7, "test": 5}, "fr": {"valid": 7}}


def write_pair(folder, name, train=50, valid=5, seed=0):
    for split, count in (("train", train), ("valid", valid)):
        for side, language in enumerate(name.split("-") if count else ()):
            rows = [
                " ".join(f"w{(row * 7 + place * (side + 3) + seed) % 60}" for place in range(1 + (row + side) % 9))
                for row in range(count)
            ]
            (folder / f"{split}.{name}.{language}").write_text("".join(f"{row}\n" for row in rows))


@pytest.fixture
def text(tmp_path):
    """A folder as `ppa prepare-bitext` writes it."""
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in SYMBOLS))
    (folder / "vocab.txt").write_text("".join(f"{symbol}\n" for symbol in SYMBOLS))
    write_pair(folder, "de-en")
    write_pair(folder, "en-fr", train=80, seed=1)
    return folder


@pytest.fixture
def nli(text):
    """The folder *text*, as `ppa prepare-xnli` would have written it."""
    for path in text.glob("*.*-*.*"):
        path.unlink()
    (text / "labels.txt").write_text("".join(f"{label} 1\n" for label in LABELS))
    for language, splits in NLI_SPLITS.items():
        (text / language).mkdir()
        for split, count in splits.items():
            for part, step in (("input0", 3), ("input1", 5)):
                rows = [
                    " ".join(f"w{(row * step + k * len(split) + (language == 'fr')) % 60}" for k in range(1 + row % 9))
                    for row in range(count)
                ]
                (text / language / f"{split}.{part}").write_text("".join(f"{row}\n" for row in rows))
            labels = [LABELS[row * row % 3] for row in range(count)]
            (text / language / f"{split}.label").write_text("".join(f"{label}\n" for label in labels))
    return text


@pytest.fixture
def run(text, tmp_path, capsys):
    """``run("--workers", "2")``: its output folder and what it printed, or the error with ``status=1``."""

    def binarize(*arguments, out="data-bin", status=0):
        command = ["binarize", str(text), "--destdir", str(tmp_path / out), "--workers", "1"]
        found = cli.main([*command, *map(str, arguments)])
        printed = capsys.readouterr()
        assert found == status, printed.err
        return printed.err.splitlines()[-1] if status else (tmp_path / out, printed.out)

    return binarize


def tree(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (MARKER, "preprocess.log")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rows_of(prefix):
    return [row.tolist() for row in MMapIndexedDataset(str(prefix))]


@pytest.mark.parametrize("workers", [1, 2])
def test_bitext_is_what_fairseq_preprocess_writes(run, text, tmp_path, workers):
    found, printed = run("--workers", workers)
    for source, target in (("de", "en"), ("en", "fr")):
        command = [sys.executable, "-m", "fairseq_cli.preprocess", "--user-dir", REPOSITORY / "ppa_fairseq"]
        command += ["--task", "ppa_alignment", "-s", source, "-t", target, "--destdir", tmp_path / "by-hand"]
        command += ["--trainpref", text / f"train.{source}-{target}", "--validpref", text / f"valid.{source}-{target}"]
        command += ["--srcdict", text / "dict.txt", "--tgtdict", text / "dict.txt"]
        subprocess.run(command, check=True, capture_output=True)
    expected = tree(tmp_path / "by-hand")
    assert len(expected) == 16 + 3
    assert tree(found) == expected | {"vocab.txt": (text / "vocab.txt").read_bytes()}
    tokens = sum(len(line.split()) + 1 for path in text.glob("*.de-en.*") for line in path.read_text().splitlines())
    assert printed.splitlines()[0] == f"de-en: 50 train, 5 valid pairs, {tokens} tokens"


def test_nli_is_what_fairseq_preprocess_writes(run, nli, tmp_path):
    found, printed = run("--workers", 2)
    import ppa_fairseq.tasks.xnli_codeswitch  # noqa: F401  (fairseq does it where the package is not imported yet)

    for language, splits in NLI_SPLITS.items():
        for part in ("input0", "input1", "label"):
            words = f"--user-dir {REPOSITORY}/ppa_fairseq --task xnli_codeswitch --srcdict {nli}/dict.txt"
            dictionary = f"--srcdict {nli}/labels.txt" if part == "label" else words
            prefixes = " ".join(f"--{split}pref {nli}/{language}/{split}.{part}" for split in splits)
            arguments = f"--only-source {dictionary} {prefixes} --destdir {tmp_path}/by-hand/{language}/{part}"
            with mock.patch.object(sys, "argv", ["fairseq-preprocess", *arguments.split()]):
                preprocess.cli_main()
    expected = tree(tmp_path / "by-hand")
    assert len(expected) == 3 * (7 + 3)
    assert tree(found) == expected | {"vocab.txt": (nli / "vocab.txt").read_bytes()}
    tokens = sum(len(line.split()) + 1 for path in nli.glob("en/*.input?") for line in path.read_text().splitlines())
    assert printed.splitlines()[0] == f"en: 30 train, 7 valid, 5 test pairs, {tokens} tokens"


def test_ids_are_line_numbers_of_the_dictionary(run, nli, tmp_path):
    folder, _ = run()
    lines = [line.split() for line in (nli / "en/train.input1").read_text().splitlines()]
    assert rows_of(folder / "en/input1/train") == [[SYMBOLS.index(word) for word in line] + [3] for line in lines]
    dictionary = Dictionary.load(str(folder / "en/label/dict.txt"))
    ids = [LABELS.index(line) + dictionary.nspecial for line in (nli / "en/train.label").read_text().splitlines()]
    assert rows_of(folder / "en/label/train") == [[k, dictionary.eos()] for k in ids]


def test_lang_pairs_selects_pairs(run, text):
    for path in text.glob("valid.*"):
        path.unlink()
    folder, printed = run("--lang-pairs", "en-fr")
    assert printed.startswith("en-fr: 80 train pairs, ")
    assert sorted(path.name for path in folder.glob("*.idx")) == ["train.en-fr.en.idx", "train.en-fr.fr.idx"]


def test_shards_stay_shards(run, text):
    for path in list(text.glob("*.*-*.*")):
        path.unlink()
    for number in (0, 1, 10, 2):
        (text / f"shard{number}").mkdir()
        write_pair(text / f"shard{number}", "de-en", valid=5 * (number == 0), seed=number)
    folder, printed = run()
    parts = ":".join(str(folder / f"shard{number}") for number in (0, 1, 2, 10))
    assert f"written: {parts}," in printed and "shard10/de-en: 50 train pairs" in printed
    assert len(list((folder / "shard0").glob("valid.*"))) == 4 and not list((folder / "shard1").glob("valid.*"))


def test_srcdict_replaces_the_dictionary(run, tmp_path):
    other = tmp_path / "imported"
    other.mkdir()
    (other / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in reversed(SYMBOLS)))
    folder, _ = run("--srcdict", other / "dict.txt")
    assert rows_of(folder / "train.de-en.de")[0] == [SYMBOLS[::-1].index("w0"), SYMBOLS[::-1].index("[SEP]")]
    assert not (folder / "vocab.txt").exists()


def test_only_an_earlier_run_is_replaced(run):
    run()
    folder, _ = run("--lang-pairs", "en-fr")
    assert not list(folder.glob("*de*"))
    (folder / "notes.md").write_text("mine")
    assert "holds notes.md, which `ppa binarize` did not write" in run(status=1)
    assert (folder / "notes.md").exists()


def test_a_full_disk_leaves_nothing(run, monkeypatch, tmp_path):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "train.de-en.de.bin")

    monkeypatch.setattr(preprocess, "cli_main", full)
    assert "No space left on device" in run(status=1)
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def append(name, content):
    def change(text):
        with open(text / name, "ab") as file:
            file.write(content)

    return change


def write(name, content):
    return lambda text: (text / name).write_text(content)


def remove(pattern):
    return lambda text: [path.unlink() for path in text.glob(pattern)]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        pytest.param(append("train.de-en.de", b"w1\n"), [],
            "train.de-en.en has 50: they must be parallel line by line", id="unequal"),
        pytest.param(append("train.de-en.de", b"w1 \xff\n"), [], "train.de-en.de:51: not UTF-8", id="Latin-1"),
        pytest.param(append("train.de-en.de", b"w1 Haus\n"), [],
            "train.de-en.de:51: 'Haus' is not in {text}/dict.txt; prepare the text again", id="raw text"),
        pytest.param(remove("train.en-fr.fr"), [], "train.en-fr.fr: no such file", id="half a train split"),
        pytest.param(remove("valid.en-fr.fr"), [], "valid.en-fr.fr: no such file", id="half a valid split"),
        pytest.param(write("train.en-fr.fr", ""), [], "train.en-fr.fr: empty", id="empty"),
        pytest.param(remove("dict.txt"), [], "dict.txt: no such file", id="no dictionary"),
        pytest.param(write("dict.txt", "".join(f"{word} 1\n" for word in SYMBOLS[5:])), [], "dict.txt: its symbols differ",
            id="dictionary without special tokens"),
        pytest.param(remove("nothing"), ["--srcdict", "none.txt"], "none.txt: no such file", id="no --srcdict"),
        pytest.param(remove("nothing"), ["--lang-pairs", "de-en,sw-en"],
            "no train.A-B.LANGUAGE of sw-en in it; it holds de-en, en-fr", id="no such pair"),
        pytest.param(remove("*-*"), [], "of any language pair in it; it holds no pair", id="no pair"),
        pytest.param(lambda text: text.rename(text.parent / "moved"), [], "text: no such folder", id="no folder"),
    ],
)  # fmt: skip
def test_bad_bitext_is_an_input_error(run, text, tmp_path, change, arguments, message):
    change(text)
    assert message.replace("{text}", str(text)) in run(*arguments, status=1)
    assert not list(tmp_path.glob("*data-bin*"))


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        pytest.param(append("en/train.input1", b"w1\n"), [], "en/train.input1 has 31: they must be", id="hypotheses"),
        pytest.param(append("en/train.label", b"neutral\n"), [], "en/train.label has 31: they must be", id="labels"),
        pytest.param(append("en/train.input0", b"\xff\n"), [], "en/train.input0:31: not UTF-8", id="Latin-1"),
        pytest.param(append("en/test.label", b"maybe\n"), [], "en/test.label:6: 'maybe' is not in {text}/labels.txt",
            id="unknown label"),
        pytest.param(write("en/test.input0", ""), [], "en/test.input0: empty", id="empty"),
        pytest.param(remove("fr/valid.input0"), [], "fr/valid.input0: no such file", id="no premises"),
        pytest.param(remove("*/*"), [], "no LANGUAGE/train.input0 nor any other split", id="nothing"),
        pytest.param(remove("nothing"), ["--lang-pairs", "de-en"], "--lang-pairs de-en: {text} holds NLI, not bitext",
            id="--lang-pairs"),
    ],
)  # fmt: skip
def test_bad_nli_is_an_input_error(run, nli, tmp_path, change, arguments, message):
    change(nli)
    assert message.replace("{text}", str(nli)) in run(*arguments, status=1)
    assert not list(tmp_path.glob("*data-bin*"))


@pytest.fixture
def script(tmp_path):
    """``script(argument, …)``: run scripts/prepare_bitext.sh in *tmp_path*."""
    ppa = tmp_path / "bin" / "ppa"
    ppa.parent.mkdir()
    ppa.write_text(f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m ppa_fairseq.commands.main "$@"\n')
    ppa.chmod(0o755)

    def run(*arguments):
        command = ["bash", REPOSITORY / "scripts" / "prepare_bitext.sh", *arguments]
        path = f"{ppa.parent}:{os.environ['PATH']}"
        return subprocess.run(command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True)

    return run


def test_script_goes_from_raw_text_to_data_bin(script, text, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    rows = [[" ".join(f"w{(row * k) % 60}" for k in range(side, side + 12)) for side in (1, 2)] for row in range(90)]
    (raw / "tatoeba.de-en.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows[:30]))
    with gzip.open(raw / "news.de-en.en.gz", "wt") as file:
        file.write("".join(f"{b}\n" for _, b in rows[30:]))
    (raw / "news.de-en.de").write_text("".join(f"{a}\n" for a, _ in rows[30:]))
    (raw / "TED2020-en-fr-train.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows))
    (raw / "README.md").write_text("not a corpus")
    done = script(text, raw, "data-bin/x/", "--valid-share", "0.2")
    assert done.returncode == 0, done.stderr
    assert f"not taken: {raw}/README.md: no language pair in its name" in done.stderr
    names = {"de-en": ("de", "en"), "en-fr": ("en", "fr")}
    expected = {(s, name, side) for s in ("train", "valid") for name, sides in names.items() for side in sides}
    found = {path.name for path in (tmp_path / "data-bin" / "x").glob("*.idx")}
    assert found == {f"{split}.{name}.{side}.idx" for split, name, side in expected}
    counts = json.loads((tmp_path / "data-bin" / "x.text" / "statistics.json").read_text())
    assert {name: count["read"] for name, count in counts.items()} == {"de-en": 90, "en-fr": 90}


def test_script_says_what_is_missing(script, text, tmp_path):
    (tmp_path / "raw").mkdir()
    assert "raw: no parallel text found" in script(text, "raw", "data-bin").stderr
    assert "none: no such folder" in script(text, "none", "data-bin").stderr
    usage = script(text)
    assert usage.returncode == 2 and "IMPORTED RAW DATA_BIN" in usage.stderr
