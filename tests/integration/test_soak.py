"""The verdict on a long training: what is flat passes, what grows does not; what a process tree holds is counted."""

import csv
import importlib.util
import json
import subprocess
import sys
from dataclasses import astuple, fields, replace
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "soak.py"
spec = importlib.util.spec_from_file_location("soak", SCRIPT)
soak = sys.modules["soak"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(soak)


def samples(grow=lambda sample, share: {}, count=240):
    """Two hours in which nothing grows, but for the first samples and every tenth, which a checkpoint makes larger."""
    flat = [
        soak.Sample(
            30.0 * i, 9 * i, 1000 * i, 20.0 * i, 1000 + 400 * (i % 10 == 0), 50, 6, 2, 0.1, 700 - 300 * (i < 9)
        )
        for i in range(1, count + 1)
    ]
    return [replace(sample, **grow(sample, number / count)) for number, sample in enumerate(flat)]


def test_what_is_flat_is_kept():
    rows, kept = soak.verdict(samples())
    assert kept and {row[0]: row[1][3] for row in rows} == {
        "memory at rest, MiB": 700,
        "memory at its highest, MiB": 1400,
        "open file handles": 50,
        "threads": 6,
        "CPU s / 1,000 tokens": 20,
        "the same in yardsticks": 200,
    }


def test_a_machine_that_slows_down_is_no_fault_of_the_training():
    """Time is that of the samples before, so that it grows as the square."""
    slower = samples(
        lambda sample, share: {"cpu_seconds": sample.cpu_seconds * (1 + share), "yardstick": 0.1 + 0.2 * share}
    )
    rows, kept = soak.verdict(slower)
    assert kept and rows[-2][1][3] > 1.5 * rows[-2][1][0]
    assert not soak.verdict([replace(sample, yardstick=0.1) for sample in slower])[1]


@pytest.mark.parametrize(
    ("broken", "grow"),
    [
        ("memory at rest, MiB", lambda sample, share: {"rest_mib": sample.rest_mib * (1 + 0.03 * share)}),
        ("memory at rest, MiB", lambda sample, share: {"rest_mib": sample.rest_mib * (1 - 0.03 * share)}),
        ("open file handles", lambda sample, share: {"handles": 50 + int(2 * share)}),
        ("threads", lambda sample, share: {"threads": 6 + int(2 * share)}),
        ("the same in yardsticks", lambda sample, share: {"cpu_seconds": sample.cpu_seconds * (1 + 0.1 * share)}),
    ],
)
def test_what_grows_is_told(broken, grow):
    rows, kept = soak.verdict(samples(grow))
    assert not kept and [row[0] for row in rows if not row[-1]] == [broken]


def test_samples_within_one_update_count_once():
    stuck = samples()
    stuck += [replace(stuck[-1], seconds=stuck[-1].seconds + 30 * i, rest_mib=5000) for i in range(1, 500)]
    assert len(sum(soak.quarters(stuck), [])) <= 240 and soak.verdict(stuck)[0][0][1][3] == 700


def test_a_rest_counts_in_whichever_sample_of_an_update_it_was_met():
    halves = [half for sample in samples() for half in (sample, replace(sample, rest_mib=2000))]
    assert soak.verdict(halves)[0][0][1] == [700, 700, 700, 700]


def test_a_training_that_went_on_counts_from_there():
    later = [replace(sample, updates=sample.updates + 9000) for sample in samples()]
    assert soak.verdict(later) == soak.verdict(samples())


def test_too_little_is_no_verdict():
    with pytest.raises(SystemExit, match="too few samples"):
        soak.verdict(samples(count=12))


def test_the_least_memory_is_met_between_two_steps():
    program = "import time\nfor _ in range(4):\n    x = bytearray(80 << 20); time.sleep(0.4); del x; time.sleep(0.2)"
    process = subprocess.Popen([sys.executable, "-c", program])
    assert soak.least_memory(process, 1.5) < 60
    process.wait()


def test_a_tree_of_processes_is_counted(tmp_path):
    log = tmp_path / "train.log"
    line = "now | INFO | train_inner | " + json.dumps({"num_updates": "7", "wpb": "120.4"})
    log.write_text(f"other\n{line}\n{line[:40]}")
    progress = soak.Progress(log)
    program = "import sys, subprocess\nfile = open('/dev/null')\nx = bytearray(50 << 20)\n"
    child = "subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    process = subprocess.Popen([sys.executable, "-c", program + child], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()  # both run
    sample = soak.observe(process.pid, 30, progress)
    process.communicate(b"\n")
    assert (sample.updates, sample.tokens, sample.processes, sample.threads) == (7, 120, 2, 2)
    assert sample.handles >= 7 and sample.memory_mib > 50 and sample.cpu_seconds > 0
    with log.open("a") as file:
        file.write(line[40:] + "\n")
    progress.read()
    assert progress.tokens == 240


def test_a_table_that_is_still_written_is_read(tmp_path):
    with (tmp_path / "samples.tsv").open("w", newline="") as table:
        writer = csv.writer(table, delimiter="\t")
        writer.writerow(field.name for field in fields(soak.Sample))
        writer.writerows(astuple(sample) for sample in samples())
        table.write("7230.0\t24")
    assert soak.read_samples(tmp_path / "samples.tsv") == samples()
