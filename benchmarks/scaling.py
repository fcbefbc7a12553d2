"""Seconds of an alignment step as queue, batch, length and vocabulary grow; and of two gloo ranks against one.

    python benchmarks/scaling.py --output curves                     # short ranges, minutes
    python benchmarks/scaling.py --output curves --full              # queue to 128k, batch to 128, length to 64
    python benchmarks/scaling.py --output curves --curves ranks --data data-bin/quickstart \\
        --pretrained runs/quickstart/imported

A step is that of training with ``--optimizer fused_adamw`` (alignment_sides.py) at the stand-in's shape, fp32, on
random WordPieces. One size grows at a time, the others stay at 32,000 keys, 16 pairs, 24 WordPieces a sentence and
41,060 in the vocabulary. Ranks are fairseq-train's, on the same updates: the batch of all ranks together stays the
same. Seconds are the median of --rounds steps (ranks: their mean). --processor-time counts this process alone, for a
machine that does other work, too.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from alignment_sides import DECAY, RATE, Ours
from curves import write_curve
from fairseq.data import ListDataset
from finetuning import SHAPES
from tqdm import tqdm

from ppa_fairseq.checkpoints.families import BERT
from ppa_fairseq.data.bitext.dataset import AlignmentDataset, ParallelCorpus
from ppa_fairseq.data.bitext.masking import MaskingScheme
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.modules.key_queue import KeyQueue

BASE = {"queue": 32_000, "batch": 16, "length": 24, "vocabulary": 41_060}
QUICK = {
    "queue": [2_000, 32_000, 128_000],
    "batch": [8, 16, 32],
    "length": [12, 24, 48],
    "vocabulary": [10_000, 41_060, 119_547],
}
FULL = {
    "queue": [2_000, 8_000, 32_000, 64_000, 128_000],
    "batch": [4, 8, 16, 32, 64, 128],
    "length": [8, 16, 24, 32, 48, 64],
    "vocabulary": [5_000, 10_000, 20_000, 41_060, 80_000, 119_547],
}
WARM_UP, RANKS = 2, [1, 2]


def make_batch(pairs: int, length: int, vocabulary: int) -> dict:
    """A batch of random sentences, *length* WordPieces each, as training makes it."""
    dictionary = WordPieceDictionary([*BERT.specials, *(f"w{number}" for number in range(vocabulary - 5))])
    draw = np.random.default_rng(1)
    sides = [
        ListDataset([torch.from_numpy(np.append(row, dictionary.eos())) for row in rows], np.full(pairs, length + 1))
        for rows in draw.integers(5, vocabulary, (2, pairs, length))
    ]
    corpus = ParallelCorpus(0, "de", "en", *sides)
    dataset = AlignmentDataset([corpus], dictionary, MaskingScheme.for_dictionary(dictionary, 0.15), seed=1)
    return dataset.collater([dataset[index] for index in range(pairs)])


def step_seconds(sizes: dict[str, int], rounds: int, clock: Callable[[], float]) -> float:
    side = Ours(replace(SHAPES["standin"], vocab_size=sizes["vocabulary"]))
    width = side.model.cfg.projection_dim
    side.model.queue = queue = KeyQueue(sizes["queue"], width)
    queue.keys.copy_(F.normalize(torch.randn(sizes["queue"], width), dim=-1))
    queue.filled.fill_(sizes["queue"])
    side.train(True)
    batch, seconds = make_batch(sizes["batch"], sizes["length"], sizes["vocabulary"]), []
    for _ in range(WARM_UP + rounds):
        start = clock()
        side.step(batch)
        seconds.append(clock() - start)
    return float(np.median(seconds[WARM_UP:]))


def sweep(name: str, values: list[int], rounds: int, clock: Callable[[], float]) -> list[dict[str, float]]:
    rows = []
    for value in tqdm(values, desc=name, unit="size"):
        sizes = BASE | {name: value}
        seconds = step_seconds(sizes, rounds, clock)
        rows.append({name: value, "s a step": seconds, "pairs/s": sizes["batch"] / seconds})
    return rows


def rank_seconds(ranks: int, args: argparse.Namespace) -> float:
    """Of an update of fairseq-train, on *ranks* processes of one thread each."""
    flags = f"""
        {args.data} --user-dir ppa_fairseq --task ppa_alignment --arch ppa_bert --pretrained {args.pretrained}
        --criterion ppa --optimizer fused_adamw --weight-decay {DECAY} --clip-norm 1 --lr {RATE} --lr-scheduler fixed
        --batch-size {args.global_batch // ranks} --max-update {args.rounds + WARM_UP} --seed 1 --num-workers 0
        --no-save --disable-validation --log-format json --log-interval 1
    """
    command = [sys.executable, "-m", "ppa_fairseq.commands.main", "launch", "--nproc", str(ranks), "--cpu", "--", *flags.split()]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread)
    if done.returncode:
        raise SystemExit((done.stdout + done.stderr)[-2000:])
    lines = [line for line in (done.stdout + done.stderr).splitlines() if " | train_inner | " in line]
    walls = [float(json.loads(line.split(" | ")[-1])["wall"]) for line in lines]
    return (walls[-1] - walls[WARM_UP - 1]) / (len(walls) - WARM_UP)


def rank_rows(args: argparse.Namespace) -> list[dict[str, float]]:
    rows = []
    for ranks in RANKS:
        seconds = rank_seconds(ranks, args)
        rows.append({"ranks": ranks, "s an update": seconds, "pairs/s": args.global_batch / seconds})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder for a .tsv, .md and .png of each curve")
    add("--curves", nargs="+", choices=[*BASE, "ranks"], default=list(BASE), help="default: all but ranks")
    add("--full", action="store_true", help="the whole ranges")
    add("--rounds", type=int, default=5, help="steps that are timed, of each size")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--processor-time", action="store_true", help="count it, not the wall's: beside other work")
    add("--data", type=Path, help="data-bin folder, for ranks")
    add("--pretrained", type=Path, help="what `ppa import-hf` wrote, for ranks")
    add("--global-batch", type=int, default=32, help="pairs an update of all ranks (default: %(default)s)")
    args = parser.parse_args()
    if "ranks" in args.curves and not (args.data and args.pretrained):
        parser.error("ranks need --data and --pretrained")
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.processor_time else time.perf_counter
    for name in args.curves:
        if name == "ranks":
            write_curve(args.output, "ranks", rank_rows(args), "ranks", {"s": ["s an update"]})
        else:
            rows = sweep(name, (FULL if args.full else QUICK)[name], args.rounds, clock)
            write_curve(args.output, name, rows, name, {"s": ["s a step"], "pairs a second": ["pairs/s"]})


if __name__ == "__main__":
    main()
