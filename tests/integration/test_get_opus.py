"""The commands that get_opus.sh prints are those it runs; run against a stub of mtdata, as there is no network."""

import gzip
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "get_opus.sh"
STUB = """#!{python}
import sys
task, corpus = sys.argv[1:]
if task != "echo" or corpus not in {rows}:
    sys.exit("mtdata: no network")
for i in range({rows}[corpus]):
    first, second = corpus.split("-")[-2:]
    print(f"{{first}} {{corpus}} {{i}}\\t{{second}} {{corpus}} {{i}}")
"""


def stub(folder, rows):
    (folder / "mtdata").write_text(STUB.format(python=sys.executable, rows=rows))
    (folder / "mtdata").chmod(0o755)


def run(folder, *arguments):
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run(["bash", SCRIPT, *map(str, arguments)], env=environment, capture_output=True, text=True)


def read(path):
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def dry_run(folder):
    printed = run(folder, "--dry-run", "--pairs", 600000, "out")
    assert printed.returncode == 0, printed.stderr
    return printed.stdout.splitlines()


def test_dry_run_prints_a_command_for_each_corpus(tmp_path):
    commands = dry_run(tmp_path)
    corpora = [shlex.split(command)[:3] for command in commands]
    assert all(words[:2] == ["mtdata", "echo"] for words in corpora)
    names = " ".join(words[2] for words in corpora)
    assert re.findall(r"OPUS-(\w+)-v[\d.]+-(\w+-\w+)", names) == [
        ("multiun", "ara-eng"), ("europarl", "bul-eng"), ("eubookshop", "bul-eng"), ("europarl", "deu-eng"),
        ("europarl", "ell-eng"), ("europarl", "eng-spa"), ("europarl", "eng-fra"), ("iitb", "eng-hin"),
        ("multiun", "eng-zho"),
    ]  # fmt: skip
    assert all("NR <= 600000" in command for command in commands)
    assert not list(tmp_path.iterdir())


def test_first_pairs_with_english_second(tmp_path):
    stub(tmp_path, {"OPUS-europarl-v8-deu-eng": 9, "OPUS-europarl-v8-eng-spa": 7})
    done = run(tmp_path, "--pairs", 8, tmp_path / "out", "de", "es")
    assert done.returncode == 0, done.stderr
    german, spanish = (read(tmp_path / "out" / f"{language}-en.tsv.gz") for language in ("de", "es"))
    name = "OPUS-europarl-v8-deu-eng"
    assert german == [f"deu {name} {i}\teng {name} {i}" for i in range(8)]
    name = "OPUS-europarl-v8-eng-spa"
    assert spanish == [f"spa {name} {i}\teng {name} {i}" for i in range(7)]
    assert "de-en.tsv.gz: 8 pairs" in done.stdout and "es-en.tsv.gz: 7 pairs" in done.stdout


@pytest.mark.parametrize("pairs, expected", [(4, [4]), (6, [5, 1])])
def test_second_corpus_only_when_the_first_is_short(tmp_path, pairs, expected):
    corpora = ["OPUS-europarl-v8-bul-eng", "OPUS-eubookshop-v2-bul-eng"]
    stub(tmp_path, dict(zip(corpora[: len(expected)], (5, 5), strict=False)))
    done = run(tmp_path, "--pairs", pairs, tmp_path / "out", "bg")
    assert done.returncode == 0, done.stderr
    lines = read(tmp_path / "out" / "bg-en.tsv.gz")
    assert [sum(corpus in line for line in lines) for corpus in corpora[: len(expected)]] == expected


def test_failed_download_leaves_nothing_and_what_is_there_stays(tmp_path):
    stub(tmp_path, {"OPUS-europarl-v8-deu-eng": 3})
    failed = run(tmp_path, tmp_path / "out", "de", "fr")
    assert failed.returncode == 1 and "OPUS-europarl-v8-eng-fra: the download failed" in failed.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["de-en.tsv.gz"]
    stub(tmp_path, {"OPUS-europarl-v8-eng-fra": 2})
    assert run(tmp_path, tmp_path / "out", "de", "fr").returncode == 0
    assert len(read(tmp_path / "out" / "de-en.tsv.gz")) == 3 and len(read(tmp_path / "out" / "fr-en.tsv.gz")) == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "folder"),
        (["out", "xx"], "xx: no corpus"),
        (["--pairs", "many", "out"], "--pairs"),
        (["--pairs"], "--pairs"),
        (["--sentences", "3", "out"], "--sentences"),
        (["out"], "pip install mtdata"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    done = run(tmp_path, *arguments)
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
