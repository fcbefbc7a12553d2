"""`ppa binarize` writes what fairseq-preprocess writes, and refuses text that fairseq would make [UNK] of."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from fairseq_cli import preprocess

from ppa_fairseq.commands import main as cli
from ppa_fairseq.commands.binarize import USER_DIR
from ppa_fairseq.utils.files import MARKER

REPOSITORY = Path(__file__).resolve().parents[2]
SYMBOLS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(60))]
LABELS = ("entailment", "neutral", "contradiction")
NLI_SPLITS = {"en": {"train": 30, "valid": 7, "test": 5}, "fr": {"valid": 7}}


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))


def write_words(path, count, step):
    write_lines(path, (" ".join(f"w{(row * step + k) % 60}" for k in range(1 + row % 9)) for row in range(count)))


def write_pair(folder, name, train=50, valid=5):
    for split, count in (("train", train), ("valid", valid)):
        for side, language in enumerate(name.split("-") if count else ()):
            write_words(folder / f"{split}.{name}.{language}", count, step=7 + side)


@pytest.fixture
def text(tmp_path):
    """A folder as `ppa prepare-bitext` writes it."""
    folder = tmp_path / "text"
    folder.mkdir()
    write_lines(folder / "dict.txt", (f"{symbol} 1" for symbol in SYMBOLS))
    write_lines(folder / "vocab.txt", SYMBOLS)
    write_pair(folder, "de-en")
    write_pair(folder, "en-fr", train=80)
    return folder


@pytest.fixture
def nli(text):
    """The folder *text*, as `ppa prepare-xnli` would have written it."""
    remove("*.*-*.*")(text)
    write_lines(text / "labels.txt", (f"{label} 1" for label in LABELS))
    for language, splits in NLI_SPLITS.items():
        (text / language).mkdir()
        for split, count in splits.items():
            write_words(text / language / f"{split}.input0", count, step=3)
            write_words(text / language / f"{split}.input1", count, step=5)
            write_lines(text / language / f"{split}.label", (LABELS[row * row % 3] for row in range(count)))
    return text


@pytest.fixture
def run(text, tmp_path, capfd):
    """``run("--workers", "2")``: its output folder and what it printed, or the error with ``status=1``."""

    def binarize(*arguments, status=0):
        command = ["binarize", str(text), "--destdir", str(tmp_path / "data-bin"), "--workers", "1"]
        found = cli.main([*command, *map(str, arguments)])
        printed = capfd.readouterr()
        assert found == status, printed.err
        if not status:
            return tmp_path / "data-bin", printed.out
        assert not list(tmp_path.glob("*data-bin*")) and len(printed.err.splitlines()) == 1
        return printed.err

    return binarize


def tree(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (MARKER, "preprocess.log")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run_by_hand(arguments):
    import ppa_fairseq.tasks  # noqa: F401  (fairseq does it where the package is not imported yet)

    with mock.patch.object(sys, "argv", ["fairseq-preprocess", *arguments.split()]):
        preprocess.cli_main()


@pytest.mark.parametrize("workers", [1, 2])
def test_bitext_is_what_fairseq_preprocess_writes(run, text, tmp_path, workers):
    found, printed = run("--workers", workers)
    for source, target in (("de", "en"), ("en", "fr")):
        run_by_hand(
            f"--user-dir {USER_DIR} --task ppa_alignment -s {source} -t {target} --destdir {tmp_path}/by-hand "
            f"--trainpref {text}/train.{source}-{target} --validpref {text}/valid.{source}-{target} "
            f"--srcdict {text}/dict.txt --tgtdict {text}/dict.txt"
        )
    expected = tree(tmp_path / "by-hand")
    assert len(expected) == 16 + 3
    assert tree(found) == expected | {"vocab.txt": (text / "vocab.txt").read_bytes()}
    assert printed.splitlines()[:2] == ["de-en: 50 train, 5 valid pairs", "en-fr: 80 train, 5 valid pairs"]


def test_nli_is_what_fairseq_preprocess_writes(run, nli, tmp_path):
    found, printed = run("--workers", 2)
    words = f"--user-dir {USER_DIR} --task xnli_codeswitch --srcdict {nli}/dict.txt"
    dictionaries = {"input0": words, "input1": words, "label": f"--srcdict {nli}/labels.txt"}
    for language, splits in NLI_SPLITS.items():
        for field, dictionary in dictionaries.items():
            prefixes = " ".join(f"--{split}pref {nli}/{language}/{split}.{field}" for split in splits)
            run_by_hand(f"--only-source {dictionary} {prefixes} --destdir {tmp_path}/by-hand/{language}/{field}")
    expected = tree(tmp_path / "by-hand")
    assert len(expected) == 3 * (7 + 3)
    assert tree(found) == expected | {"vocab.txt": (nli / "vocab.txt").read_bytes()}
    assert printed.splitlines()[:2] == ["en: 30 train, 7 valid, 5 test pairs", "fr: 7 valid pairs"]


def test_shards_stay_shards_and_lang_pairs_selects(run, text):
    remove("*.*-*.*")(text)
    for number in (0, 10, 2):
        (text / f"shard{number}").mkdir()
        write_pair(text / f"shard{number}", "de-en", valid=5 * (number == 0))
        write_pair(text / f"shard{number}", "en-fr", valid=0)
    folder, printed = run("--lang-pairs", "de-en")
    parts = ":".join(str(folder / f"shard{number}") for number in (0, 2, 10))
    assert f"written: {parts}," in printed and "shard10/de-en: 50 train pairs" in printed
    assert len(list((folder / "shard0").glob("valid.*"))) == 4 and not list((folder / "shard2").glob("valid.*"))
    assert not list(folder.rglob("*fr*"))


@pytest.mark.parametrize("error", [SystemExit(0), KeyError("lost")], ids=repr)
def test_an_unexpected_end_of_a_worker_keeps_its_traceback_and_leaves_nothing(run, tmp_path, monkeypatch, error):
    monkeypatch.setattr(preprocess, "cli_main", mock.Mock(side_effect=error))
    with pytest.raises(RuntimeError, match=rf"(?s)in a worker process:.*_run_job.*{type(error).__name__}"):
        run()
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def append(name, content):
    return lambda text: (text / name).write_bytes((text / name).read_bytes() + content)


def empty(*names):
    return lambda text: [(text / name).write_text("") for name in names]


def remove(pattern):
    return lambda text: [path.unlink() for path in text.glob(pattern)]


BAD_BITEXT = {
    "unequal": (append("train.de-en.de", b"w1\n"), [], "de has 51 lines, {text}/train.de-en.en has 50 lines"),
    "not UTF-8": (append("train.de-en.de", b"w1 \xff\n"), [], "train.de-en.de:51: not UTF-8"),
    "raw text": (append("valid.de-en.de", b"w1 Haus\n"), [], "valid.de-en.de:6: 'Haus' is not in {text}/dict.txt; "),
    "no translation": (remove("train.en-fr.fr"), [], "train.en-fr.fr: No such file"),
    "empty": (empty("train.en-fr.en", "train.en-fr.fr"), [], "train.en-fr.fr has 0 lines, but each needs"),
    "no dictionary": (remove("dict.txt"), [], "dict.txt: no such file"),
    "another dictionary": (append("dict.txt", b"w60 1\n"), [], "dict.txt: its symbols differ"),
    "no such pair": (lambda text: None, ["--lang-pairs", "de-en,sw-en"], "of sw-en in it; it holds de-en, en-fr"),
    "no pair": (remove("*-*"), [], "of any language pair in it; it holds no pair"),
    "no folder": (lambda text: text.rename(text.parent / "moved"), [], "text: no such folder"),
}
BAD_NLI = {
    "unequal labels": (append("en/train.label", b"neutral\n"), [], "en/train.label has 31 lines, but each needs"),
    "unknown label": (append("en/test.label", b"maybe\n"), [], "en/test.label:6: 'maybe' is not in {text}/labels.txt"),
    "no premises": (remove("fr/valid.input0"), [], "fr/valid.input0: No such file"),
    "nothing": (remove("*/*"), [], "no LANGUAGE/train.input0 nor any other split"),
    "--lang-pairs": (lambda text: None, ["--lang-pairs", "de-en"], "{text} holds no bitext; remove the flag"),
}


@pytest.mark.parametrize(
    ("kind", "change", "arguments", "message"),
    [pytest.param("text", *case, id=name) for name, case in BAD_BITEXT.items()]
    + [pytest.param("nli", *case, id=f"NLI: {name}") for name, case in BAD_NLI.items()],
)
def test_bad_text_is_one_line_and_leaves_nothing(run, request, kind, change, arguments, message):
    text = request.getfixturevalue(kind)
    change(text)
    assert message.replace("{text}", str(text)) in run(*arguments, status=1)


def run_script(tmp_path, *arguments):
    """Run scripts/prepare_bitext.sh in *tmp_path*."""
    ppa = tmp_path / "bin" / "ppa"
    ppa.parent.mkdir(exist_ok=True)
    ppa.write_text(f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m ppa_fairseq.commands.main "$@"\n')
    ppa.chmod(0o755)
    command = ["bash", REPOSITORY / "scripts" / "prepare_bitext.sh", *arguments]
    environment = {**os.environ, "PATH": f"{ppa.parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)


def test_script_goes_from_raw_text_to_data_bin(text, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    rows = [[" ".join(f"w{(row * k) % 60}" for k in range(side, side + 12)) for side in (1, 2)] for row in range(90)]
    (raw / "tatoeba.de-en.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows[:30]))
    write_lines(raw / "news.de-en.de", (a for a, _ in rows[30:]))
    (raw / "news.de-en.en.gz").write_bytes(gzip.compress("".join(f"{b}\n" for _, b in rows[30:]).encode()))
    (raw / "README.md").write_text("not a corpus")
    done = run_script(tmp_path, text, raw, "data-bin/x/", "--valid-share", "0.2")
    assert done.returncode == 0, done.stderr
    assert f"not taken: {raw}/README.md: not a file named like" in done.stderr
    found = {path.name for path in (tmp_path / "data-bin" / "x").glob("*.idx")}
    assert found == {f"{split}.de-en.{side}.idx" for split in ("train", "valid") for side in ("de", "en")}
    assert json.loads((tmp_path / "data-bin" / "x.text" / "statistics.json").read_text())["de-en"]["read"] == 90


def test_script_says_what_is_missing(text, tmp_path):
    (tmp_path / "raw").mkdir()
    assert "raw: no parallel text found" in run_script(tmp_path, text, "raw", "data-bin").stderr
    assert "none: no such folder" in run_script(tmp_path, text, "none", "data-bin").stderr
    usage = run_script(tmp_path, text)
    assert usage.returncode == 2 and "IMPORTED RAW DATA_BIN" in usage.stderr
