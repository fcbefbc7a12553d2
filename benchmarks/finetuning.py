"""Time fine-tuning against transformers: examples a second in the same training steps.

    python benchmarks/finetuning.py --task xnli
    python benchmarks/finetuning.py --task mlqa --shape mbert --rounds 4

Both sides train the same random encoder on the same batches: fp32, dropout 0.1, clipping, fused AdamW, the same number
of threads. They take turns at every step, so that noise of the machine affects both. transformers pads a batch to its
longest sequence. Its examples train on `shuffled` batches, fairseq-train on batches `by length`. Sequences are random
tokens with the lengths of MultiNLI's (TaxiNLI) or TyDiQA-GoldP's English training examples, because only lengths matter
for the time. Without dropout the losses must agree.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from fairseq.data import ListDataset
from tqdm import tqdm

from ppa_fairseq.checkpoints import huggingface
from ppa_fairseq.checkpoints.weights import Checkpoint
from ppa_fairseq.criterions.span_prediction import SpanPredictionCriterion
from ppa_fairseq.data.classification.dataset import ClassificationCorpus, ClassificationDataset
from ppa_fairseq.data.qa.dataset import QACorpus, QADataset
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.models.finetuned import ClassifierConfig, FinetunedConfig, PPAClassifier, PPAReader
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.optim.fused_adamw import FusedAdamW
from ppa_fairseq.utils.markdown import markdown_table

SHAPES = {
    "standin": BertShape(vocab_size=41_060, layers=8, dim=384, ffn_dim=1536, heads=12),
    "mbert": BertShape(),
    "tiny": BertShape(vocab_size=500, layers=2, dim=32, ffn_dim=64, heads=2),
}
LABELS = ["entailment", "neutral", "contradiction"]
# Deciles of lengths in tokens of mBERT's vocabulary, from the smallest to the largest.
PREMISE = [2, 9, 14, 17, 21, 25, 30, 35, 41, 52, 232]
HYPOTHESIS = [2, 8, 9, 11, 12, 13, 15, 16, 18, 21, 62]
QUESTION = [4, 7, 7, 8, 9, 9, 10, 11, 12, 14, 35]
CONTEXT = [9, 60, 82, 98, 115, 133, 151, 172, 201, 251, 800]
RATE = 5e-5


@dataclass
class Side:
    """`step` trains on a batch; `loss` computes its loss without an update."""

    name: str
    step: callable
    loss: callable
    module: torch.nn.Module


def draw_lengths(deciles: list[int], count: int, rng: np.random.Generator) -> np.ndarray:
    return np.interp(rng.random(count), np.linspace(0, 1, len(deciles)), deciles).astype(int)


def make_dataset(task: str, shape: BertShape, count: int, rng: np.random.Generator):
    dictionary = SimpleNamespace(bos=lambda: 2, eos=lambda: 3, between=[], second_type=1)

    def rows(deciles):
        lengths = draw_lengths(deciles, count, rng)
        tokens = [torch.from_numpy(np.append(rng.integers(4, shape.vocab_size, length), 3)) for length in lengths]
        return ListDataset(tokens, lengths + 1)

    if task == "xnli":
        corpus = ClassificationCorpus("en", (rows(PREMISE), rows(HYPOTHESIS)), rng.integers(0, len(LABELS), count))
        return ClassificationDataset([corpus], [0], ["en"], PairLayout(dictionary, 128), seed=1)
    question, context = rows(QUESTION), rows(CONTEXT)
    first = (rng.random(count) * (context.sizes - 5)).astype(int)
    answer = np.stack([first, first + rng.integers(0, 4, count)], axis=1)
    corpus = QACorpus("en", question, context, answer, np.arange(count))
    return QADataset([corpus], [0], ["en"], PairLayout(dictionary, 384), 128, seed=1)


def make_batches(dataset, order: str, size: int, count: int, rng: np.random.Generator) -> list[dict]:
    indices = dataset.ordered_indices() if order == "by length" else rng.permutation(len(dataset))
    batches = [batch for batch in dataset.batch_by_size(indices, max_sentences=size) if len(batch) == size]
    chosen = rng.permutation(len(batches))[:count]
    return [dataset.collater([dataset[int(index)] for index in batches[number]]) for number in chosen]


def our_side(task: str, shape: BertShape) -> Side:
    torch.manual_seed(1)
    if task == "xnli":
        model = PPAClassifier(ClassifierConfig(), shape, None, LABELS)
    else:
        model = PPAReader(FinetunedConfig(), shape, None)
    settings = SimpleNamespace(adam_betas=(0.9, 0.999), adam_eps=1e-8, weight_decay=0.01, lr=[RATE])
    optimizer = FusedAdamW(settings, list(model.parameters()))
    criterion = SpanPredictionCriterion(None, None)

    def loss(batch):
        if task == "mlqa":
            return criterion(model, batch)[0] / batch["nsentences"]
        return torch.nn.functional.cross_entropy(model(**batch["net_input"])[0], batch["target"])

    def step(batch):
        loss(batch).backward()
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()

    return Side("ppa_fairseq", step, loss, model)


def their_side(task: str, ours: Side) -> Side:
    """The same weights in transformers."""
    sys.modules.setdefault("torchaudio", None)  # transformers imports it if it is installed, and it may not load
    import transformers

    state = {name: weight.clone() for name, weight in ours.module.state_dict().items()}
    checkpoint = Checkpoint(ours.module.encoder.cfg, state, {}, labels=LABELS if task == "xnli" else None)
    config = transformers.BertConfig(**huggingface.to_config(checkpoint))
    kind = "SequenceClassification" if task == "xnli" else "QuestionAnswering"
    model = getattr(transformers, f"BertFor{kind}")(config)
    missing = model.load_state_dict(huggingface.to_tensors(checkpoint), strict=False).missing_keys
    assert not missing, missing
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, fused=True)

    def loss(batch):
        return model(**padded(batch, task)).loss

    def step(batch):
        loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return Side("transformers", step, loss, model)


def padded(batch: dict, task: str) -> dict:
    """The batch as arguments of a transformers model."""
    packed = batch["net_input"]
    real = torch.arange(packed["max_length"]) < torch.tensor(packed["lengths"])[:, None]  # (N, L)
    inputs = {"attention_mask": real.long()}
    for theirs, ours in (("input_ids", "tokens"), ("token_type_ids", "token_types")):
        inputs[theirs] = torch.zeros(real.shape, dtype=torch.int64).masked_scatter(real, packed[ours])
    if task == "xnli":
        return inputs | {"labels": batch["target"]}
    start, end = batch["target"].unbind(1)
    return inputs | {"start_positions": start, "end_positions": end}


def check_losses(sides: list[Side], dataset, batch: dict) -> None:
    """Check that our loss of the packed batch is the mean of theirs over its sequences one by one.

    Without dropout, and with every token as a possible answer, as theirs; alone, because theirs counts padding, too.
    """
    ours, theirs = sides
    batch = batch | {"choices": torch.ones_like(batch["net_input"]["tokens"], dtype=torch.bool)}
    alone = [dataset.collater([dataset[index]]) for index in batch["id"].tolist()]
    for side in sides:
        side.module.eval()
    with torch.no_grad():
        losses = ours.loss(batch).item(), np.mean([theirs.loss(sequence).item() for sequence in alone])
    for side in sides:
        side.module.train()
    assert abs(losses[1] - losses[0]) < 1e-5, losses


def measure(task: str, shape: BertShape, order: str, args: argparse.Namespace) -> list[str]:
    """Make one row of the table."""
    rng = np.random.default_rng(1)
    np.random.seed(1)  # fairseq's datasets shuffle by it
    dataset = make_dataset(task, shape, 64 * args.batch_size, rng)
    batches = make_batches(dataset, order, args.batch_size, args.rounds + 2, rng)
    ours = our_side(task, shape)
    sides = [ours, their_side(task, ours)]
    check_losses(sides, dataset, batches[0])
    seconds = {side.name: [] for side in sides}
    for batch in tqdm(batches, desc=f"{task}, {order}", unit="step"):
        for side in sides:
            start = time.perf_counter()
            side.step(batch)
            seconds[side.name].append(time.perf_counter() - start)
    ours, theirs = (np.array(seconds[side.name][2:]) for side in sides)  # the first two warm up
    padding = np.mean([1 - b["ntokens"] / (b["net_input"]["max_length"] * args.batch_size) for b in batches[2:]])
    ratios = theirs / ours
    low, high = np.percentile(ratios, [10, 90])
    size = args.batch_size * len(ours)
    return [
        f"{task}, {order}",
        f"{100 * padding:.0f} %",
        f"{size / ours.sum():.1f}",
        f"{size / theirs.sum():.1f}",
        f"**{theirs.sum() / ours.sum():.2f}×**",
        f"{low:.2f} – {high:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=["xnli", "mlqa"], default=["xnli", "mlqa"])
    parser.add_argument("--shape", choices=SHAPES, default="standin")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=12, help="timed steps of each side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    head = ["batches", "padding in theirs", "ppa_fairseq", "transformers", "ratio", "10th – 90th percentile"]
    rows = [measure(task, SHAPES[args.shape], order, args) for task in args.task for order in ("shuffled", "by length")]
    print(f"{args.shape}: examples (mlqa: windows) a second, batch {args.batch_size}, {args.threads} threads, fp32\n")
    print(markdown_table([head, *rows]))


if __name__ == "__main__":
    main()
