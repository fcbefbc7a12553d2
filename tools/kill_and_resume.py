"""Check that a training that is killed many times ends where an uninterrupted one does, bit for bit.

    python tools/kill_and_resume.py runs/kills data-bin/opus [--kills 20] [--ranks 2] [-- fairseq-train flags]

Runs the training once in OUT/whole and once in OUT/killed. There, kill -9 hits it at random moments, half of them while
it writes a checkpoint: all its processes, only the launcher, or one rank; then the same command starts again. The check
compares the last and the best checkpoint (weights, momentum encoder, queue, optimizer, position in the data; no clock
times) and every logged value. Each start must resume from the newest complete checkpoint. Exit status 0 if all of this
holds. Linux only (/proc).
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch

from ppa_fairseq.fairseq_compat.interrupted_save import BEST, LAST, changed, is_complete, read_progress

LOG_INTERVAL = 2
SETTINGS = f"""--user-dir ppa_fairseq --task ppa_alignment --arch ppa_bert --criterion ppa
    --encoder-layers 2 --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 --encoder-attention-heads 2
    --max-positions 512 --token-types 2 --layer-norm-eps 1e-12 --position-offset 0 --projection-dim 64
    --queue-size 1024 --momentum 0.99 --optimizer fused_adamw --weight-decay 0.01 --lr 1e-3
    --lr-scheduler polynomial_decay --warmup-updates 10 --batch-size 8 --save-interval-updates 5
    --keep-interval-updates 2 --no-epoch-checkpoints --log-format json --log-interval {LOG_INTERVAL}""".split()
LOGGED = re.compile(r" \| INFO \| (train_inner|train|valid) \| (\{.*\})$", re.MULTILINE)
LOADED = re.compile(r"Loaded checkpoint \S+ \(epoch \d+ @ (\d+) updates\)")
SAVING, SAVED = "| Preparing to save checkpoint", re.compile(r"writing took ([\d.e-]+) seconds")
CLOCK = {"wps", "ups", "wall", "train_wall"}  # logged values that depend on the clock
CLOCK_METERS = {"TimeMeter", "StopwatchMeter"}
LEFT_OUT = {
    ".cfg",  # holds the folder's name
    ".optimizer_history",  # grows with every start; its last entry is compared
    ".last of optimizer_history.lr_scheduler_state.best",  # for reduce_lr_on_plateau alone
    ".extra_state.previous_training_time",
    ".extra_state.metrics.default",  # sums over the whole run, never logged
    ".extra_state.metrics.valid",
}
PATIENCE = 600  # seconds that killed processes may take to end


class Training:
    """One start of the command, in its own process tree."""

    def __init__(self, command: list[str], log: Path):
        with log.open("w") as output:
            self.root = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def poll(self) -> int | None:
        return self.root.poll()

    def kill(self, rng: random.Random) -> str:
        """Send kill -9 and wait until no process is left; returns what was killed."""
        tree = list(processes(self.root.pid))
        ranks = [pid for pid in children(self.root.pid) if b"fairseq_cli.train" in read(f"/proc/{pid}/cmdline")]
        victims = {"all": tree}
        if ranks:  # of torchrun; alone, a training has data workers only
            victims |= {"launcher": tree[:1], "rank": [rng.choice(ranks)]}
        kind = rng.choice(list(victims))
        for pid in victims[kind]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.root.wait(PATIENCE)
        give_up = time.monotonic() + PATIENCE
        while any(read(f"/proc/{pid}/cmdline") for pid in tree):
            if time.monotonic() > give_up:
                raise SystemExit(f"FAIL: {kind} killed, and {PATIENCE} s later some process still runs")
            time.sleep(0.05)
        return kind


def children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*") for child in read(task / "children").split()]


def processes(root: int) -> Iterator[int]:
    yield root
    for child in children(root):
        yield from processes(child)


def read(path: str | Path) -> bytes:
    """Read a file of /proc; empty if the process is gone."""
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def kill_repeatedly(
    start: Callable[[Path], Training], save_dir: Path, logs: Path, kills: int, updates: int, saving: float, seed: int
) -> Counter:
    """Start and kill a training *kills* times, then let it end; returns counts of what happened.

    Args:
        start: starts the training, which logs to the given file and saves in *save_dir*.
        updates: length of the whole training.
        saving: seconds that a save takes, with all its copies.
    """
    rng, seen, reached = random.Random(seed), Counter(), 0
    moments = sorted(rng.uniform(0, 0.8 * updates) for _ in range(kills))  # early enough for the last ones to hit
    logs.mkdir(parents=True, exist_ok=True)
    while True:
        log = logs / f"{seen['kills']:02d}.log"
        newest = newest_update(save_dir)
        training = start(log)
        killed = False
        if seen["kills"] < kills:
            while_saving = rng.random() < 0.5
            lines = max(1, (moments[seen["kills"]] - newest) / LOG_INTERVAL)
            if wait_for(training, log, lines, while_saving):
                time.sleep(rng.uniform(0, saving if while_saving else 0.1))
                killed = training.poll() is None
        if killed:
            seen[f"kills of {training.kill(rng)}"] += 1
        while training.poll() is None:
            time.sleep(0.1)
        text = log.read_text(errors="replace")
        loaded = LOADED.search(text)
        if not loaded and "| Start iterating" not in text:
            seen["kills while it starts up"] += 1
        else:
            began = int(loaded[1]) if loaded else 0
            seen["starts not from the newest complete checkpoint"] += began != newest
            seen["updates done again"] += max(0, reached - began)
            reached = max([began, *(number for _, number in logged(text))])
        if not killed:
            seen["exit status"] = training.poll()
            return seen
        seen["kills"] += 1
        if left := unfinished(save_dir):
            seen["kills while it saves"] += 1
            seen[f"kills that left {left}"] += 1


def wait_for(training: Training, log: Path, lines: float, while_saving: bool) -> bool:
    """Wait for *lines* logged lines, and for the next save if *while_saving*; False if the training ends before."""
    saves = None
    while training.poll() is None:
        text = log.read_text(errors="replace")
        if saves is None and text.count("| train_inner |") >= lines:
            saves = text.count(SAVING)
        if saves is not None and (not while_saving or text.count(SAVING) > saves):
            return True
        time.sleep(0.002)
    return False


def newest_update(save_dir: Path) -> int:
    """The highest update of the complete checkpoints; 0 without one."""
    complete = filter(is_complete, save_dir.glob("checkpoint*.pt"))
    return max((read_progress(path).updates for path in complete), default=0)


def unfinished(save_dir: Path) -> str:
    """Describe what an interrupted save left; empty without one."""
    saved = list(save_dir.glob("checkpoint*.pt"))
    if any(save_dir.glob("*.tmp")):
        return "a *.tmp"
    if not all(map(is_complete, saved)):
        return "a truncated copy"
    if saved and max(saved, key=changed).name != LAST:
        return "an older copy or none"
    return ""


def logged(text: str) -> dict[tuple[str, int], dict]:
    """{(split, update): its logged values, without the clock's}. Ignores an unfinished last line."""
    found = {}
    for tag, line in LOGGED.findall(text[: text.rfind("\n") + 1]):
        values = {name.removeprefix(f"{tag}_"): value for name, value in json.loads(line).items()}
        found[tag, int(values["num_updates"])] = {name: value for name, value in values.items() if name not in CLOCK}
    return found


def differences(one, other, where: str = "") -> Iterator[str]:
    """Yield where two checkpoints differ, bit for bit, except in `LEFT_OUT` and clock times."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            if f"{where}.{key}" in LEFT_OUT:
                continue
            if key in one and key in other:
                yield from differences(one[key], other[key], f"{where}.{key}")
            else:
                yield f"{where}.{key} is only in one of them"
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        if len(one) != 4 or not isinstance(one[2], str) or one[2] not in CLOCK_METERS:  # priority, name, class, state
            for number, pair in enumerate(zip(one, other, strict=True)):
                yield from differences(*pair, f"{where}[{number}]")
    elif torch.is_tensor(one) and torch.is_tensor(other):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield f"{where}: other values"
    elif one != other:
        yield f"{where}: {str(one)[:60]} and {str(other)[:60]}"


def compare(whole: Path, killed: Path, whole_log: Path, killed_logs: Path) -> list[str]:
    """List all differences between the two trainings.

    The log line of an epoch may be missing: fairseq writes it after the save that ends the epoch, and never again.
    """
    found = []
    for name in (LAST, BEST):
        if (whole / name).exists() or (killed / name).exists():
            pair = [torch.load(folder / name, weights_only=True) for folder in (whole, killed)]
            for state in pair:
                state["last of optimizer_history"] = state["optimizer_history"][-1]
            found += [f"{name}{line}" for line in differences(*pair)]
    names = [sorted(path.name for path in folder.iterdir()) for folder in (whole, killed)]
    if names[0] != names[1]:
        found.append(f"files: {names[0]} and {names[1]}")
    expected, seen = logged(whole_log.read_text()), set()
    for log in sorted(killed_logs.iterdir()):
        for place, values in logged(log.read_text(errors="replace")).items():
            seen.add(place)
            if values != expected.get(place):
                found.append(f"{log.name}, {place[0]} at update {place[1]}: {values}, not {expected.get(place)}")
    return found + [f"never logged: {place}" for place in sorted(expected.keys() - seen) if place[0] != "train"]


def fairseq(arguments: list[str], ranks: int) -> list[str]:
    if ranks == 1:
        return [sys.executable, "-m", "fairseq_cli.train", *arguments, "--cpu"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    return [sys.executable, *launcher, "-m", "fairseq_cli.train", *arguments, "--cpu"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, metavar="OUT", help="a new folder")
    parser.add_argument("data", help="data-bin folder")
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default: %(default)s)")
    parser.add_argument("--ranks", type=int, default=1, help="CPU ranks (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="data workers a rank (default: %(default)s)")
    parser.add_argument("--update-freq", type=int, default=2, help="micro-batches an update (default: %(default)s)")
    parser.add_argument("--updates", type=int, default=200, help="length of the training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments (default: %(default)s)")
    parser.add_argument("flags", nargs="*", metavar="-- FLAG", help="further flags of fairseq-train, after `--`")
    args = parser.parse_args()
    if args.output.exists():
        parser.error(f"{args.output} exists; name a new folder")
    shared = [args.data, *SETTINGS, "--num-workers", str(args.workers), "--update-freq", str(args.update_freq)]
    shared += ["--max-update", str(args.updates), "--total-num-update", str(args.updates), *args.flags]

    def start(name: str, log: Path) -> Training:
        return Training(fairseq([*shared, "--save-dir", str(args.output / name)], args.ranks), log)

    args.output.mkdir(parents=True)
    whole_log = args.output / "whole.log"
    began = time.monotonic()
    status = start("whole", whole_log).root.wait()
    text = whole_log.read_text(errors="replace")
    if status:
        raise SystemExit(f"{text[-2000:]}\nthe uninterrupted training ended with exit status {status}")
    saving = median(map(float, SAVED.findall(text)))
    print(f"uninterrupted: {time.monotonic() - began:.0f} s, {text.count(SAVING)} saves of {1000 * saving:.0f} ms")
    logs = args.output / "logs"
    seen = kill_repeatedly(
        lambda log: start("killed", log), args.output / "killed", logs, args.kills, args.updates, saving, args.seed
    )
    for what, count in sorted(seen.items()):
        print(f"{what + ':':48} {count:5}")
    found = compare(args.output / "whole", args.output / "killed", whole_log, logs)
    print(f"{'differences:':48} {len(found):5}", *found[:20], sep="\n    ")
    bad = found or seen["exit status"] or seen["kills"] < args.kills
    bad = bad or seen["starts not from the newest complete checkpoint"]
    print(f"{time.monotonic() - began:.0f} s in all: {'FAIL' if bad else 'PASS'}")
    if bad:
        raise SystemExit(1)
    shutil.rmtree(args.output / "whole")
    shutil.rmtree(args.output / "killed")


if __name__ == "__main__":
    main()
