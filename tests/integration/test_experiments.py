"""experiments/reproduce.sh: a step runs once, a killed run resumes, and a report without results is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise, product
from pathlib import Path

import pytest
from helpers.made_up_results import table
from split_xnli import main as split_xnli

from ppa_fairseq.data.nli.files import find_nli
from ppa_fairseq.utils.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def step(steps: Path, name: str, *command) -> subprocess.CompletedProcess:
    line = [sys.executable, ROOT / "experiments" / "step.py", steps, name, *command]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_step_runs_once_and_refuses_another_command(tmp_path):
    append = ["sh", "-c", f"echo ran | tee -a {tmp_path}/count"]
    for _ in range(2):
        assert step(tmp_path, "one", *append).returncode == 0
    assert (tmp_path / "count").read_text() == "ran\n" == (tmp_path / "one.log").read_text()
    record = json.loads((tmp_path / "one.json").read_text())
    assert record["command"] == append and record["seconds"] >= 0 and "torch" in record["machine"]
    other = step(tmp_path, "one", "true")
    assert other.returncode == 1 and "one.json records another command" in other.stderr


def test_step_that_fails_says_why_and_runs_again(tmp_path):
    failed = step(tmp_path, "one", "sh", "-c", "echo no such disk; exit 3")
    assert failed.returncode == 1 and "no such disk" in failed.stderr and "status 3" in failed.stderr
    assert step(tmp_path, "one", "true").returncode == 0


def xnli_folder(folder: Path, premises: int) -> Path:
    """Two languages, three rows a premise, as XNLI has them."""
    folder.mkdir(parents=True)
    for lang in ("en", "fr"):
        rows = product([lang], range(premises), ("neutral", "contradiction", "entailment"))
        text = "".join(f"{lang} premise {i}\t{lang} hypothesis {i} {label}\t{label}\n" for lang, i, label in rows)
        (folder / f"dev-{lang}.tsv").write_text(text)
    return folder


def test_split_xnli_puts_no_premise_in_both_parts(tmp_path):
    data = find_nli([str(xnli_folder(tmp_path / "xnli", 20))])
    split_xnli(data, tmp_path / "out", test=15, train=30)
    parts = {part: find_nli(sorted(map(str, (tmp_path / "out").glob(f"{part}-*.tsv")))) for part in ("test", "train")}
    assert {part: len(rows["en"]) for part, rows in parts.items()} == {"test": 15, "train": 30}
    for rows in parts.values():
        said = [[row.hypothesis.removeprefix(f"{lang} ") for row in rows[lang]] for lang in ("en", "fr")]
        assert said[0] == said[1]
    premises = [{row.premise for row in rows["en"]} for rows in parts.values()]
    assert len(premises[0]) == 5 and len(premises[1]) == 10 and not premises[0] & premises[1]
    with pytest.raises(InputError, match="60 rows are too few"):
        split_xnli(data, tmp_path / "out", test=30, train=31)


SETTING = """
seeds="1 2"
bitext_flags= batch=4 pairs=8 align_flags="--queue-size 8" checkpoint_flags=
queue_sizes="4 1234567" temperatures= head_pairs=4 learning_rates= pair_counts=4 ablation_pairs=4
cls_learning_rate=1e-3 cls_pair_counts= cls_momentums= cls_long_pairs=4
tatoeba_pairs=2 perplexity_sentences=2
xnli_rows= xnli_ablations= translate_rows= few_rows= xnli_test=3 xnli_train=6 few_translations=3
nli_updates=1 translate_updates=1 finetune_flags=
"""

STUB = """#!/bin/sh
# Writes its command line to "calls"; "measures" 1 and 2 percent; a training with seed 2 waits a minute for a file "go".
echo "$(basename "$0") $*" >> calls
for folder; do :; done
case "$1" in retrieve | evaluate-xnli | word-align | perplexity) mkdir -p "$folder" ;; esac
case "$1 $*" in
  retrieve*)
    row=$(echo "$*" | sed 's/.*--model //; s/=.*//')
    echo '{"models": {"'"$row"'": {"layers": 0}},
      "results":
      [{"pair": "average", "layer": 0, "pooling": "mean", "scoring": "cosine", "forward": 1, "backward": 2},
      {"pair": "average", "layer": 0, "pooling": "cls", "scoring": "cosine", "forward": 3, "backward": 4}]}' \\
      > "$folder/retrieval.json" ;;
  evaluate-xnli*) echo '{"results": [{"language": "average", "accuracy": 50}]}' > "$folder/xnli.json" ;;
  word-align*|perplexity*) echo '{"results": []}' | tee "$folder/alignment.json" > "$folder/perplexity.json" ;;
  prepare-xnli*) mkdir -p "$5"; echo '{"train": {"rows": 1, "languages": {"en": {}}}}' > "$5/statistics.json" ;;
  prepare-bitext*) mkdir -p "$5"; echo '{}' > "$5/statistics.json" ;;
  *--seed\\ 2*) touch waiting; for _ in $(seq 600); do [ ! -e go ] || break; sleep 0.1; done ;;
esac
"""


@pytest.fixture
def bench(tmp_path):
    """A folder to run the driver in, with stubs of `ppa` and `fairseq-train` that only record their calls."""
    (tmp_path / "bin").mkdir()
    this_python = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    for tool, text in {"ppa": STUB, "fairseq-train": STUB, "python": this_python}.items():
        (tmp_path / "bin" / tool).write_text(text)
        (tmp_path / "bin" / tool).chmod(0o755)
    data = tmp_path / "data"
    for name in ("standin", "bitext", "tatoeba", "nli-en", "align-en-fr"):
        (data / name).mkdir(parents=True)
    (data / "bitext" / "de-en.tsv").write_text("ja\tyes\n")
    xnli_folder(data / "xnli-dev", 4)
    (tmp_path / "tiny.sh").write_text(SETTING)
    return tmp_path


def start(bench: Path, *flags) -> subprocess.Popen:
    settings = "--setting tiny.sh --data data --out out --report results".split()
    return subprocess.Popen(
        ["bash", ROOT / "experiments" / "reproduce.sh", *settings, *flags],
        env=os.environ | {"PATH": f"{bench / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        cwd=bench, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def drive(bench: Path, *flags, status: int = 0) -> str:
    """Run the driver to its end; returns its output."""
    process = start(bench, *flags)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == status, output
    return output


def calls(bench: Path, command: str) -> list[list[str]]:
    """Words of the recorded command lines that start with *command*."""
    lines = (bench / "calls").read_text().splitlines()
    return [line.split() for line in lines if line.startswith(command)]


def values(lines: list[list[str]], flag: str) -> list[str]:
    """The last value of *flag* on each line."""
    return [[after for name, after in pairwise(line) if name == flag][-1] for line in lines]


def test_killed_run_resumes_with_its_last_step(bench):
    chosen = "--only", "moco,queue-4,pairs-4"
    process = start(bench, *chosen)
    while not (bench / "waiting").exists():  # in the training of the second seed, which waits for "go"
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (bench / "go").touch()
    drive(bench, *chosen)
    lines = (bench / "calls").read_text().splitlines()
    killed = [line for line in lines if "align/moco.2" in line and line.startswith("fairseq-train")]
    assert len(killed) == 2 and len(set(killed)) == 1 == len(lines) - len(set(lines))  # all others ran once
    trained = calls(bench, "fairseq-train")
    rows = ["moco.1", "moco.2", "moco.2", "queue-4.1", "pairs-4.1"]
    assert values(trained, "--save-dir") == [f"out/align/{row}" for row in rows]
    assert values(trained, "--tlm-weight") == ["0"] * 5
    assert values(trained, "--max-update") == ["2", "2", "2", "1", "1"]
    assert values(trained, "--queue-size") == ["8", "8", "8", "4", "8"]  # the row's own flag comes last
    assert len(calls(bench, "ppa retrieve")) == 4
    rows = table(bench / "results" / "rows.csv")
    assert list(rows["MoCo only"].values())[1:5] == ["1.0 ± 0.0", "2.0 ± 0.0", "3.0 ± 0.0", "4.0 ± 0.0"]
    assert list(rows["MoCo only, 4 pairs, queue of 4"].values())[1:5] == ["1.0", "2.0", "3.0", "4.0"]
    assert set(list(rows["MoCo only, 4 pairs, queue of 1,234,567"].values())[1:]) == {"not run"}


def test_finetuning_gets_its_data_and_its_start(bench):
    rows = 'xnli_rows="moco" xnli_ablations="queue-4" translate_rows="moco" few_rows="moco"\n'
    (bench / "tiny.sh").write_text(SETTING + rows)
    counts = 'case "$*" in *count_updates*) echo 7; exit ;; *device_count*) echo 0; exit ;; esac'
    (bench / "bin" / "python").write_text(f'#!/bin/sh\n{counts}\nexec "{sys.executable}" "$@"\n')
    (bench / "go").touch()
    drive(bench, "--only", "moco.1,queue-4")
    tuned = [line for line in calls(bench, "fairseq-train") if "xnli_codeswitch" in line]
    folders = zip([line[1] for line in tuned], values(tuned, "--save-dir"), values(tuned, "--pretrained"), strict=True)
    assert [[folder.removeprefix("out/").removesuffix("/checkpoint_last.pt") for folder in row] for row in folders] == [
        ["nli-bin", "zero-shot/moco.1", "align/moco.1"],
        ["nli-bin", "zero-shot/queue-4.1", "align/queue-4.1"],
        ["xnli-bin", "translate-train/moco.1", "zero-shot/moco.1"],
        ["xnli-bin", "code-switch/moco.1", "zero-shot/moco.1"],
        ["xnli-few-bin", "translate-train-few/moco.1", "zero-shot/moco.1"],
        ["xnli-few-bin", "code-switch-few/moco.1", "zero-shot/moco.1"],
    ]
    assert ["--code-switch" in line for line in tuned] == [False, False, False, True, False, True]
    rows = table(bench / "results" / "rows.csv")
    assert rows["MoCo only"]["XNLI zero-shot"] == "50.0 (1 of 2 seeds)"
    assert rows["MoCo only, 4 pairs, queue of 4"]["XNLI zero-shot"] == "50.0"


def test_checkpoint_from_elsewhere_is_measured_once(bench):
    (bench / "mine.pt").touch()
    drive(bench, "--only", "mine", "--also", "mine=mine.pt")
    measured = [line for line in calls(bench, "ppa") if "mine=mine.pt" in line]
    assert [line[1] for line in measured] == ["retrieve", "word-align", "perplexity"]
    line = list(table(bench / "results" / "rows.csv")["mine (trained elsewhere)"].values())
    assert line[1:3] == ["1.0", "2.0"] and line[-1] == "–"
    assert "--also mine=nothing.pt" in drive(bench, "--also", "mine=nothing.pt", status=1)


def test_report_without_results_is_refused(bench):
    before = sorted(bench.rglob("*"))
    assert "--report-only: out has no finished step" in drive(bench, "--report-only", status=1)
    assert sorted(bench.rglob("*")) == before
    (bench / "out" / "steps").mkdir(parents=True)
    (bench / "out" / "steps" / "import.json").write_text("{}")
    (bench / "out" / "setting").write_text("other\n")
    assert "error: out has the setting other, not tiny" in drive(bench, "--report-only", status=1)
    assert not (bench / "results").exists()
