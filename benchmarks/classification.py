"""Classifying sentence pairs against transformers: pairs a second from text to classes, in one run.

    python benchmarks/classification.py --model runs/quickstart/imported
    python benchmarks/classification.py --model runs/xnli-zero-shot/checkpoint_best.pt --data dev-en.tsv --pairs 512

Both sides have the same encoder, under its classification head or one random one, in fp32, and cut at 128 WordPieces;
logits must agree. transformers' side pads batches of 32: each to 128, as its example run_xnli.py does by default; each
to its longest; and each to its longest when the pairs of a turn are sorted by length, which the example does not do.
Without --data, sentences are the bundled sample's, put together until they are as long as those of MultiNLI (TaxiNLI).
"""

import argparse
import lzma
import sys
from pathlib import Path

import numpy as np
import torch
from finetuning import HYPOTHESIS, LABELS, PREMISE, draw_lengths
from prediction import PIECES_A_WORD, SAMPLE, exported, with_head
from turns import rows_of, take_turns

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD
from ppa_fairseq.data.nli.reader import read_nli
from ppa_fairseq.evaluation.classification.classifier import PairClassifier
from ppa_fairseq.modules.heads import ClassificationHead
from ppa_fairseq.utils.markdown import markdown_table

MAX_LENGTH, BATCH = 128, 32


def sample_pairs(count: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(1)
    with lzma.open(SAMPLE, "rt", encoding="utf-8") as file:
        words = [word for line in file for word in line.rstrip("\n").split("\t")[1].split()]

    def sentences(deciles):
        for length in draw_lengths(deciles, count, rng):
            first = rng.integers(len(words))
            yield " ".join(words[first : first + max(1, round(length / PIECES_A_WORD))])

    return list(zip(sentences(PREMISE), sentences(HYPOTHESIS), strict=True))


class TransformersLoop:
    """A plain loop over batches. *padding*: "max_length" or "longest"; *by_length*: sort the pairs first."""

    def __init__(self, folder: Path, padding: str, by_length: bool = False):
        sys.modules.setdefault("torchaudio", None)  # imported wherever it is installed, and it may not load
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.padding = padding
        self.by_length = by_length

    @torch.inference_mode()
    def logits(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        encoded = self.tokenizer(*map(list, zip(*pairs, strict=True)), truncation=True, max_length=MAX_LENGTH)
        order = range(len(pairs))
        if self.by_length:
            order = sorted(order, key=lambda row: -len(encoded["input_ids"][row]))
        logits = np.empty((len(pairs), self.model.config.num_labels), dtype=np.float32)
        for first in range(0, len(pairs), BATCH):
            rows = order[first : first + BATCH]
            batch = {name: [values[row] for row in rows] for name, values in encoded.items()}
            batch = self.tokenizer.pad(batch, padding=self.padding, max_length=MAX_LENGTH, return_tensors="pt")
            logits[rows] = self.model(**batch).logits.numpy()
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint, an import or a Hugging Face folder")
    parser.add_argument("--data", type=Path, help="NLI file of one language (default: made of the bundled sample)")
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=256, help="pairs that a side classifies at a turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.data:
        (examples,) = read_nli(args.data).values()
        pairs = [(example.premise, example.hypothesis) for example in examples[: args.pairs]]
    else:
        pairs = sample_pairs(args.pairs)

    model = checkpoint.read(args.model)
    model.labels = model.labels or LABELS
    head = ClassificationHead(model.shape.dim, len(model.labels), model.shape.dropout)
    model = with_head(model, CLASSIFICATION_HEAD, head)
    ways = {
        "to the full length": ("max_length",),
        "to the longest": ("longest",),
        "by length, to the longest": ("longest", True),
    }
    with exported(model) as folder:
        loops = {f"transformers, {name}": TransformersLoop(folder, *way) for name, way in ways.items()}
    classifier = PairClassifier(model, str(args.model), MAX_LENGTH, cpu=True)
    logits = {"ppa_fairseq": lambda pairs: classifier(*zip(*pairs, strict=True))}
    logits |= {name: loop.logits for name, loop in loops.items()}
    ours, *theirs = (side(pairs[:BATCH]) for side in logits.values())
    assert all(np.abs(ours - other).max() < 1e-4 for other in theirs), "logits differ"

    sides = {name: lambda chunk, side=side: side(chunk).argmax(1).tolist() for name, side in logits.items()}
    rows = rows_of(*take_turns(sides, pairs, args.chunk), "pairs")
    print(f"{len(pairs)} pairs, {model.shape.layers} layers of {model.shape.dim}, {args.threads} threads, fp32\n")
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
