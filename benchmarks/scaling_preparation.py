"""Time and memory of `ppa prepare-bitext` and `ppa binarize` as the bitext grows.

    python benchmarks/scaling_preparation.py --tokenizer imported/mbert --output curves
    python benchmarks/scaling_preparation.py --tokenizer imported/mbert --output curves \
        --bitext opus/*.tsv --pairs 10000 100000 1000000 5000000

One language pair of each size is made of the TSV files (English first; default: the bundled sample), read in turn and
again from the start. A sentence pair that comes again is made another by a word on each side whose letters are
shuffled: a new word a sentence, more than new text has. Rates and bytes are of pairs read; `ppa prepare-bitext` drops
some of them as too long. Memory is that of the command and its processes together, shared pages once (Linux: PSS, every
0.2 s). Seconds are those of the whole command, its start included; CPU seconds, of all its processes, hold on a busy
machine, too.
"""

import argparse
import lzma
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, islice
from pathlib import Path

from curves import write_curve

SAMPLE = sorted((Path(__file__).resolve().parents[1] / "sample").glob("*.train.tsv.xz"))
QUICK, MIB = [2_000, 10_000, 50_000], 1 << 20


def pairs_without_end(paths: list[Path]) -> Iterator[str]:
    """Lines of two columns, all different."""
    draw = random.Random(1)
    for turn in count():
        files = [lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else open(path, encoding="utf-8")
                 for path in paths]  # fmt: skip
        while files:
            for file in files[:]:
                line = file.readline()
                if not line:
                    file.close()
                    files.remove(file)
                    continue
                sides = line.rstrip("\n").split("\t")[:2]
                yield "\t".join(_varied(side, draw) if turn else side for side in sides) + "\n"


def _varied(sentence: str, draw: random.Random) -> str:
    words = sentence.split(" ")
    letters = list(max(words, key=len)[:12])
    draw.shuffle(letters)
    return f"{sentence} {''.join(letters)}"


def run(*command: str | Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory, in bytes, of a `ppa` command."""
    start, peak, before = time.perf_counter(), 0, _cpu_seconds()
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen([sys.executable, "-m", "ppa_fairseq.commands.main", *command], stdout=told, stderr=told)
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(0.2)
        seconds = time.perf_counter() - start
        if process.returncode:
            told.seek(0)
            raise SystemExit(told.read().decode()[-2000:])
    return seconds, _cpu_seconds() - before, peak


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _memory(pid: int) -> int:
    """PSS of a process and of those it started."""
    total = 0
    with suppress(OSError):  # it has ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total = 1024 * int(line.split()[1])
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                total += _memory(int(child))
    return total


def size_of(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))


def measure(pairs: int, bitext: list[Path], tokenizer: Path, workers: int, scratch: Path) -> dict[str, float]:
    raw, text, data = scratch / "raw.tsv", scratch / "text", scratch / "data-bin"
    with open(raw, "w", encoding="utf-8") as file:
        file.writelines(islice(pairs_without_end(bitext), pairs))
    prepare = ["prepare-bitext", f"en-xx={raw}", "--tokenizer", tokenizer, "--out", text, "--workers", str(workers)]
    prepared = run(*prepare, "--min-tokens", "1")
    binarized = run("binarize", text, "--destdir", data, "--workers", str(workers))
    row = {"pairs": pairs}
    for name, (seconds, cpu, memory) in (("prepare", prepared), ("binarize", binarized)):
        row |= {f"{name}, s": seconds, f"{name}, CPU s": cpu, f"{name}, pairs/s": pairs / seconds}
        row |= {f"{name}, pairs/CPU s": pairs / cpu, f"{name}, MiB": memory / MIB}
    row |= {
        "raw, bytes/pair": raw.stat().st_size / pairs,
        "text, bytes/pair": size_of(text, "*.en-xx.*") / pairs,
        "binarized, bytes/pair": size_of(data, "*.en-xx.*") / pairs,
    }
    for folder in (text, data):
        shutil.rmtree(folder)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="what `ppa prepare-bitext --tokenizer` takes")
    parser.add_argument("--output", type=Path, required=True, help="folder for preparation.tsv, .md and .png")
    parser.add_argument("--bitext", type=Path, nargs="+", default=SAMPLE, help="TSV files, plain or .xz")
    parser.add_argument("--pairs", type=int, nargs="+", default=QUICK, help="sizes to measure (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    rows = []
    for pairs in args.pairs:
        with tempfile.TemporaryDirectory(dir=args.output.parent) as scratch:
            rows.append(measure(pairs, args.bitext, args.tokenizer, args.workers, Path(scratch)))
        kinds = "s", "CPU s", "MiB"
        panels = {kind: [column for column in rows[0] if column.endswith(f", {kind}")] for kind in kinds}
        write_curve(args.output, "preparation", rows, "pairs", panels)


if __name__ == "__main__":
    main()
