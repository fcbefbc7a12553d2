"""Time what fairseq-train adds to the bare step of alignment.py, on the same batches.

    python benchmarks/training_loop.py --data data-bin/quickstart --pretrained runs/quickstart/imported

fairseq-train runs in its own process, with two workers, `--optimizer fused_adamw` and a log line for each update. The
bare step runs before and after it.
"""

import argparse
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from alignment import DECAY, RATE, Ours

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.tasks.ppa_alignment import PPAAlignmentConfig, PPAAlignmentTask
from ppa_fairseq.utils.markdown import markdown_table

WARM_UP = 2  # updates


def first_batches(data: Path, size: int, count: int) -> list[dict]:
    """The batches that fairseq-train makes first."""
    cfg = PPAAlignmentConfig(data=str(data))
    cfg.seed, cfg.log_interval, cfg.update_freq = 1, 1, [1]
    cfg.save_dir, cfg.restore_file = "", "checkpoint_last.pt"
    task = PPAAlignmentTask.setup_task(cfg)
    task.queue_size = 32_000
    task.load_dataset("train")
    made = task.get_batch_iterator(task.dataset("train"), max_sentences=size, max_positions=512, seed=1)
    return list(islice(made.next_epoch_itr(shuffle=True), count))


def bare_seconds(side: Ours, batches: list[dict]) -> list[float]:
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        side.step(batch)
        seconds.append(time.perf_counter() - start)
    return seconds[WARM_UP:]


def loop_seconds(args: argparse.Namespace) -> list[float]:
    """Seconds of fairseq-train's updates after the first ones."""
    flags = f"""
        {args.data} --user-dir ppa_fairseq --task ppa_alignment --cpu --arch ppa_bert --pretrained {args.pretrained}
        --criterion ppa --optimizer fused_adamw --weight-decay {DECAY} --clip-norm 1 --lr {RATE} --lr-scheduler fixed
        --batch-size {args.batch_size} --max-update {args.updates + WARM_UP} --seed 1 --num-workers 2 --no-save
        --disable-validation --log-format json --log-interval 1
    """
    program = f"import torch; torch.set_num_threads({args.threads}); from fairseq_cli.train import cli_main; cli_main()"
    command = [sys.executable, "-c", program, *flags.split()]
    times, log = [], []
    process = subprocess.Popen(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        log.append(line)
        if " | train_inner | " in line:
            times.append(time.perf_counter())
    if process.wait():
        raise SystemExit("fairseq-train failed:\n" + "".join(log[-20:]))
    return np.diff(times)[WARM_UP - 1 :].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data-bin folder")
    parser.add_argument("--pretrained", type=Path, required=True, help="what `ppa import-hf` wrote")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--updates", type=int, default=20, help="timed updates (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    batches = first_batches(args.data, args.batch_size, args.updates + WARM_UP)
    side = Ours(checkpoint.read(args.pretrained).shape)
    side.train(True)
    before = bare_seconds(side, batches)
    trained = loop_seconds(args)
    bare, loop = np.mean(before + bare_seconds(side, batches)), np.mean(trained)
    print(f"batches of {args.batch_size} pairs, {args.threads} threads\n")
    rows = [["", "updates a second", "of the bare step's"]]
    rows += [[name, f"{1 / took:.2f}", f"{100 * bare / took:.0f} %"] for name, took in
             (("bare step", bare), ("fairseq-train", loop))]  # fmt: skip
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
