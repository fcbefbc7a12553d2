"""The benchmarks run, agree with the peer on what is computed, and print their tables; how fast is not tested."""

import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_finetuning():
    """Its own check that the losses are equal is part of every run."""
    start = [sys.executable, str(BENCHMARKS / "finetuning.py"), "--shape", "tiny", "--rounds", "2"]
    command = [*start, "--batch-size", "4", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line for line in done.stdout.splitlines() if "×" in line]
    assert [row.split("|")[1].strip() for row in rows] == [
        f"{task}, {order}" for task in ("xnli", "mlqa") for order in ("shuffled", "by length")
    ]
    assert all(re.search(r"\*\*\d+\.\d\d×\*\*", row) for row in rows)


def test_prediction(imported, tmp_path):
    """On the bundled sample, with an encoder of a tiny vocabulary."""
    command = [sys.executable, str(BENCHMARKS / "prediction.py"), "--model", str(imported(max_positions=512))]
    command += ["--questions", "6", "--chunk", "3", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split("|") for line in done.stdout.splitlines() if "×" in line]
    assert [row[1].strip() for row in rows] == [
        "ppa_fairseq", "transformers, to the full length", "transformers, to the longest"
    ]  # fmt: skip


def test_classification(imported):
    """Its own check that the logits are equal is part of every run."""
    command = [sys.executable, str(BENCHMARKS / "classification.py"), "--model", str(imported(max_positions=128))]
    command += ["--pairs", "40", "--chunk", "20", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split("|") for line in done.stdout.splitlines() if "×" in line]
    ways = ("to the full length", "to the longest", "by length, to the longest")
    assert [row[1].strip() for row in rows] == ["ppa_fairseq", *(f"transformers, {way}" for way in ways)]
    assert {row[4].strip() for row in rows} == {"100.0 %"}
