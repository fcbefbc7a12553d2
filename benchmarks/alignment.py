"""Time a step of alignment against transformers: pairs a second, memory, share of the machine's matrix products.

    python benchmarks/alignment.py --tokenizer runs/quickstart/imported
    python benchmarks/alignment.py --tokenizer imported/mbert --shape mbert --rounds 2 --one-by-one --peers lora

All sides train on the same pairs of the bundled sample, with the vocabulary of --tokenizer (an imported encoder, or any
folder with a tokenizer), with the same random weights, dropout, clipping and learning rate, in fp32, or with
`--precision bf16` in bfloat16 matrix products (autocast for transformers), our own fp32 step beside them:

    ppa_fairseq           model, criterion, --optimizer fused_adamw, momentum encoder and queue of a training
    transformers, plain   a first version: shuffled batches, two query forwards, logits at every position, a loop over
                          the weights for the momentum, torch's default AdamW
    transformers, tuned   an expert's version: batches by length, SDPA, the MLM head at masked positions only, fused
                          AdamW, one call for the momentum
    lora                  ppa_fairseq with --lora-rank 8

Each side runs in its own process, and the sides take turns at every step, so that noise of the machine affects all of
them. Memory is the peak resident size of a process during training, minus its size after all imports (Linux only). The
last column is the work that a step needs (`needed_work`) divided by its time, relative to fp32 matrix products of the
encoder's shapes, which are timed at every turn. Without dropout the losses must agree.
"""

import argparse
import copy
import dataclasses
import gc
import lzma
import multiprocessing
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.data import ListDataset
from finetuning import SHAPES
from tqdm import tqdm

from ppa_fairseq.checkpoints import huggingface
from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files
from ppa_fairseq.checkpoints.weights import Checkpoint
from ppa_fairseq.criterions.ppa import PPACriterion, PPACriterionConfig
from ppa_fairseq.data.bitext.dataset import AlignmentDataset, ParallelCorpus
from ppa_fairseq.data.bitext.masking import MaskingScheme
from ppa_fairseq.data.bitext.micro_batches import micro_batches
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.fairseq_compat.trainer import TRIM_INTERVAL
from ppa_fairseq.models.ppa import PPAModel, PPAModelConfig
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.modules.cpu import has_bf16_instructions, return_freed
from ppa_fairseq.optim.fused_adamw import FusedAdamW
from ppa_fairseq.tasks.ppa_alignment import CPU_TOKENS_AT_ONCE, LORA_TOKENS_AT_ONCE
from ppa_fairseq.utils.markdown import markdown_table

SAMPLE = Path(__file__).resolve().parents[1] / "sample"
MAX_LENGTH = 128  # of both sentences together, as in preparation


def sample_dataset(folder: Path, pairs_a_language: int) -> AlignmentDataset:
    """The first pairs of every language of the bundled sample, tokenized with the tokenizer in *folder*."""
    tokenizer = ModelTokenizer(read_files(folder), str(folder))
    encode = tokenizer.backend.encode_batch_fast
    dictionary = WordPieceDictionary.of(tokenizer)
    corpora = []
    for number, path in enumerate(sorted(SAMPLE.glob("*.train.tsv.xz"))):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            lines = [line.rstrip("\n").split("\t")[:2] for line, _ in zip(file, range(pairs_a_language), strict=False)]
        sides = [encode(list(side), add_special_tokens=False) for side in zip(*lines, strict=True)]
        rows = [[[*one.ids, dictionary.eos()] for one in side] for side in sides]
        kept = [pair for pair in zip(*rows, strict=True) if sum(map(len, pair)) < MAX_LENGTH]
        source, target = (
            ListDataset([torch.tensor(row) for row in side], np.array(list(map(len, side))))
            for side in zip(*kept, strict=True)
        )
        corpora.append(ParallelCorpus(number, *path.name.split(".")[0].split("-"), source, target))
    return AlignmentDataset(corpora, dictionary, MaskingScheme.for_dictionary(dictionary, 0.15), seed=1)


def make_batches(dataset: AlignmentDataset, size: int, count: int) -> dict[str, list[dict]]:
    """Make *count* batches of *size* pairs by length, at even steps through all lengths; and shuffle the same pairs."""
    np.random.seed(1)  # the dataset shuffles by it
    by_length = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=size)
    at = (np.arange(count) + 0.5) / count * (len(by_length) - 1)
    chosen = [by_length[int(place)] for place in np.random.permutation(at)]
    shuffled = np.random.permutation(np.concatenate(chosen)).reshape(count, size)
    return {
        order: [dataset.collater([dataset[int(index)] for index in batch]) for batch in batches]
        for order, batches in (("by length", chosen), ("shuffled", shuffled))
    }


RATE, DECAY, MOMENTUM, TEMPERATURE, CLIP = 3e-5, 0.01, 0.999, 0.05, 1.0
QUEUE = 32_000


class Ours:
    """The model, criterion and optimizer of a training with ``--optimizer fused_adamw``."""

    def __init__(self, shape: BertShape, queue_size: int = QUEUE, precision: str = "fp32", **flags):
        self.set_up(our_model(shape, queue_size, **flags), precision)

    def set_up(self, model: PPAModel, precision: str = "fp32") -> None:
        self.model = model
        self.model.cfg.cpu_precision = precision
        settings = SimpleNamespace(adam_betas=(0.9, 0.999), adam_eps=1e-8, weight_decay=DECAY, lr=[RATE])
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = FusedAdamW(settings, weights)
        self.criterion = PPACriterion(PPACriterionConfig(temperature=TEMPERATURE), None)

    def loss(self, batch: dict) -> torch.Tensor:
        """Mean over pairs."""
        loss, pairs, _ = self.criterion(self.model, batch)
        return loss / pairs

    def step(self, batch: dict) -> None:
        self.criterion.train()
        *parts, last = micro_batches(batch, LORA_TOKENS_AT_ONCE if self.model.cfg.lora_rank else CPU_TOKENS_AT_ONCE)
        for part in parts:
            self.criterion(self.model, part)[0].backward()
            return_freed()
        self.criterion(self.model, last)[0].backward()
        self.optimizer.multiply_grads(1 / batch["nsentences"])
        self.optimizer.clip_grad_norm(CLIP)
        self.optimizer.step()
        self.model.update_succeeded()
        self.optimizer.zero_grad()

    def train(self, mode: bool) -> None:
        self.model.train(mode)


def our_model(shape: BertShape, queue_size: int, **settings) -> PPAModel:
    """A random PPA model with a full queue of random keys."""
    torch.manual_seed(1)
    others = dict(contrastive_weight=1.0, tlm_weight=1.0, negatives="queue", tlm_language_embeddings=False) | settings
    cfg = PPAModelConfig(queue_size=queue_size, momentum=MOMENTUM, **others)
    model = PPAModel(cfg, shape, None, num_languages=0)
    if model.queue is None:
        return model
    torch.manual_seed(2)  # adapters draw numbers, too
    model.queue.keys.copy_(F.normalize(torch.randn(model.queue.keys.shape), dim=-1))
    model.queue.filled.fill_(queue_size)
    return model


class Transformers:
    """What plain and tuned share: a `BertForMaskedLM`, a projection head, their momentum copies and a queue.

    They differ in `masked_loss`, of TLM, and in `follow`, which updates the momentum copies.
    """

    attention: str
    fused: bool | None

    def __init__(self, shape: BertShape, queue_size: int, precision: str = "fp32"):
        from transformers import BertConfig, BertForMaskedLM

        self.precision = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        ours = our_model(shape, queue_size)
        parts = {f"{name}.{key}": value for name in ("encoder", "lm_head")
                 for key, value in getattr(ours, name).state_dict().items()}  # fmt: skip
        checkpoint = Checkpoint(shape, parts, {})
        config = BertConfig(**huggingface.to_config(checkpoint), attn_implementation=self.attention)
        self.model = BertForMaskedLM(config)
        missing = self.model.load_state_dict(huggingface.to_tensors(checkpoint), strict=False).missing_keys
        assert set(missing) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}, missing
        self.model.tie_weights()
        self.set_up(ours)

    def set_up(self, ours: PPAModel) -> None:
        """Take projection head and queue from ours; make the momentum copies and the optimizer."""
        self.projection = torch.nn.Sequential(ours.projection.fc1, torch.nn.ReLU(), ours.projection.fc2)
        self.key_encoder = copy.deepcopy(self.model.base_model).requires_grad_(False).eval()
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)
        self.queue, self.place = ours.queue.keys, 0
        self.followed = [*self.model.base_model.parameters(), *self.projection.parameters()]
        self.following = [*self.key_encoder.parameters(), *self.key_projection.parameters()]
        self.weights = [*self.model.parameters(), *self.projection.parameters()]
        self.optimizer = torch.optim.AdamW(self.weights, lr=RATE, weight_decay=DECAY, fused=self.fused)

    def sentences(self, encoder, projection, packed: dict) -> torch.Tensor:
        with self.precision:
            first = encoder(**self.padded(packed)).last_hidden_state[:, 0]  # (N, C)
            return F.normalize(projection(first).float(), dim=-1)

    def loss(self, batch: dict) -> torch.Tensor:
        return self.loss_and_key(batch)[0]

    def loss_and_key(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        pairs, inputs = batch["nsentences"], batch["net_input"]
        if "parts" not in batch:  # once: a careful user does this, and what it waits for, in the data loader
            batch["parts"] = *split(inputs["query_input"], pairs), dict(inputs["key_input"])
        queries, tlm, keys = batch["parts"]
        query = self.sentences(self.model.base_model, self.projection, queries)
        with torch.no_grad():
            key = self.sentences(self.key_encoder, self.key_projection, keys)
        positive, negative = (query * key).sum(-1, keepdim=True), query @ self.queue.T
        logits = torch.cat([positive, negative], dim=1) / TEMPERATURE
        contrastive = F.cross_entropy(logits, torch.zeros(pairs, dtype=torch.int64, device=logits.device))
        masked = inputs["masked"] - len(queries["tokens"])
        with self.precision:
            return contrastive + self.masked_loss(tlm, masked, batch["target"]), key

    def step(self, batch: dict) -> None:
        loss, key = self.loss_and_key(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            self.follow()
            slots = (self.place + torch.arange(len(key), device=key.device)) % len(self.queue)
            self.queue[slots] = key.float()
        self.place += len(key)

    def padded(self, packed: dict) -> dict:
        return padded(packed)

    def train(self, mode: bool) -> None:
        self.model.train(mode)


class Plain(Transformers):
    """A first version: logits at every position, and a loop over the weights for the momentum."""

    attention, fused = "eager", None

    def masked_loss(self, packed: dict, masked: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        real = places(packed)
        labels = torch.full_like(packed["tokens"], -100).index_copy(0, masked, target)
        labels = torch.full_like(real, -100, dtype=torch.int64).masked_scatter(real, labels)
        return self.model(**self.padded(packed), labels=labels).loss

    def follow(self) -> None:
        for followed, following in zip(self.followed, self.following, strict=True):
            following.data = MOMENTUM * following.data + (1 - MOMENTUM) * followed.data


class Tuned(Transformers):
    """An expert's version: SDPA, the head at masked positions only, fused AdamW, one call for the momentum."""

    attention, fused = "sdpa", True

    def masked_loss(self, packed: dict, masked: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        hidden = self.model.base_model(**self.padded(packed)).last_hidden_state  # (N, L, C)
        if "slots" not in packed:
            packed["slots"] = places(packed).flatten().nonzero().squeeze(1)  # (T,)
        return F.cross_entropy(self.model.cls(hidden.flatten(0, 1)[packed["slots"][masked]]).float(), target)

    def follow(self) -> None:
        torch._foreach_lerp_(self.following, self.followed, 1 - MOMENTUM)


def split(packed: dict, count: int) -> tuple[dict, dict]:
    """Split a packed batch after *count* sequences."""
    total = sum(packed["lengths"][:count])
    parts = []
    for tokens, sequences in ((slice(0, total), slice(0, count)), (slice(total, None), slice(count, None))):
        part = {name: packed[name][tokens] for name in ("tokens", "token_types")}
        parts.append(part | {"lengths": packed["lengths"][sequences]})
    return tuple(parts)


def places(packed: dict) -> torch.Tensor:
    """Which positions of the padded sequences hold tokens, (N, L)."""
    device, longest = packed["tokens"].device, max(packed["lengths"])
    return torch.arange(longest, device=device) < torch.tensor(packed["lengths"], device=device)[:, None]


def padded(packed: dict) -> dict:
    """The arguments of a transformers model: padded sequences, kept in *packed*."""
    if "padded" in packed:
        return packed["padded"]
    real = places(packed)
    inputs = packed["padded"] = {"attention_mask": real.long()}
    for theirs, ours in (("input_ids", "tokens"), ("token_type_ids", "token_types")):
        inputs[theirs] = torch.zeros_like(real, dtype=torch.int64).masked_scatter(real, packed[ours])
    return inputs


OURS, PLAIN, TUNED, OURS_FP32 = "ppa_fairseq", "transformers, plain", "transformers, tuned", "ppa_fairseq in fp32"
LORA = "lora"
SIDES = {OURS: Ours, PLAIN: Plain, TUNED: Tuned, LORA: partial(Ours, lora_rank=8), OURS_FP32: Ours}
ROWS = [(OURS, "shuffled"), (PLAIN, "shuffled"), (LORA, "shuffled")]
ROWS += [(OURS, "by length"), (TUNED, "by length"), (OURS_FP32, "by length")]
WARM_UP = 1  # steps of each side and order
STATUS = Path("/proc/self/status")


class Side:
    """A side in its own process, which runs :func:`serve` with these arguments and answers through a pipe."""

    def __init__(self, name: str, *arguments):
        context = multiprocessing.get_context("spawn")
        self.name, (self.pipe, theirs) = name, context.Pipe()
        context.Process(target=serve, args=(theirs, name, *arguments), daemon=True).start()
        del theirs  # only the other process holds it now, so the pipe closes when that process ends
        self.answer()  # built

    def ask(self, *question):
        self.pipe.send(question)
        return self.answer()

    def answer(self):
        try:
            return self.pipe.recv()
        except EOFError:
            raise SystemExit(
                f"{self.name}: the process ended early; if memory ran out, --one-by-one needs less"
            ) from None


def serve(
    pipe, name: str, shape: BertShape, queue_size: int, precision: str, batches: dict, threads: int, clock: Callable
) -> None:
    """Answer ("step", order, number) with seconds, ("loss",) with the first batch's loss, ("memory",) with MiB."""
    sys.modules.setdefault("torchaudio", None)  # transformers imports it if it is installed, and it may not load
    torch.set_num_threads(threads)
    if name.startswith("transformers"):
        import transformers.models.bert.modeling_bert  # noqa: F401
    if name == LORA:
        import peft  # noqa: F401
    before = status("VmRSS")
    side = SIDES[name](shape, queue_size, "fp32" if name == OURS_FP32 else precision)
    side.train(True)
    gc.collect()
    return_freed()
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    pipe.send("built")
    steps = 0
    while True:
        kind, *what = pipe.recv()
        if kind == "step":
            order, number = what
            start, steps = clock(), steps + 1
            side.step(batches[order][number])
            if not name.startswith("transformers") and steps % TRIM_INTERVAL == 0:
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
    """A size of this process in MiB; NaN without /proc."""
    if not STATUS.exists():
        return float("nan")
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(name)) / 1024


def needed_work(shape: BertShape, batch: dict, queue_size: int = QUEUE) -> float:
    """Count the floating-point operations that a step needs, all of them in matrix products.

    Every token passes every layer. In the last layer, only [CLS] and masked tokens need more than their key and value.
    The backward pass of queries and TLM costs twice the forward pass; keys have none.
    """
    inputs, pairs = batch["net_input"], batch["nsentences"]
    queries, keys, masked = inputs["query_input"], inputs["key_input"], len(batch["target"])
    layer = 2 * (4 * shape.dim**2 + 2 * shape.dim * shape.ffn_dim)  # for each token
    key_value = 2 * 2 * shape.dim**2

    def encoder(packed: dict, read: int) -> float:
        lengths = np.array(packed["lengths"], dtype=float)
        attention = 4 * shape.dim * ((lengths**2).sum() * (shape.layers - 1) + read * lengths.mean())
        total = lengths.sum()
        return layer * (shape.layers - 1) * total + key_value * total + (layer - key_value) * read + attention

    projection = 2 * pairs * shape.dim * (shape.dim + 128)
    trained = encoder(queries, pairs + masked) + projection + 2 * masked * shape.dim * (shape.vocab_size + shape.dim)
    return 3 * trained + encoder(keys, pairs) + projection + 2 * 2 * pairs * 128 * queue_size


def matrix_product_rate(shape: BertShape, tokens: int, clock: Callable, dtype: torch.dtype) -> float:
    """Floating-point operations a second in the matrix products of a feed-forward layer, forward and backward."""
    hidden, wide = torch.randn(tokens, shape.dim).to(dtype), torch.randn(tokens, shape.ffn_dim).to(dtype)
    weight, product = torch.randn(shape.ffn_dim, shape.dim).to(dtype), torch.ones(tokens, shape.ffn_dim, dtype=dtype)
    start = clock()
    for _ in range(2):
        torch.mm(hidden, weight.T, out=product)
        torch.mm(wide, weight, out=hidden)
        torch.mm(wide.T, hidden, out=weight)
    return 6 * 2 * tokens * shape.dim * shape.ffn_dim / (clock() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with the vocabulary")
    parser.add_argument("--shape", choices=SHAPES, default="standin", help="all sizes except the vocabulary's")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=16, help="timed steps of each row")
    parser.add_argument("--queue-size", type=int, default=QUEUE)
    parser.add_argument("--peers", nargs="*", choices=[PLAIN, TUNED, LORA], default=[PLAIN, TUNED])
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of matrix products")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--attention-dropout", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--processor-time", action="store_true", help="measure processor time, for one thread on a busy machine"
    )
    parser.add_argument(
        "--one-by-one", action="store_true", help="run one side after the other: less memory, no turns"
    )
    args = parser.parse_args()
    clock = time.process_time if args.processor_time else time.perf_counter
    torch.set_num_threads(args.threads)

    if args.precision == "bf16" and not has_bf16_instructions():
        raise SystemExit("--precision bf16: this CPU has neither AVX512-BF16 nor AMX; there is nothing to measure")
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    count = args.rounds + WARM_UP
    dataset = sample_dataset(args.tokenizer, pairs_a_language=500)
    batches = make_batches(dataset, args.batch_size, count)
    drop = {"dropout": args.dropout, "attention_dropout": args.attention_dropout}
    shape = dataclasses.replace(SHAPES[args.shape], vocab_size=len(dataset.masking.maskable), **drop)
    peers = [*args.peers, OURS_FP32] if args.precision == "bf16" else args.peers
    names = [OURS, *peers]
    orders = {order for name, order in ROWS if name in peers} or {"shuffled"}
    rows = [(name, order) for name, order in ROWS if name in names and order in orders]
    seconds, losses, memory, rates = {row: [] for row in rows}, {}, {}, []
    for together in [[name] for name in names] if args.one_by_one else [names]:
        given = (shape, args.queue_size, args.precision, batches, args.threads, clock)
        sides = {name: Side(name, *given) for name in together}
        losses |= {name: side.ask("loss") for name, side in sides.items()}
        for number in tqdm(range(count), unit="turn"):
            for name, order in rows:
                if name in sides:
                    seconds[name, order].append(sides[name].ask("step", order, number))
            rates.append(matrix_product_rate(shape, batches["shuffled"][number]["ntokens"], clock, dtype))
        memory |= {name: side.ask("memory") for name, side in sides.items()}
    tolerance = 1e-3 if args.precision == "fp32" else 0.1
    assert max(losses.values()) - min(losses.values()) < tolerance, losses
    seconds = {row: np.array(times[WARM_UP:]) for row, times in seconds.items()}

    head = ["", "pairs a second", "ours is faster by", "10th – 90th percentile", "peak memory", "of the matrix product"]
    table = [head]
    rate = np.median(rates)
    for (name, order), took in seconds.items():
        part = batches[order][WARM_UP:]
        work = np.array([needed_work(shape, batch, args.queue_size) for batch in part])
        ratios = took / seconds[OURS, order]
        weight = seconds[OURS, order] / seconds[OURS, order].sum()
        low, high = np.percentile(ratios, [10, 90])
        table.append([
            f"{name}, {order}",
            f"{args.batch_size * len(took) / took.sum():.2f}",
            f"**{(ratios * weight).sum():.2f}×**" if name != OURS else "",
            f"{low:.2f} – {high:.2f}" if name != OURS else "",
            f"{memory[name]:,.0f} MiB",
            f"{100 * work.sum() / took.sum() / rate:.0f} %" if name != LORA else "",  # which needs less work
        ])  # fmt: skip
    counted = ", processor time" if args.processor_time else ""
    print(f"{args.shape}: {shape.layers} layers of {shape.dim}, {shape.vocab_size:,} tokens, batches of "
          f"{args.batch_size} pairs, dropout {args.dropout}, of attention {args.attention_dropout}, {args.threads} "
          f"threads{counted}, {args.precision}; matrix product {rate / 1e9:.0f} GFLOP/s")  # fmt: skip
    for order, made in batches.items():
        needed = np.mean([needed_work(shape, batch, args.queue_size) for batch in made[WARM_UP:]]) / args.batch_size
        print(f"{order}: a pair needs {needed / 1e9:.2f} GFLOP; the limit is {rate / needed:.1f} pairs a second")
    print()
    print(markdown_table(table))


if __name__ == "__main__":
    main()
