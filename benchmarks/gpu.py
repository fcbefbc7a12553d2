"""Measure a step of alignment on this machine's GPU against transformers and sentence-transformers: one table.

    python benchmarks/gpu.py              # under 10 minutes, mBERT's shape; needs no data and no download
    python benchmarks/gpu.py --tiny       # a tiny encoder, a second a row: does it run here? (also on a CPU)

All sides train on the same made-up pairs (two sentences of 28 tokens on average, under a vocabulary of mBERT's size),
from random weights, with dropout 0.1, AdamW and clipping:

    ppa_fairseq, PRECISION      the task's training step and fairseq's optimizer in that precision
    transformers, plain         fp32, shuffled batches, eager attention, logits at every position, torch's default AdamW
    transformers, tuned         bf16, batches by length, SDPA, logits at masked positions, fused AdamW, foreach momentum
    …, compiled                 with torch.compile for the encoder
    sentence-transformers       its trainer with MultipleNegativesRankingLoss in bf16: in-batch negatives, no TLM
    fairseq-train               the whole loop around the step of ppa_fairseq, with data workers

MFU is the work that a step needs (`needed_work` of alignment.py: no padding, no work that nobody reads) in its time,
relative to the chip's dense bf16 peak by its data sheet; for a chip that is not listed, to a large product timed here.
Rows that cannot run say why: no memory, no package, no time left.
"""

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from alignment import CLIP, DECAY, QUEUE, RATE, TEMPERATURE, Plain, Tuned, make_batches, needed_work, our_model
from fairseq import utils
from fairseq.data import ListDataset
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from fairseq.optim import build_optimizer
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.optim.fp16_optimizer import FP16Optimizer
from finetuning import SHAPES
from omegaconf import OmegaConf

from ppa_fairseq.criterions.ppa import PPACriterion, PPACriterionConfig
from ppa_fairseq.data.bitext.dataset import AlignmentDataset, ParallelCorpus
from ppa_fairseq.data.bitext.masking import MaskingScheme
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.fairseq_compat.optimizers import repair_optimizers
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.tasks.ppa_alignment import PPAAlignmentTask
from ppa_fairseq.utils.markdown import markdown_table

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
PEAKS = {  # dense bf16 TFLOP/s, as recalled from the makers' data sheets: check yours; the first name that fits counts
    "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "GH200": 989, "B200": 2250, "A100": 312, "A800": 312,
    "L40S": 362, "L40": 181, "A40": 150, "A10": 125, "L4": 121, "RTX 4090": 165, "RTX 3090": 71, "RTX A6000": 155,
}  # fmt: skip
PRECISIONS = {"fp32": torch.float32, "amp": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
BATCHES = 12
WARM_UP = 3
OWN = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


class NotRunError(Exception):
    """Why a row is left out."""


def made_up_pairs(vocabulary: int, count: int, tlm: bool = True) -> AlignmentDataset:
    """Pairs of random words; lengths as those of OPUS in mBERT's tokens: 28 a side, correlated, 10 to 62."""
    rng = np.random.default_rng(1)
    dictionary = WordPieceDictionary([*OWN, *(f"w{number}" for number in range(vocabulary - len(OWN)))])
    both = rng.lognormal(3.2, 0.45, count)
    sides = []
    for _ in range(2):
        lengths = np.clip(both * rng.lognormal(0, 0.15, count), 10, 62).astype(int)
        rows = [[*rng.integers(len(OWN), vocabulary, length), dictionary.eos()] for length in lengths]
        sides.append(ListDataset([torch.tensor(row) for row in rows], lengths + 1))
    masking = MaskingScheme.for_dictionary(dictionary, 0.15) if tlm else None
    return AlignmentDataset([ParallelCorpus(0, "de", "en", *sides)], dictionary, masking, seed=1)


class Ours:
    """The steps of the task, as fairseq's trainer calls them."""

    def __init__(self, shape: BertShape, precision: str, **settings):
        model = our_model(shape, QUEUE, **settings)
        self.model = model.to(DEVICE, PRECISIONS[precision]).train()
        self.criterion = PPACriterion(PPACriterionConfig(temperature=TEMPERATURE, **settings), None)
        self.optimizer = fairseq_optimizer(precision, [one for one in self.model.parameters() if one.requires_grad])
        cfg = SimpleNamespace(seed=1, check_ranks=False)
        self.task = SimpleNamespace(
            cfg=cfg, micro_batches=lambda batch, device: [batch], _log_momentum_distance=lambda model, updates: None
        )
        self.updates = 0

    def step(self, batch: dict) -> None:
        self.criterion.train()
        self.optimizer.zero_grad()
        arguments = (self.task, batch, self.model, self.criterion, self.optimizer, self.updates)
        _, pairs, _ = PPAAlignmentTask.train_step(*arguments)
        self.optimizer.multiply_grads(1 / pairs)
        try:
            self.optimizer.clip_grad_norm(CLIP)
            PPAAlignmentTask.optimizer_step(self.task, self.optimizer, self.model, self.updates)
        except OverflowError:  # of --fp16, whose scale is halved
            pass
        self.updates += 1


def fairseq_optimizer(precision: str, weights: list[torch.nn.Parameter]):
    """`--optimizer fused_adamw` as fairseq builds it."""
    common = dict(bf16=precision == "bf16", fp16_init_scale=128, fp16_scale_window=None, fp16_scale_tolerance=0.0)
    common |= dict(min_loss_scale=1e-4, threshold_loss_scale=None, model_parallel_size=1, amp_scale_window=None)
    adam = dict(_name="fused_adamw", adam_betas=[0.9, 0.999], adam_eps=1e-8, weight_decay=DECAY, lr=[RATE])
    cfg = dict(common=common, optimizer=adam, optimization=dict(update_freq=[1], lr=[RATE]))
    cfg = OmegaConf.create(cfg | dict(distributed_training=dict(distributed_world_size=1)))
    if precision == "fp32":
        return build_optimizer(cfg.optimizer, weights)
    return (AMPOptimizer if precision == "amp" else FP16Optimizer).build_optimizer(cfg, weights)


class Theirs:
    """Plain or tuned transformers on the device."""

    def __init__(self, kind: type, shape: BertShape, dtype: torch.dtype, compiled: bool = False):
        self.side = kind(shape, QUEUE)
        for module in (self.side.model, self.side.projection, self.side.key_encoder, self.side.key_projection):
            module.to(DEVICE)
        self.side.queue = self.side.queue.to(DEVICE)
        self.dtype = dtype
        if compiled:
            self.side.model.bert = torch.compile(self.side.model.bert, dynamic=True)
            self.side.key_encoder = torch.compile(self.side.key_encoder, dynamic=True)
        self.side.train(True)

    def step(self, batch: dict) -> None:
        with torch.autocast(DEVICE.type, self.dtype, enabled=self.dtype != torch.float32):
            self.side.step(batch)


def measure(make: Callable, batches: list[dict], seconds: float) -> tuple[float, float]:
    """Return how many seconds all *batches* take the side of *make*, and MiB at most. Times about *seconds*."""
    side = make()
    batches = [utils.move_to_cuda(batch) if CUDA else batch for batch in batches]
    turns = cycle(batches)

    def run(steps: int) -> float:
        wait()
        start = time.perf_counter()
        for _ in range(steps):
            side.step(next(turns))
        wait()
        return time.perf_counter() - start

    run(WARM_UP)
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    rounds = max(1, round(seconds / run(len(batches))))
    took = run(rounds * len(batches)) / rounds
    return took, peak_memory()


def wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def peak_memory() -> float:
    """MiB that the device's allocator has handed out at most; NaN on a CPU."""
    return torch.cuda.max_memory_allocated() / 2**20 if CUDA else float("nan")


def sentence_transformers_step(shape: BertShape, size: int, steps: int) -> tuple[float, float]:
    """Seconds of a step of sentence-transformers' trainer on batches of *size*, and MiB at most."""
    try:
        import accelerate  # noqa: F401  (the trainer needs it)
        from datasets import Dataset
        from sentence_transformers import (
            SentenceTransformer,
            SentenceTransformerTrainer,
            SentenceTransformerTrainingArguments,
            losses,
            models,
        )
    except ImportError as error:
        raise NotRunError(f"{error}; pip install sentence-transformers accelerate datasets") from None
    from transformers import BertConfig, BertModel, TrainerCallback

    dataset = made_up_pairs(shape.vocab_size, size * steps)
    symbols, (corpus,) = dataset.dictionary.symbols, dataset.corpora
    texts = [[" ".join(symbols[i] for i in row[:-1]) for row in side] for side in (corpus.source, corpus.target)]

    class Clock(TrainerCallback):
        times: list[float] = []

        def on_step_end(self, args, state, control, **others):
            if state.global_step in (WARM_UP, steps):
                wait()
                self.times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.txt").write_text("\n".join(symbols) + "\n")
        Path(folder, "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": false}')
        sizes = dict(num_hidden_layers=shape.layers, hidden_size=shape.dim, intermediate_size=shape.ffn_dim)
        BertModel(
            BertConfig(vocab_size=shape.vocab_size, num_attention_heads=shape.heads, **sizes)
        ).save_pretrained(folder)  # fmt: skip
        model = models.Transformer(folder, max_seq_length=64)
        model = SentenceTransformer(modules=[model, models.Pooling(shape.dim, "cls")], device=DEVICE.type)
        arguments = SentenceTransformerTrainingArguments(
            folder, per_device_train_batch_size=size, max_steps=steps, bf16=CUDA, use_cpu=not CUDA, report_to="none",
            save_strategy="no", logging_strategy="no", disable_tqdm=True, dataloader_num_workers=2 * CUDA,
            optim="adamw_torch_fused", max_grad_norm=CLIP, learning_rate=RATE,
        )  # fmt: skip
        trainer = SentenceTransformerTrainer(
            model, arguments, train_dataset=Dataset.from_dict(dict(zip(("first", "second"), texts, strict=True))),
            loss=losses.MultipleNegativesRankingLoss(model), callbacks=[clock := Clock()],
        )  # fmt: skip
        clock.times.clear()
        trainer.train()
    start, end = clock.times
    return (end - start) / (steps - WARM_UP), peak_memory()


def loop_step(shape: BertShape, precision: str, size: int, updates: int) -> float:
    """Seconds of an update of fairseq-train, in a process of its own."""
    dataset = made_up_pairs(shape.vocab_size, size * BATCHES)
    flags = f"""
        --user-dir ppa_fairseq --task ppa_alignment --arch ppa_bert --encoder-layers {shape.layers}
        --encoder-embed-dim {shape.dim} --encoder-ffn-embed-dim {shape.ffn_dim}
        --encoder-attention-heads {shape.heads} --max-positions {shape.max_positions} --token-types 2
        --layer-norm-eps 1e-12 --position-offset 0 --criterion ppa --queue-size {QUEUE} --optimizer fused_adamw
        --weight-decay {DECAY} --clip-norm {CLIP} --lr {RATE} --lr-scheduler fixed --batch-size {size} --seed 1
        --max-update {updates * 4} --num-workers 2 --no-save --disable-validation --log-format json
        --log-interval {updates}
    """
    flags += f" --{precision}" if precision != "fp32" else ""
    flags += "" if CUDA else " --cpu"
    times, log = [], []
    with tempfile.TemporaryDirectory() as folder:
        for language in ("de", "en"):
            dataset.dictionary.save(f"{folder}/dict.{language}.txt")
            builder = MMapIndexedDatasetBuilder(f"{folder}/train.de-en.{language}.bin", dtype=np.int32)
            for row in dataset.corpora[0].source if language == "de" else dataset.corpora[0].target:
                builder.add_item(row)
            builder.finalize(f"{folder}/train.de-en.{language}.idx")
        command = [sys.executable, "-c", "from fairseq_cli.train import cli_main; cli_main()", folder, *flags.split()]
        root = Path(__file__).resolve().parents[1]
        process = subprocess.Popen(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, cwd=root)
        for line in process.stdout:
            log.append(line)
            if " | train_inner | " in line:
                times.append(time.perf_counter())
        if process.wait():
            raise NotRunError(f"fairseq-train failed: {log[-1].strip()}")
    return float(np.median(np.diff(times))) / updates  # the first line has the warm-up


def padded_work(shape: BertShape, batch: dict) -> float:
    """The operations of InfoXLM's layout: batches padded to their longest, every layer on every position."""
    inputs, pairs = batch["net_input"], batch["nsentences"]
    lengths = inputs["query_input"]["lengths"]
    parts = [(lengths[:pairs], 3), (lengths[pairs:], 3), (inputs["key_input"]["lengths"], 1)]
    work = 0.0
    for part, passes in parts:
        longest, total = max(part), len(part) * max(part)
        layer = 2 * (4 * shape.dim**2 + 2 * shape.dim * shape.ffn_dim) + 4 * shape.dim * longest
        work += passes * shape.layers * layer * total
    head = 2 * len(batch["target"]) * shape.dim * (shape.vocab_size + shape.dim)
    projection = 2 * pairs * shape.dim * (shape.dim + 128)
    return work + 3 * head + 4 * projection + 2 * 2 * pairs * 128 * QUEUE


def peak_rate() -> tuple[float, str]:
    """The device's operations a second in dense bf16 products, and where the number is from."""
    name = torch.cuda.get_device_name() if CUDA else "this CPU"
    if known := next((peak for part, peak in PEAKS.items() if part in name), None):
        return known * 1e12, f"{name}, {known} TFLOP/s by its data sheet"
    size, dtype = (8192, torch.bfloat16) if CUDA else (1024, torch.float32)
    one = torch.randn(size, size, device=DEVICE, dtype=dtype)
    one @ one
    wait()
    start = time.perf_counter()
    for _ in range(5):
        one @ one
    wait()
    rate = 5 * 2 * size**3 / (time.perf_counter() - start)
    return rate, f"{name}, {rate / 1e12:.3g} TFLOP/s by a product of {size}×{size} in {str(dtype).split('.')[1]}"


class Table:
    """The rows, one after another: what runs, what does not and why."""

    def __init__(self, shape: BertShape, end: float):
        self.shape, self.end = shape, end
        self.peak, self.peak_source = peak_rate()
        self.rows: list[list[str]] = []
        self.left_out: list[str] = []
        self.rates: dict[str, float] = {}

    def add(self, name: str, batches: list[dict] | None, run: Callable[[], tuple[float, float]], pairs: int) -> None:
        """Run a row: *run* gives seconds for all *batches* (or for *pairs* without MFU) and MiB."""
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            if time.monotonic() > self.end:
                raise NotRunError("no time left; set --minutes higher")
            took, memory = run()
        except torch.OutOfMemoryError:
            self.left_out.append(f"{name}: out of memory")
        except NotRunError as error:
            self.left_out.append(f"{name}: {error}")
        except Exception as error:  # of a peer, whatever it is: the other rows are still worth their time
            self.left_out.append(f"{name}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        else:
            self.rates[name] = pairs / took
            work = sum(needed_work(self.shape, batch) for batch in batches) if batches else None
            share = f"{100 * work / took / self.peak:.1f} %" if work else ""
            self.rows.append([name, f"{pairs / took:,.0f}", share, "" if np.isnan(memory) else f"{memory:,.0f} MiB"])

    def print(self) -> None:
        print(markdown_table([["", "pairs/s", "MFU", "peak memory"], *self.rows]))
        print("\nnot run:" if self.left_out else "\nall rows ran")
        for line in self.left_out:
            print(f"- {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a tiny encoder and batches of 8: to see that it runs")
    parser.add_argument("--seconds", type=float, default=8, help="timed for each row, about (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=8, help="start no row after these (default: %(default)s)")
    args = parser.parse_args()
    sys.modules.setdefault("torchaudio", None)  # transformers imports it if it is installed, and it may not load
    repair_optimizers()
    end = time.monotonic() + 60 * args.minutes
    shape = SHAPES["tiny" if args.tiny else "mbert"]
    small, large = (8, 16) if args.tiny else (128, 512)
    seconds = 0.2 if args.tiny else args.seconds
    table = Table(shape, end)
    dataset = made_up_pairs(shape.vocab_size, large * BATCHES)
    # By length: one in BATCHES of the sorted batches, so that all lengths are there; of the same pairs, shuffled.
    batches = {size: make_batches(dataset, size, BATCHES) for size in (small, large)}
    contrastive = made_up_pairs(shape.vocab_size, large * BATCHES, tlm=False)
    no_tlm = make_batches(contrastive, small, BATCHES)["shuffled"]

    def row(name: str, size: int, order: str, make: Callable) -> None:
        made = batches[size][order]
        table.add(name, made, lambda: measure(make, made, seconds), size * BATCHES)

    for precision in ("bf16", "fp16", "amp", "fp32"):
        if CUDA or precision in ("bf16", "fp32"):
            row(f"ppa_fairseq, {precision}, {small} pairs", small, "shuffled", lambda p=precision: Ours(shape, p))
        else:
            table.left_out.append(f"ppa_fairseq, {precision}: needs a GPU")
    row(f"transformers, tuned, {small} pairs", small, "by length", lambda: Theirs(Tuned, shape, torch.bfloat16))
    row(f"ppa_fairseq, bf16, {large} pairs", large, "shuffled", lambda: Ours(shape, "bf16"))
    row(f"transformers, tuned, {large} pairs", large, "by length", lambda: Theirs(Tuned, shape, torch.bfloat16))
    row(f"transformers, plain, {small} pairs", small, "shuffled", lambda: Theirs(Plain, shape, torch.float32))
    settings = dict(negatives="in-batch", tlm_weight=0.0)
    table.add(
        f"ppa_fairseq, bf16, {small} pairs, in-batch, no TLM", None,
        lambda: measure(lambda: Ours(shape, "bf16", **settings), no_tlm, seconds), small * BATCHES,
    )  # fmt: skip
    steps = WARM_UP + (3 if args.tiny else 40)
    table.add(f"sentence-transformers, bf16, {small} pairs, in-batch, no TLM", None,
              lambda: sentence_transformers_step(shape, small, steps), small)  # fmt: skip
    updates = 2 if args.tiny else 40
    table.add(f"fairseq-train, bf16, {small} pairs", None,
              lambda: (loop_step(shape, "bf16", small, updates), float("nan")), small)  # fmt: skip
    if args.tiny:
        table.left_out.append("transformers, tuned, compiled: --tiny")
    else:
        for size in (small, large):
            row(f"transformers, tuned, compiled, {size} pairs", size, "by length",
                lambda: Theirs(Tuned, shape, torch.bfloat16, compiled=True))  # fmt: skip

    print(f"{shape.layers} layers of {shape.dim}, {shape.vocab_size:,} tokens; {table.peak_source}; torch "
          f"{torch.__version__}")  # fmt: skip
    counted = batches[small]["shuffled"]
    tokens = np.mean([np.mean(batch["net_input"]["query_input"]["lengths"][small:]) for batch in counted])
    needed, padded = (sum(count(shape, batch) for batch in counted) for count in (needed_work, padded_work))
    print(f"a pair has {tokens:.0f} tokens and needs {needed / small / BATCHES / 1e9:.1f} GFLOP; in InfoXLM's layout, "
          f"by count, {padded / needed:.2f} times as many\n")  # fmt: skip
    table.print()
    ratios = [
        (f"ppa_fairseq, bf16, {size} pairs", f"transformers, {kind}, {size} pairs")
        for size in (small, large)
        for kind in ("plain", "tuned", "tuned, compiled")
    ]
    same = f"bf16, {small} pairs"
    ratios.append((f"ppa_fairseq, {same}, in-batch, no TLM", f"sentence-transformers, {same}, in-batch, no TLM"))
    ratios.append((f"fairseq-train, {same}", f"ppa_fairseq, {same}"))
    print()
    for one, other in ratios:
        if one in table.rates and other in table.rates:
            print(f"{one}: {table.rates[one] / table.rates[other]:.2f} times {other}")


if __name__ == "__main__":
    main()
