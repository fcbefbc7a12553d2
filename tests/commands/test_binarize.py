"""`ppa binarize` writes, to the byte, what fairseq-preprocess writes; and refuses what it must."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from fairseq.binarizer import FileBinarizer, VocabularyDatasetBinarizer
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDataset
from hypothesis import given, settings
from hypothesis import strategies as st

from ppa_fairseq.commands import main as cli
from ppa_fairseq.data import indexed_text
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.indexed_text import binarize_text
from ppa_fairseq.utils.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
SYMBOLS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(60))]


def write_pair(folder, name, train=50, valid=5, seed=0):
    for split, count in (("train", train), ("valid", valid)):
        for side, language in enumerate(name.split("-")):
            rows = [
                " ".join(f"w{(row * 7 + place * (side + 3) + seed) % 60}" for place in range(1 + (row + side) % 9))
                for row in range(count)
            ]
            (folder / f"{split}.{name}.{language}").write_text("".join(f"{row}\n" for row in rows))


@pytest.fixture
def text(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in SYMBOLS))
    (folder / "vocab.txt").write_text("".join(f"{symbol}\n" for symbol in SYMBOLS))
    write_pair(folder, "de-en")
    write_pair(folder, "en-fr", train=80, seed=1)
    return folder


@pytest.fixture
def run(text, tmp_path, capsys):
    """``run("--workers", "2")``: its output folder and what it printed, or the error with ``status=1``."""

    def binarized(*arguments, out="data-bin", status=0):
        command = ["binarize", str(text), "--destdir", str(tmp_path / out), "--workers", "1"]
        found = cli.main([*command, *map(str, arguments)])
        printed = capsys.readouterr()
        assert found == status, printed.err
        return printed.err.splitlines()[-1] if status else (tmp_path / out, printed.out)

    return binarized


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_writes_what_fairseq_preprocess_writes(run, text, tmp_path):
    by_ppa, _ = run("--lang-pairs", "de-en")
    by_fairseq = tmp_path / "by_fairseq"
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--user-dir", REPOSITORY / "ppa_fairseq"]
    command += ["--task", "ppa_alignment", "-s", "de", "-t", "en", "--destdir", by_fairseq]
    command += ["--trainpref", text / "train.de-en", "--validpref", text / "valid.de-en"]
    command += ["--srcdict", text / "dict.txt", "--tgtdict", text / "dict.txt"]
    subprocess.run(command, check=True, capture_output=True)
    expected = tree(by_fairseq)
    expected.pop("preprocess.log")
    found = tree(by_ppa)
    assert found.pop("vocab.txt") == (text / "vocab.txt").read_bytes()
    assert found == expected
    assert len(expected) == 8 + 2


# Whatever a line may be: empty, of odd spaces and ends, with a symbol that is none of the dictionary's.
ODD_LINES = st.lists(
    st.text([*"w1 \t\r\n\x1c\x85\u2028\ufeff\xa0é"], max_size=12) | st.sampled_from(["w1 w2", "[SEP] w59", "", "[UNK]"])
)


@given(ODD_LINES, st.sampled_from(["", "\n"]), st.sampled_from([3, 1 << 20]))
@settings(deadline=None, max_examples=60)
def test_any_text_becomes_what_fairseq_makes_of_it(tmp_path_factory, lines, end, block):
    folder = tmp_path_factory.mktemp("any")
    (folder / "text").write_bytes(("\n".join(lines) + end).encode())
    dictionary = WordPieceDictionary(SYMBOLS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexed_text, "BLOCK", block)
        if not (folder / "text").stat().st_size:
            with pytest.raises(InputError, match="empty"):
                binarize_text(folder / "text", str(folder / "ours"), dictionary)
            return
        counts = binarize_text(folder / "text", str(folder / "ours"), dictionary)
    binarizer = VocabularyDatasetBinarizer(dictionary)
    summary = FileBinarizer.multiprocess_dataset(
        str(folder / "text"), "mmap", binarizer, str(folder / "theirs"), vocab_size=len(dictionary)
    )
    for kind in ("bin", "idx"):
        assert (folder / f"ours.{kind}").read_bytes() == (folder / f"theirs.{kind}").read_bytes()
    rows = [row.tolist() for row in MMapIndexedDataset(str(folder / "theirs"))]
    assert (counts["rows"], counts["tokens"]) == (summary.num_seq, summary.num_tok)
    assert counts["unknown"] == sum(row.count(dictionary.unk()) for row in rows)


def test_ids_are_line_numbers_and_rows_end_in_sep(run, text):
    folder, _ = run()
    for path in sorted(text.glob("*.*-*.*")):
        dataset = MMapIndexedDataset(str(folder / path.name))
        lines = [line.split() for line in path.read_text().splitlines()]
        assert [row.tolist() for row in dataset] == [[SYMBOLS.index(word) for word in line] + [3] for line in lines]
    for language in ("de", "en", "fr"):
        dictionary = WordPieceDictionary.load(str(folder / f"dict.{language}.txt"))
        assert dictionary.symbols == SYMBOLS


@pytest.mark.parametrize("workers", [2, 5])
def test_processes_write_what_one_writes(run, workers):
    one, _ = run()
    several, _ = run("--workers", workers, out=f"by{workers}")
    assert tree(one) == tree(several)


def test_it_prints_pairs_tokens_and_unknown_share(run, text):
    train = text / "train.de-en.de"
    train.write_text(train.read_text().replace("w7", "[UNK]").replace("w8", "nowhere"))
    words = [
        w for path in text.glob("*.de-en.*") for line in path.read_text().splitlines() for w in [*line.split(), ""]
    ]
    unknown = sum(word in ("[UNK]", "nowhere") for word in words)
    _, printed = run()
    assert unknown > 5
    assert printed.splitlines()[0] == (
        f"de-en: 50 train, 5 valid pairs, {len(words)} tokens, {unknown / len(words):.2%} of them [UNK]"
    )


def test_some_pairs_alone(run):
    folder, printed = run("--lang-pairs", "en-fr")
    assert "de-en" not in printed
    assert not list(folder.glob("*de*"))
    assert len(list(folder.glob("*.idx"))) == 4


def test_a_pair_without_validation(run, text):
    for path in text.glob("valid.de-en.*"):
        path.unlink()
    folder, printed = run()
    assert printed.startswith("de-en: 50 train pairs, ")
    assert not list(folder.glob("valid.de-en.*"))


def test_shards_stay_shards(run, text, tmp_path):
    whole, _ = run("--lang-pairs", "de-en")
    for path in list(text.glob("*.*-*.*")):
        path.unlink()
    for shard, valid in (("shard0", 5), ("shard1", 0), ("shard10", 0), ("shard2", 0)):
        (text / shard).mkdir()
        write_pair(text / shard, "de-en", seed=len(shard))
        if not valid:
            for path in (text / shard).glob("valid.*"):
                path.unlink()
    folder, printed = run(out="shards")
    parts = ":".join(str(folder / f"shard{number}") for number in (0, 1, 2, 10))
    assert f"written: {parts}," in printed
    assert set(tree(folder / "shard0")) | {"vocab.txt"} == set(tree(whole))
    assert not list((folder / "shard1").glob("valid.*"))


def test_another_dictionary(run, text, tmp_path):
    other = tmp_path / "imported"
    other.mkdir()
    (other / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in reversed(SYMBOLS)))
    folder, _ = run("--srcdict", other / "dict.txt")
    rows = MMapIndexedDataset(str(folder / "train.de-en.de"))
    assert rows[0].tolist() == [SYMBOLS[::-1].index("w0"), SYMBOLS[::-1].index("[SEP]")]
    assert not (folder / "vocab.txt").exists()


def test_an_earlier_run_is_replaced_but_nothing_else(run):
    run()
    folder, _ = run("--lang-pairs", "en-fr")
    assert not list(folder.glob("*de*"))
    (folder / "notes.md").write_text("mine")
    assert "holds files that are no earlier binarized data" in run(status=1)
    assert (folder / "notes.md").exists()


def test_a_full_disk_leaves_nothing(run, monkeypatch, tmp_path):
    def full(path, *mode):
        return open("/dev/full" if str(path).endswith("valid.en-fr.fr.bin") else path, *mode)

    monkeypatch.setattr(indexed_text, "open", full, raising=False)
    assert "No space left on device" in run(status=1)
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def append(name, content):
    def change(text):
        with open(text / name, "ab") as file:
            file.write(content)

    return change


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (
            append("train.de-en.de", b"w1\n"),
            [],
            "train.de-en.de has 51 lines but {text}/train.de-en.en has 50",
        ),
        (append("train.de-en.de", b"w1 \xff\n"), [], "train.de-en.de:51: not UTF-8"),
        (lambda text: (text / "train.en-fr.fr").unlink(), [], "train.en-fr.fr: no such file"),
        (lambda text: (text / "valid.en-fr.fr").unlink(), [], "valid.en-fr.fr: no such file"),
        (lambda text: (text / "train.en-fr.fr").write_text(""), [], "train.en-fr.fr: empty"),
        (lambda text: (text / "dict.txt").unlink(), [], "dict.txt: no such file"),
        (lambda text: (text / "dict.txt").write_text("[PAD] 1\n"), [], "dict.txt: its symbols differ"),
        (lambda text: None, ["--srcdict", "none.txt"], "none.txt: no such file"),
        (
            lambda text: None,
            ["--lang-pairs", "de-en,sw-en"],
            "no train.A-B.LANGUAGE of sw-en in it; it holds de-en, en-fr",
        ),
        (lambda text: None, ["--workers", "0"], "--workers 0: must be at least 1"),
        (
            lambda text: [path.unlink() for path in text.glob("*-*")],
            [],
            "of any language pair in it; it holds no pair",
        ),
        (lambda text: text.rename(text.parent / "moved"), [], "text: no such folder"),
    ],
)
def test_bad_input_is_told_in_one_line(run, text, tmp_path, change, arguments, message):
    change(text)
    assert message.replace("{text}", str(text)) in run(*arguments, status=1)
    assert not (tmp_path / "data-bin").exists()
    assert not list(tmp_path.glob(".data-bin*"))


LABELS = ("entailment", "neutral", "contradiction")
NLI_SPLITS = {"en": {"train": 30, "valid": 7, "test": 5}, "fr": {"valid": 7}}


@pytest.fixture
def nli(text):
    """The folder *text*, as if `ppa prepare-xnli` had written it."""
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


def fairseq_preprocess(arguments):
    from fairseq_cli import preprocess

    import ppa_fairseq.tasks.xnli_codeswitch  # noqa: F401  (fairseq does it where the package is not imported yet)

    with mock.patch.object(sys, "argv", ["fairseq-preprocess", *arguments.split()]):
        preprocess.cli_main()


@pytest.mark.parametrize("workers", [1, 2])
def test_nli_is_what_fairseq_preprocess_writes(run, nli, tmp_path, workers):
    by_ppa, printed = run("--workers", workers)
    by_fairseq = tmp_path / "by_fairseq"
    for language, splits in NLI_SPLITS.items():
        for part in ("input0", "input1", "label"):
            words = f"--user-dir {REPOSITORY}/ppa_fairseq --task xnli_codeswitch --srcdict {nli}/dict.txt"
            dictionary = f"--srcdict {nli}/labels.txt" if part == "label" else words
            prefixes = " ".join(f"--{split}pref {nli}/{language}/{split}.{part}" for split in splits)
            fairseq_preprocess(f"--only-source {dictionary} {prefixes} --destdir {by_fairseq}/{language}/{part}")
            (by_fairseq / language / part / "preprocess.log").unlink()
    expected = tree(by_fairseq)
    found = tree(by_ppa)
    assert found.pop("vocab.txt") == (nli / "vocab.txt").read_bytes()
    assert found == expected
    assert len(expected) == 3 * (7 + 3)
    words = [word for path in nli.glob("en/*.input?") for line in path.read_text().split("\n") for word in line.split()]
    assert printed.splitlines()[0] == (
        f"en: 30 train, 7 valid, 5 test pairs, {len(words) + 2 * 42} tokens, 0.00% of them [UNK]"
    )


def test_nli_rows_and_label_ids(run, nli):
    folder, _ = run()
    for path in nli.glob("*/*.input?"):
        language, split, part = path.parent.name, path.stem, path.suffix[1:]
        rows = MMapIndexedDataset(str(folder / language / part / split))
        lines = [line.split() for line in path.read_text().splitlines()]
        assert [row.tolist() for row in rows] == [[SYMBOLS.index(word) for word in line] + [3] for line in lines]
    for path in nli.glob("*/*.label"):
        dictionary = Dictionary.load(str(folder / path.parent.name / "label" / "dict.txt"))
        rows = MMapIndexedDataset(str(folder / path.parent.name / "label" / path.stem))
        ids = [LABELS.index(line) for line in path.read_text().splitlines()]
        assert [row.tolist() for row in rows] == [[k + dictionary.nspecial, dictionary.eos()] for k in ids]


def test_nli_of_an_earlier_run_is_replaced_but_nothing_else(run, nli):
    folder, _ = run()
    for path in nli.glob("fr/*"):
        path.unlink()
    run()
    assert not (folder / "fr").exists()
    (folder / "en" / "input0" / "notes.md").write_text("mine")
    assert "holds files that are no earlier binarized data" in run(status=1)
    assert (folder / "en" / "input0" / "notes.md").exists()


def edit(name, change):
    def changed(text):
        (text / name).write_text(change((text / name).read_text()))

    return changed


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (append("en/train.input1", b"w1\n"), [], "train.input0 has 30 lines but {text}/en/train.input1 has 31"),
        (append("en/train.label", b"neutral\n"), [], "train.input0 has 30 lines but {text}/en/train.label has 31"),
        (append("en/train.input0", b"\xff\n"), [], "en/train.input0:31: not UTF-8"),
        (append("fr/valid.label", b"neutral\n"), [], "fr/valid.label: not the labels of {text}/en/valid.label"),
        (
            edit("fr/valid.label", lambda labels: labels.replace("neutral", "entailment")),
            [],
            "fr/valid.label: not the labels of {text}/en/valid.label",
        ),
        (
            edit("en/test.label", lambda labels: labels.replace("neutral", "maybe")),
            [],
            "en/test.label:2: 'maybe' is not in {text}/labels.txt",
        ),
        (edit("en/test.input0", lambda _: ""), [], "en/test.input0: empty"),
        (lambda text: (text / "fr/valid.input0").unlink(), [], "fr/valid.input0: no such file"),
        (lambda text: (text / "fr/valid.label").unlink(), [], "fr/valid.label: no such file"),
        (lambda text: [path.unlink() for path in text.glob("*/*")], [], "no LANGUAGE/train.input0 nor any other split"),
        (lambda text: None, ["--lang-pairs", "de-en"], "--lang-pairs de-en: {text} holds NLI, no language pairs"),
    ],
)
def test_bad_nli_is_told_in_one_line(run, nli, tmp_path, change, arguments, message):
    change(nli)
    assert message.replace("{text}", str(nli)) in run(*arguments, status=1)
    assert not (tmp_path / "data-bin").exists()
    assert not list(tmp_path.glob(".data-bin*"))


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


def test_the_script_goes_from_raw_text_to_data_bin(script, text, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    rows = [[" ".join(f"w{(row * k) % 60}" for k in range(side, side + 12)) for side in (1, 2)] for row in range(90)]
    (raw / "tatoeba.de-en.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows[:30]))
    with gzip.open(raw / "news.de-en.en.gz", "wt") as file:
        file.write("".join(f"{b}\n" for _, b in rows[30:]))
    (raw / "news.de-en.de").write_text("".join(f"{a}\n" for a, _ in rows[30:]))
    (raw / "en-fr.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows))
    (raw / "README.md").write_text("not a corpus")
    done = script(text, raw, "data-bin/x/", "--valid-share", "0.2")
    assert done.returncode == 0, done.stderr
    found = {path.name for path in (tmp_path / "data-bin" / "x").glob("*.idx")}
    names = {"de-en": ("de", "en"), "en-fr": ("en", "fr")}
    expected = {(s, name, side) for s in ("train", "valid") for name, sides in names.items() for side in sides}
    assert found == {f"{split}.{name}.{side}.idx" for split, name, side in expected}
    counts = json.loads((tmp_path / "data-bin" / "x.text" / "statistics.json").read_text())
    assert {name: count["read"] for name, count in counts.items()} == {"de-en": 90, "en-fr": 90}


def test_the_script_tells_what_is_missing(script, text, tmp_path):
    (tmp_path / "raw").mkdir()
    assert "raw: no file named like de-en.tsv" in script(text, "raw", "data-bin").stderr
    assert "none: no such folder" in script(text, "none", "data-bin").stderr
    (tmp_path / "raw" / "de-en.tsv").write_text("eins\tone\n")
    assert "nowhere: no such folder; make it with `ppa import-hf`" in script("nowhere", "raw", "data-bin").stderr
    (tmp_path / "raw" / "a.de-en.de").write_text("eins\n")
    assert "raw/a.de-en.de: no de-en.en beside it" in script(text, "raw", "data-bin").stderr
    usage = script(text)
    assert usage.returncode == 2
    assert "IMPORTED RAW DATA_BIN" in usage.stderr
