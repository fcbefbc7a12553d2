"""A step of alignment against its peers: pairs a second of the same steps, memory, share of the matrix product.

    python benchmarks/alignment.py --tokenizer runs/quickstart/imported --shape standin
    python benchmarks/alignment.py --tokenizer imported/mbert --shape mbert --rounds 2

All train on the same pairs of the bundled sample, under the vocabulary of --tokenizer (an import, or any folder with a
tokenizer), in fp32 with the same dropout. The sides (alignment_sides.py):

    ppa_fairseq           the model, the criterion, --optimizer fused_adamw, the momentum encoder's and the queue's moves
    transformers, plain   as one would write it first: shuffled batches, two query forwards, logits of every place, a
                          loop over the weights for the momentum, torch's AdamW as it comes
    transformers, tuned   as an expert would: batches by length, SDPA, the MLM head on masked places alone, fused AdamW,
                          one call for the momentum
    fairseq masked_lm     fairseq's RoBERTa, criterion and Adam on the TLM sequences by length: no queries and no keys.
                          The ratio to it is in tokens that are trained on, as its pairs are less work

Each side runs in a process of its own and they take turns at every step, so that the noise of the machine meets all.
Memory is the largest resident size of that process while it trains, above what it was with everything imported (Linux
alone). The share is the work that a step needs (`needed_work`), done in the time of the step, against fp32 matrix
products of the encoder's shapes, measured at every turn. Without dropout, the losses must agree.
"""

import argparse
import dataclasses
import gc
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from alignment_sides import QUEUE
from finetuning import SHAPES
from sample_batches import make_batches, sample_dataset
from tqdm import tqdm

from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.modules.host_memory import keep_heap_small, return_freed
from ppa_fairseq.tasks._encoder_task import TRIM_INTERVAL
from ppa_fairseq.utils.markdown import markdown_table

OURS, PLAIN, TUNED, FAIRSEQ = "ppa_fairseq", "transformers, plain", "transformers, tuned", "fairseq masked_lm"
ROWS = [(OURS, "shuffled"), (PLAIN, "shuffled"), (OURS, "by length"), (TUNED, "by length"), (FAIRSEQ, "by length")]
WARM_UP = 1  # steps of each side and order
STATUS = Path("/proc/self/status")


class Side:
    """A side in a process of its own, which :func:`serve` runs with these arguments, asked through a pipe."""

    def __init__(self, name: str, *arguments):
        context = multiprocessing.get_context("spawn")
        self.name, (self.pipe, theirs) = name, context.Pipe()
        context.Process(target=serve, args=(theirs, name, *arguments), daemon=True).start()
        del theirs  # the other process holds it alone: if that ends, so does the pipe
        self.answer()  # built

    def ask(self, *question):
        self.pipe.send(question)
        return self.answer()

    def answer(self):
        try:
            return self.pipe.recv()
        except EOFError:
            raise SystemExit(
                f"{self.name}: its process ended; if the system killed it, memory ran out: --one-by-one needs less"
            ) from None


def serve(pipe, name: str, shape: BertShape, batches: dict[str, list[dict]], threads: int, clock: Callable) -> None:
    """Answer ("step", order, number) with seconds, ("loss",) with the first batch's, at last ("memory",) with MiB."""
    sys.modules.setdefault("torchaudio", None)  # imported wherever it is installed, and it may not load
    torch.set_num_threads(threads)
    if name == OURS:
        keep_heap_small()  # as the task does; the others have the allocator as it comes
    from alignment_sides import SIDES

    if name.startswith("transformers"):
        import transformers.models.bert.modeling_bert  # noqa: F401
    before = status("VmRSS")
    side = SIDES[name](shape)
    side.train(True)
    gc.collect()
    return_freed()
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")  # the largest size so far is forgotten
    pipe.send("built")
    steps = 0
    while True:
        kind, *what = pipe.recv()
        if kind == "step":
            order, number = what
            start, steps = clock(), steps + 1
            side.step(batches[order][number])
            if name == OURS and steps % TRIM_INTERVAL == 0:
                return_freed()  # as the task does
            pipe.send(clock() - start)
        elif kind == "loss":
            side.train(False)
            with torch.no_grad():
                pipe.send(side.loss(batches["shuffled"][0]).item())
            side.train(True)
        else:
            pipe.send(status("VmHWM") - before)
            return


def status(name: str) -> float:
    """A size of this process, in MiB; NaN where it cannot be read."""
    if not STATUS.exists():
        return float("nan")
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(name)) / 1024


def needed_work(shape: BertShape, batch: dict) -> float:
    """Floating-point operations that a step cannot do without, all of them in matrix products.

    Every token goes through every layer, but for the last one only where it is read: there, a token that is not read
    gives its key and value alone. What is trained costs twice as much again in the backward pass, keys do not. Of the
    attention the products of queries with keys, and of probabilities with values; of the queue and the MLM head all.
    """
    inputs, pairs = batch["net_input"], batch["nsentences"]
    queries, keys, masked = inputs["query_input"], inputs["key_input"], len(batch["target"])
    layer = 2 * (4 * shape.dim**2 + 2 * shape.dim * shape.ffn_dim)  # of a token
    key_value = 2 * 2 * shape.dim**2

    def encoder(packed: dict, read: int) -> float:
        lengths = np.array(packed["lengths"], dtype=float)
        attention = 4 * shape.dim * ((lengths**2).sum() * (shape.layers - 1) + read * lengths.mean())
        total = lengths.sum()
        return layer * (shape.layers - 1) * total + key_value * total + (layer - key_value) * read + attention

    projection = 2 * pairs * shape.dim * (shape.dim + 128)
    trained = encoder(queries, pairs + masked) + projection + 2 * masked * shape.dim * (shape.vocab_size + shape.dim)
    return 3 * trained + encoder(keys, pairs) + projection + 2 * 2 * pairs * 128 * QUEUE


def matrix_product_rate(shape: BertShape, tokens: int, clock: Callable) -> float:
    """Floating-point operations a second in the products of a layer's feed-forward part, forward and backward."""
    hidden, wide = torch.randn(tokens, shape.dim), torch.randn(tokens, shape.ffn_dim)
    weight, product = torch.randn(shape.ffn_dim, shape.dim), torch.ones(tokens, shape.ffn_dim)  # no page is new
    start = clock()
    for _ in range(2):
        torch.mm(hidden, weight.T, out=product)
        torch.mm(wide, weight, out=hidden)
        torch.mm(wide.T, hidden, out=weight)
    return 6 * 2 * tokens * shape.dim * shape.ffn_dim / (clock() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder whose vocabulary to take")
    parser.add_argument("--shape", choices=SHAPES, default="standin", help="all but the vocabulary's size")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=16, help="steps that are timed, of each row")
    parser.add_argument("--peers", nargs="+", choices=[PLAIN, TUNED, FAIRSEQ], default=[PLAIN, TUNED, FAIRSEQ])
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--attention-dropout", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--processor-time", action="store_true", help="count it instead of the wall's: for one thread beside other work"
    )
    parser.add_argument(
        "--one-by-one", action="store_true", help="a side ends before the next one starts: less memory, no turns"
    )
    args = parser.parse_args()
    clock = time.process_time if args.processor_time else time.perf_counter
    torch.set_num_threads(args.threads)

    count = args.rounds + WARM_UP
    dataset = sample_dataset(args.tokenizer, pairs_a_language=500)
    batches = make_batches(dataset, args.batch_size, count)
    drop = {"dropout": args.dropout, "attention_dropout": args.attention_dropout}
    shape = dataclasses.replace(SHAPES[args.shape], vocab_size=len(dataset.masking.maskable), **drop)
    names = [OURS, *args.peers]
    orders = {order for name, order in ROWS if name in args.peers}
    rows = [(name, order) for name, order in ROWS if name in names and order in orders]
    seconds, losses, memory, rates = {row: [] for row in rows}, {}, {}, []
    for together in [[name] for name in names] if args.one_by_one else [names]:
        sides = {name: Side(name, shape, batches, args.threads, clock) for name in together}
        losses |= {name: side.ask("loss") for name, side in sides.items() if name != FAIRSEQ}
        for number in tqdm(range(count), unit="turn"):
            for name, order in rows:
                if name in sides:
                    seconds[name, order].append(sides[name].ask("step", order, number))
            rates.append(matrix_product_rate(shape, batches["shuffled"][number]["ntokens"], clock))
        memory |= {name: side.ask("memory") for name, side in sides.items()}
    assert max(losses.values()) - min(losses.values()) < 1e-3, losses
    seconds = {row: np.array(times[WARM_UP:]) for row, times in seconds.items()}

    head = ["", "pairs a second", "ours is faster by", "10th – 90th percentile", "peak memory", "of the matrix product"]
    table = [head]
    rate = np.median(rates)
    for (name, order), took in seconds.items():
        part = batches[order][WARM_UP:]
        work = np.array([needed_work(shape, batch) for batch in part])
        ratios = took / seconds[OURS, order]
        if name == FAIRSEQ:
            trained = [sum(batch["net_input"]["query_input"]["lengths"]) for batch in part]
            tlm = [sum(batch["net_input"]["query_input"]["lengths"][batch["nsentences"] :]) for batch in part]
            ratios = ratios * np.array(trained) / np.array(tlm)
        weight = seconds[OURS, order] / seconds[OURS, order].sum()
        low, high = np.percentile(ratios, [10, 90])
        table.append([
            f"{name}, {order}",
            f"{args.batch_size * len(took) / took.sum():.2f}",
            f"**{(ratios * weight).sum():.2f}×**" if name != OURS else "",
            f"{low:.2f} – {high:.2f}" if name != OURS else "",
            f"{memory[name]:,.0f} MiB",
            f"{100 * work.sum() / took.sum() / rate:.0f} %" if name != FAIRSEQ else "",
        ])  # fmt: skip
    counted = ", processor time" if args.processor_time else ""
    print(f"{args.shape}: {shape.layers} layers of {shape.dim}, {shape.vocab_size:,} WordPieces, batches of "
          f"{args.batch_size} pairs, dropout {args.dropout}, of attention {args.attention_dropout}, {args.threads} "
          f"threads{counted}, fp32; matrix product {rate / 1e9:.0f} GFLOP/s")  # fmt: skip
    for order, made in batches.items():
        needed = np.mean([needed_work(shape, batch) for batch in made[WARM_UP:]]) / args.batch_size
        print(f"{order}: a pair needs {needed / 1e9:.2f} GFLOP, so the limit is {rate / needed:.1f} pairs a second")
    print()
    print(markdown_table(table))


if __name__ == "__main__":
    main()
