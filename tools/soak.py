"""A long training under observation: memory, file handles and CPU time for each token, from its start to its end.

    python tools/soak.py runs/soak data-bin/opus imported/mbert --minutes 120 [-- fairseq-train flags]
    python tools/soak.py runs/soak        # the verdict on what it has seen so far, from another shell

Every 5 s a line goes to OUT/samples.tsv: what the whole process tree holds and has done. At the end, the first quarter
of the updates after the warm-up stands beside the last one, in a table and in OUT/soak.png; a broken limit is exit
status 1. Time is the CPU's, not the clock's; beside every sample stands that of a fixed piece of work, for which the
training is held: where other work slows the machine down, it slows both. Linux only (/proc).
"""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median, quantiles

from tqdm import tqdm

WARM_UP = 0.1  # share of the updates that is left out: first batches of all sizes, first validation, first checkpoint
MEMORY_LIMIT = 0.02  # change, up or down
SLOWER_LIMIT = 0.1  # more CPU time for each token; the noise of a machine that does other work
SETTINGS = """--user-dir ppa_fairseq --task ppa_alignment --arch ppa_bert --criterion ppa --cpu
    --pooling mean --momentum 0.95 --queue-size 2048 --dropout 0.1 --attention-dropout 0.1
    --optimizer fused_adamw --weight-decay 0.01 --clip-norm 1 --lr 3e-4 --lr-scheduler polynomial_decay
    --warmup-updates 500 --total-num-update 1000000 --batch-size 16 --num-workers 1 --seed 1
    --save-interval-updates 50 --keep-interval-updates 1 --no-epoch-checkpoints
    --best-checkpoint-metric retrieval --maximize-best-checkpoint-metric --log-format json --log-interval 1""".split()


@dataclass
class Sample:
    """What a process tree held at one moment, and had done by then."""

    seconds: float
    updates: int
    tokens: int
    cpu_seconds: float
    memory_mib: float  # proportional: a page that two processes share counts once
    handles: int
    threads: int
    processes: int
    yardstick: float = 0  # CPU seconds of a fixed piece of work
    rest_mib: float = 0  # the least that the training's own process had since the sample before: between two steps


class Progress:
    """Updates and tokens that a training's log tells of, read on from where it was."""

    def __init__(self, log: Path):
        self.lines = log.open(encoding="utf-8", errors="replace")
        self.updates = self.tokens = 0
        self._rest = ""

    def read(self) -> None:
        *whole, self._rest = (self._rest + self.lines.read()).split("\n")
        for line in whole:
            _, found, logged = line.partition("| train_inner | ")
            if found:
                logged = json.loads(logged)
                self.updates = int(logged["num_updates"])
                self.tokens += round(float(logged["wpb"]))  # of this one update, as --log-interval is 1


def process_tree(root: int) -> Iterator[int]:
    yield root
    for task in Path(f"/proc/{root}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from process_tree(int(child))


class Yardstick:
    """Work of the kind that a training does, matrix products and passes over more memory than the caches hold."""

    def __init__(self):
        import torch

        torch.set_num_threads(1)
        self._large = torch.ones(12 << 20)  # 48 MiB
        self._product = partial(torch.mm, torch.ones(1024, 384), torch.ones(384, 1536))

    def cpu_seconds(self) -> float:
        began = time.process_time()
        for _ in range(6):
            self._product()
            self._large.mul_(0.5).add_(1)
        return time.process_time() - began


@contextmanager
def held(root: int) -> Iterator[None]:
    """In this block, *root* and what it has started stand still."""
    pids = list(process_tree(root))
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def observe(root: int, seconds: float, progress: Progress) -> Sample:
    """Sum over *root* and what it has started. Raises OSError where a process ends while it is looked at."""
    progress.read()
    sample = Sample(round(seconds, 1), progress.updates, progress.tokens, 0, 0, 0, 0, 0)
    for pid in process_tree(root):
        proc = Path(f"/proc/{pid}")
        memory = dict(line.split(":") for line in (proc / "smaps_rollup").read_text().splitlines()[1:])
        after_name = (proc / "stat").read_text().rpartition(")")[2].split()
        sample.memory_mib += int(memory["Pss"].split()[0]) / 1024
        sample.cpu_seconds += sum(map(int, after_name[11:15])) / os.sysconf("SC_CLK_TCK")  # with children that ended
        sample.threads += int(after_name[17])
        sample.handles += len(os.listdir(proc / "fd"))
        sample.processes += 1
    return sample


def least_memory(process: subprocess.Popen, seconds: float) -> float:
    """The smallest resident size of a process, in MiB, within so many seconds; fewer if it ends."""
    least, end = float("inf"), time.monotonic() + seconds
    statm, page = Path(f"/proc/{process.pid}/statm"), os.sysconf("SC_PAGE_SIZE")
    while time.monotonic() < end and process.poll() is None:
        if resident := int(statm.read_text().split()[1]):  # none once it has ended
            least = min(least, resident * page / (1 << 20))
        time.sleep(0.02)
    return least


def train(out: Path, data: str, pretrained: str, minutes: float, interval: float, flags: list[str]) -> int:
    """Train for *minutes*, a line in samples.tsv every *interval* seconds. Returns fairseq-train's exit status."""
    out.mkdir(parents=True)
    command = ["fairseq-train", data, "--pretrained", pretrained, "--save-dir", str(out / "checkpoints"), *SETTINGS]
    command += ["--stop-time-hours", str(minutes / 60), *flags]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through `finally`, so that the training ends, too
    with (out / "train.log").open("w") as log, (out / "samples.tsv").open("w", newline="", buffering=1) as table:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        progress, yardstick, started = Progress(out / "train.log"), Yardstick(), time.monotonic()
        writer = csv.writer(table, delimiter="\t", lineterminator="\n")
        writer.writerow(field.name for field in fields(Sample))
        try:
            with tqdm(total=minutes, unit="min", bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} min{postfix}") as bar:
                while process.poll() is None:
                    rest = least_memory(process, interval)
                    seconds = time.monotonic() - started
                    try:
                        sample = observe(process.pid, seconds, progress)
                        sample.rest_mib = rest
                        with held(process.pid):
                            sample.yardstick = yardstick.cpu_seconds()
                    except OSError:  # it, or a worker, ended just now
                        continue
                    writer.writerow(round(value, 4) for value in astuple(sample))
                    bar.set_postfix_str(f"{sample.updates} updates, {sample.memory_mib:.0f} MiB", refresh=False)
                    bar.update(min(seconds / 60, minutes) - bar.n)
        finally:
            process.terminate()
            process.wait()
    return process.returncode


def read_samples(path: Path) -> list[Sample]:
    with path.open(newline="") as table:
        rows = [row for row in csv.DictReader(table, delimiter="\t") if None not in row.values()]  # whole lines
    if rows and "rest_mib" not in rows[0]:
        sys.exit(f"soak: error: {path} has no column rest_mib: it is of an older soak.py; run it again")
    return [Sample(**{field.name: field.type(row[field.name]) for field in fields(Sample)}) for row in rows]


def quarters(samples: list[Sample]) -> list[list[Sample]]:
    """The updates after the warm-up in four equal parts, of three samples or more each; one sample an update."""
    last: dict[int, Sample] = {}
    for sample in samples:
        if before := last.get(sample.updates):  # its rest may have been met by an earlier sample
            sample = replace(sample, rest_mib=min(before.rest_mib, sample.rest_mib))
        last[sample.updates] = sample
    last.pop(0, None)
    samples = list(last.values())
    parts = [[] for _ in range(4)]
    for sample in samples:  # a training that went on from another's checkpoint counts from there
        share = (sample.updates - samples[0].updates) / max(1, samples[-1].updates - samples[0].updates)
        if share >= WARM_UP:
            parts[min(int((share - WARM_UP) / (1 - WARM_UP) * 4), 3)].append(sample)
    if min(map(len, parts)) < 3:
        sys.exit("soak: error: too few samples for a verdict; let it run longer, or look at its train.log")
    return parts


def rate(part: list[Sample]) -> float:
    """CPU seconds for 1,000 tokens, with what validations and checkpoints took in between."""
    return 1e3 * (part[-1].cpu_seconds - part[0].cpu_seconds) / (part[-1].tokens - part[0].tokens)


def lowest_tenth(values: list[float]) -> float:
    """What 90 % of the values are above: of memory at rest, what stays once freed pages have been given back."""
    return quantiles(values, n=10, method="inclusive")[0]


def verdict(samples: list[Sample]) -> tuple[list[tuple], bool]:
    """Rows (what, four quarters, limit, kept or not), and whether all limits are kept."""
    parts = quarters(samples)

    def of_parts(statistic: Callable[[list], float], name: str) -> list[float]:
        return [statistic([asdict(sample)[name] for sample in part]) for part in parts]

    memory, highest = of_parts(lowest_tenth, "rest_mib"), of_parts(max, "memory_mib")
    handles, threads = (of_parts(median, name) for name in ("handles", "threads"))
    # Rates are means over tokens; so is the yardstick's, as there is one sample an update.
    rates, yards = [rate(part) for part in parts], of_parts(fmean, "yardstick")
    paired = [rate / yard for rate, yard in zip(rates, yards, strict=True)]
    change = f"{MEMORY_LIMIT:.0%} up or down"
    rows = [
        ("memory at rest, MiB", memory, change, abs(memory[3] / memory[0] - 1) <= MEMORY_LIMIT),
        ("memory at its highest, MiB", highest, "", True),
        ("open file handles", handles, "no more", handles[3] <= handles[0]),
        ("threads", threads, "no more", threads[3] <= threads[0]),
        ("CPU s / 1,000 tokens", rates, "", True),
        ("the same in yardsticks", paired, f"{SLOWER_LIMIT:.0%} more", paired[3] <= paired[0] * (1 + SLOWER_LIMIT)),
    ]
    return rows, all(row[-1] for row in rows)


def report(out: Path) -> bool:
    """Print the verdict's table, draw the plot; True if all limits are kept."""
    samples = read_samples(out / "samples.tsv")
    rows, kept = verdict(samples)
    last = samples[-1]
    print(f"{last.seconds / 60:.0f} minutes, {last.updates:,} updates, {last.tokens:,} tokens, {len(samples)} samples")
    print("| | 1st quarter | 2nd | 3rd | 4th | change | limit | |")
    print("| --- | --: | --: | --: | --: | --: | --- | --- |")
    for what, values, limit, fine in rows:
        shown = " | ".join(f"{value:.4g}" if value < 100 else f"{value:.0f}" for value in values)
        told = ("kept" if fine else "BROKEN") if limit else ""
        print(f"| {what} | {shown} | {values[3] / values[0] - 1:+.1%} | {limit} | {told} |")
    draw(samples, out / "soak.png")
    return kept


def draw(samples: list[Sample], path: Path) -> None:
    from ppa_fairseq.evaluation import plots

    minutes = [sample.seconds / 60 for sample in samples]
    figure, axes = plots.plt.subplots(3, 1, figsize=(7, 7), sharex=True, layout="constrained")
    axes[0].plot(minutes, [sample.memory_mib for sample in samples], label="all")
    axes[0].plot(minutes, [sample.rest_mib for sample in samples], label="at rest")
    axes[0].set_ylabel("memory, MiB")
    axes[0].legend(frameon=False)
    axes[1].plot(minutes, [sample.handles for sample in samples], label="file handles")
    axes[1].plot(minutes, [sample.threads for sample in samples], label="threads")
    axes[1].set_ylabel("number")
    axes[1].legend(frameon=False)
    started = [sample for sample in samples if sample.tokens > samples[0].tokens]
    axes[2].plot([s.seconds / 60 for s in started], [1e3 * s.cpu_seconds / s.tokens for s in started])
    axes[2].set_ylabel("CPU s / 1,000 tokens, so far")
    axes[2].set_xlabel("minutes")
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    plots.save(figure, "A long training", path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for samples, plot, log and checkpoints")
    parser.add_argument("data", nargs="?", help="data-bin folder; without it, only the verdict on OUT is printed")
    parser.add_argument("pretrained", nargs="?", help="what `ppa import-hf` wrote")
    parser.add_argument("--minutes", type=float, default=120, help="how long to train (default: 120)")
    parser.add_argument("--interval", type=float, default=5, help="seconds between samples (default: 5)")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:split])
    status = 0
    if args.data:
        if not args.pretrained:
            parser.error("give the pretrained folder, too")
        if args.out.exists():
            parser.error(f"{args.out}: exists; name a new folder")
        status = train(args.out, args.data, args.pretrained, args.minutes, args.interval, sys.argv[split + 1 :])
        if status:
            print(f"soak: error: fairseq-train ended with {status}; see {args.out / 'train.log'}", file=sys.stderr)
    sys.exit(not report(args.out) or status)


if __name__ == "__main__":
    main()
