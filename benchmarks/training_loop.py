"""What fairseq-train adds to the bare step: updates a second of both, of the data loader alone, and the start-up.

    python benchmarks/training_loop.py --data data-bin/quickstart --pretrained runs/quickstart/imported

fairseq-train runs as a process of its own with two workers, `--optimizer fused_adamw` and a log line an update; the
bare step is ppa_fairseq's side of alignment.py on the same batches, before and after it. The loader's updates are those
of both workers with no training beside them. All rates are means: freed memory is given back every few updates.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from alignment_sides import DECAY, RATE, Ours
from tqdm import tqdm

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.tasks.ppa_alignment import PPAAlignmentConfig, PPAAlignmentTask
from ppa_fairseq.utils.markdown import markdown_table

WARM_UP = 2  # updates


def make_task(data: Path) -> PPAAlignmentTask:
    cfg = PPAAlignmentConfig(data=str(data))
    cfg.seed, cfg.log_interval, cfg.update_freq = 1, 1, [1]
    cfg.save_dir, cfg.restore_file = "", "checkpoint_last.pt"
    task = PPAAlignmentTask.setup_task(cfg)
    task.queue_size = 32_000
    task.load_dataset("train")
    return task


def loader(task: PPAAlignmentTask, batch_size: int, workers: int):
    """The batches of the first epoch, as fairseq-train gets them."""
    made = task.get_batch_iterator(
        task.dataset("train"), max_sentences=batch_size, max_positions=512, seed=1, num_workers=workers
    )
    return iter(made.next_epoch_itr(shuffle=True))


def bare_steps(side: Ours, batches: list[dict], clock: Callable) -> list[float]:
    seconds = []
    for batch in tqdm(batches, desc="bare steps", unit="step"):
        start = clock()
        side.step(batch)
        seconds.append(clock() - start)
    return seconds[WARM_UP:]


def fairseq_train(args: argparse.Namespace) -> tuple[list[float], float]:
    """Seconds of every update after the first ones, and those from the start to the first batch."""
    flags = f"""
        {args.data} --user-dir ppa_fairseq --task ppa_alignment --cpu --arch ppa_bert --pretrained {args.pretrained}
        --criterion ppa --optimizer fused_adamw --weight-decay {DECAY} --clip-norm 1 --lr {RATE} --lr-scheduler fixed
        --batch-size {args.batch_size} --max-update {args.updates + WARM_UP} --seed 1 --num-workers 2 --no-save
        --disable-validation --log-format json --log-interval 1
    """
    program = f"import torch; torch.set_num_threads({args.threads}); from fairseq_cli.train import cli_main; cli_main()"
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *flags.split()], stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
    )

    def clock() -> float:
        return processor_seconds(process.pid) if args.processor_time else time.perf_counter()

    times, ready, log = [], None, []
    for line in process.stdout:
        log.append(line)
        if "Start iterating over samples" in line:
            ready = time.perf_counter() - start
        if " | train_inner | " in line and json.loads(line.split(" | ")[-1]):
            times.append(clock())
    if process.wait() != 0 or ready is None:
        raise SystemExit("fairseq-train failed:\n" + "".join(log[-20:]))
    return np.diff(times)[WARM_UP - 1 :].tolist(), ready


def processor_seconds(process: int) -> float:
    """What the main process has used, its workers left out (Linux)."""
    threads = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data-bin folder")
    parser.add_argument("--pretrained", type=Path, required=True, help="what `ppa import-hf` wrote")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--updates", type=int, default=20, help="updates that are timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--processor-time", action="store_true", help="count it, not the wall's: beside other work")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.processor_time else time.perf_counter

    task = make_task(args.data)
    batches = list(islice(loader(task, args.batch_size, 0), args.updates + WARM_UP))
    start, count = time.perf_counter(), 0
    for _ in islice(loader(task, args.batch_size, 2), 10 * args.updates):
        count += 1
    loaded = count / (time.perf_counter() - start)
    side = Ours(checkpoint.read(args.pretrained).shape)
    side.train(True)
    before = bare_steps(side, batches, clock)
    trained, ready = fairseq_train(args)
    bare = np.mean(before + bare_steps(side, batches, clock))
    loop = np.mean(trained)
    counted = ", processor time" if args.processor_time else ""
    print(f"batches of {args.batch_size} pairs, {args.threads} threads{counted}; {ready:.1f} s from start to loop\n")
    rows = [["", "updates a second", "of the bare step's"]]
    for name, rate in (("bare step", 1 / bare), ("fairseq-train", 1 / loop), ("loader alone", loaded)):
        rows.append([name, f"{rate:.2f}", f"{100 * rate * bare:,.0f} %"])
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
