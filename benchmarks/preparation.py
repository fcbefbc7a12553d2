"""Measure time, memory and size of `ppa prepare-bitext` and `ppa binarize` as the bitext grows.

    python benchmarks/preparation.py --tokenizer imported/mbert
    python benchmarks/preparation.py --tokenizer imported/mbert --bitext opus/*.tsv --pairs 10000 100000 1000000

Each size is one language pair, made from the TSV files (default: the bundled sample), again from the start when they
end. A repeated sentence gets a new last word, so that no pair repeats. Bytes are for each pair read; `ppa
prepare-bitext` drops some pairs as too long. Memory is the peak of the largest process. CPU seconds are comparable on a
busy machine, seconds are not.
"""

import argparse
import lzma
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path

from ppa_fairseq.utils.markdown import markdown_table

SAMPLE = sorted((Path(__file__).resolve().parents[1] / "sample").glob("*.train.tsv.xz"))
# A process of its own for each command: the memory of children is a maximum over all of them.
MEASURE = """import resource, subprocess, sys
command = [sys.executable, "-m", "ppa_fairseq.commands.main", *sys.argv[1:]]
status = subprocess.run(command, stdout=sys.stderr).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(status, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)"""


def endless_pairs(paths: list[Path]) -> Iterator[str]:
    """Yield lines of two columns, all different."""
    openers = {".xz": lzma.open}
    for turn in count():
        files = [openers.get(path.suffix, open)(path, "rt", encoding="utf-8") for path in paths]
        for number, line in enumerate(chain.from_iterable(files)):
            new_word = f" {number:x}z{turn}" if turn else ""
            yield "\t".join(side + new_word for side in line.rstrip("\n").split("\t")[:2]) + "\n"
        for file in files:
            file.close()


def run(*command: str | Path) -> tuple[float, float, float]:
    """Run a `ppa` command; returns seconds, CPU seconds and MiB."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True)
    status, cpu, memory = map(float, done.stdout.split())
    if status:
        raise SystemExit(done.stderr[-2000:])
    return time.perf_counter() - start, cpu, memory


def measure(pairs: int, args: argparse.Namespace, scratch: Path) -> dict[str, float]:
    raw, text, data = scratch / "raw.tsv", scratch / "text", scratch / "data-bin"
    with raw.open("w", encoding="utf-8") as file:
        file.writelines(islice(endless_pairs(args.bitext), pairs))
    workers = ["--workers", str(args.workers)]
    row: dict[str, float] = {"pairs": pairs}
    prepare = ["prepare-bitext", f"en-xx={raw}", "--tokenizer", args.tokenizer, "--out", text, "--min-tokens", "1"]
    for name, command in (("prepare", prepare), ("binarize", ["binarize", text, "--destdir", data])):
        row[f"{name}, s"], row[f"{name}, CPU s"], row[f"{name}, MiB"] = run(*command, *workers)
    for name, files in (("raw", [raw]), ("text", text.glob("*.en-xx.*")), ("binarized", data.glob("*.en-xx.*"))):
        row[f"{name}, bytes/pair"] = sum(file.stat().st_size for file in files) / pairs
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="what `ppa prepare-bitext --tokenizer` takes")
    parser.add_argument("--bitext", type=Path, nargs="+", default=SAMPLE, help="TSV files, plain or .xz")
    parser.add_argument("--pairs", type=int, nargs="+", default=[2_000, 10_000, 50_000], help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    rows = []
    for pairs in args.pairs:
        with tempfile.TemporaryDirectory(dir=".") as scratch:
            rows.append(measure(pairs, args, Path(scratch)))
    lines = [[f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in row.values()] for row in rows]
    print(markdown_table([list(rows[0]), *lines]))


if __name__ == "__main__":
    main()
