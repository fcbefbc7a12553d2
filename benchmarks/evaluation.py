"""Time our evaluation against transformers: question answering and sentence-pair classification, from text to answers.

    python benchmarks/evaluation.py questions --model runs/quickstart/imported
    python benchmarks/evaluation.py pairs --model runs/xnli-zero-shot/checkpoint_best.pt --data dev-en.tsv

All sides have the same encoder, in fp32, with its own head or the same random one, and take turns, so that noise of
the machine affects all of them. For questions, transformers follows its example run_qa.py: windows of 384 tokens that
share 128, batches of 8 in the order of the file, the 20 best starts with the 20 best ends. Answers of a random head can
differ in near ties, because ours compares all spans. For pairs, transformers takes batches of 32 with at most 128
tokens, and the logits must agree. transformers pads to the full length (its examples' default), to the longest sequence
of a batch, or, for pairs, to the longest after sorting by length. Without --data, the text is the bundled sample's,
with the lengths of TyDiQA-GoldP's English contexts or MultiNLI's pairs.
"""

import argparse
import lzma
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from finetuning import CONTEXT, HYPOTHESIS, LABELS, PREMISE, draw_lengths
from tqdm import tqdm

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, SPAN_HEAD, Checkpoint, part
from ppa_fairseq.commands.main import main as ppa
from ppa_fairseq.data.nli.files import find_nli
from ppa_fairseq.data.qa.squad import Question, read_squad
from ppa_fairseq.evaluation.classification.classifier import PairClassifier
from ppa_fairseq.evaluation.question_answering.answerer import QuestionAnswerer
from ppa_fairseq.modules.bert import init_bert_params
from ppa_fairseq.modules.heads import ClassificationHead, SpanHead
from ppa_fairseq.utils.markdown import markdown_table

SAMPLE = Path(__file__).resolve().parents[1] / "sample" / "de-en.train.tsv.xz"
WINDOW, STRIDE, ANSWER, N_BEST, QUESTION_BATCH = 384, 128, 30, 20, 8
PAIR_LENGTH, PAIR_BATCH = 128, 32
TOKENS_A_WORD = 1.4  # in the sample's English, about
Side = Callable[[Sequence], list]


def take_turns(sides: dict[str, Side], work: Sequence, chunk: int) -> tuple[dict[str, float], dict[str, list]]:
    """Run all sides on *work*, in turns of *chunk* items; returns seconds and answers of each side.

    A first turn of a few items warms every side up and does not count.
    """
    for side in sides.values():
        side(work[:2])
    seconds, answers = dict.fromkeys(sides, 0.0), {name: [] for name in sides}
    for first in tqdm(range(0, len(work), chunk), unit="chunk"):
        for name, side in sides.items():
            start = time.perf_counter()
            answers[name] += side(work[first : first + chunk])
            seconds[name] += time.perf_counter() - start
    return seconds, answers


def draw_texts(deciles: list[int], count: int, rng: np.random.Generator) -> list[str]:
    """Texts from the sample, with lengths in tokens drawn by their deciles."""
    with lzma.open(SAMPLE, "rt", encoding="utf-8") as file:
        words = [word for line in file for word in line.rstrip("\n").split("\t")[1].split()]
    counts = [max(1, round(length / TOKENS_A_WORD)) for length in draw_lengths(deciles, count, rng)]
    firsts = rng.integers(len(words) - max(counts), size=count)
    return [" ".join(words[first : first + count]) for first, count in zip(firsts, counts, strict=True)]


def sample_questions(count: int) -> list[Question]:
    rng = np.random.default_rng(1)
    texts = zip(draw_texts(HYPOTHESIS, count, rng), draw_texts(CONTEXT, count, rng), strict=True)
    return [Question(f"q{n}", asked, text, ((text[:3], 0),), "sample") for n, (asked, text) in enumerate(texts)]


def sample_pairs(count: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(1)
    return list(zip(draw_texts(PREMISE, count, rng), draw_texts(HYPOTHESIS, count, rng), strict=True))


class Peer:
    """A transformers model with its tokenizer. *padding*: "max_length" or "longest"."""

    def __init__(self, folder: Path, kind: str, padding: str, length: int):
        sys.modules.setdefault("torchaudio", None)  # transformers imports it if it is installed, and it may not load
        import transformers

        self.model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.padding, self.length = padding, length

    def run(self, encoded, rows: Sequence[int]):
        batch = {name: [values[row] for row in rows] for name, values in encoded.items()}
        batch = self.tokenizer.pad(batch, padding=self.padding, max_length=self.length, return_tensors="pt")
        with torch.inference_mode():
            return self.model(**batch)


class Reader(Peer):
    """run_qa.py's way from questions to answers."""

    def __init__(self, folder: Path, padding: str):
        super().__init__(folder, "QuestionAnswering", padding, WINDOW)

    def __call__(self, questions: list[Question]) -> list[str]:
        windows = self.tokenizer(
            [question.question for question in questions],
            [question.context for question in questions],
            truncation="only_second",
            max_length=WINDOW,
            stride=STRIDE,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        offsets, owner = windows.pop("offset_mapping"), windows.pop("overflow_to_sample_mapping")
        best = [(-np.inf, "")] * len(questions)
        for first in range(0, len(owner), QUESTION_BATCH):
            rows = range(first, min(first + QUESTION_BATCH, len(owner)))
            output = self.run(windows, rows)
            for row, starts, ends in zip(rows, output.start_logits.numpy(), output.end_logits.numpy(), strict=True):
                context = [kind == 1 for kind in windows.sequence_ids(row)]
                found = self.best_span(starts, ends, context, offsets[row])
                if found and found[0] > best[owner[row]][0]:
                    score, start, end = found
                    best[owner[row]] = score, questions[owner[row]].context[start:end]
        return [text for _, text in best]

    @staticmethod
    def best_span(starts, ends, context, offsets) -> tuple[float, int, int] | None:
        best = None
        for start in np.argsort(starts)[: -N_BEST - 1 : -1]:
            for end in np.argsort(ends)[: -N_BEST - 1 : -1]:
                inside = max(start, end) < len(context) and context[start] and context[end]
                if not inside or not start <= end < start + ANSWER:
                    continue
                score = float(starts[start] + ends[end])
                if best is None or score > best[0]:
                    best = score, offsets[start][0], offsets[end][1]
        return best


class Classifier(Peer):
    """A plain loop over batches of pairs, sorted by length if *by_length*."""

    def __init__(self, folder: Path, padding: str, by_length: bool = False):
        super().__init__(folder, "SequenceClassification", padding, PAIR_LENGTH)
        self.by_length = by_length

    def logits(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        encoded = self.tokenizer(*map(list, zip(*pairs, strict=True)), truncation=True, max_length=PAIR_LENGTH)
        order = range(len(pairs))
        if self.by_length:
            order = sorted(order, key=lambda row: -len(encoded["input_ids"][row]))
        logits = np.empty((len(pairs), self.model.config.num_labels), dtype=np.float32)
        for first in range(0, len(pairs), PAIR_BATCH):
            rows = order[first : first + PAIR_BATCH]
            logits[rows] = self.run(encoded, rows).logits.numpy()
        return logits


def with_head(model: Checkpoint, prefix: str, head: torch.nn.Module) -> Checkpoint:
    """The model with its own head under *prefix*; without one, with *head*, drawn at random."""
    if not part(model.state, prefix):
        torch.manual_seed(1)
        head.apply(init_bert_params)
        model.state = {name: weight for name, weight in model.state.items() if name.startswith("encoder.")}
        model.state |= {prefix + name: weight for name, weight in head.state_dict().items()}
    return model


@contextmanager
def exported(model: Checkpoint) -> Iterator[Path]:
    """The model as a Hugging Face folder."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write(Path(folder, "model.pt"), model)
        out = Path(folder, "exported")
        ppa(["export-hf", str(Path(folder, "model.pt")), str(out)])
        yield out


def question_sides(model: Checkpoint, path: Path) -> dict[str, Side]:
    ways = {"to the full length": "max_length", "to the longest": "longest"}
    with exported(with_head(model, SPAN_HEAD, SpanHead(model.shape.dim))) as folder:
        peers = {f"transformers, {name}": Reader(folder, padding) for name, padding in ways.items()}
    ours = QuestionAnswerer(model, str(path), WINDOW, STRIDE, ANSWER, cpu=True)
    return {"ppa_fairseq": lambda chunk: [answer.text for answer in ours(chunk)], **peers}


def pair_sides(model: Checkpoint, path: Path, some: list[tuple[str, str]]) -> dict[str, Side]:
    ways = {"to the full length": ("max_length",), "to the longest": ("longest",)}
    ways["by length, to the longest"] = ("longest", True)
    model.labels = model.labels or LABELS
    head = ClassificationHead(model.shape.dim, len(model.labels), model.shape.dropout)
    with exported(with_head(model, CLASSIFICATION_HEAD, head)) as folder:
        peers = {f"transformers, {name}": Classifier(folder, *way).logits for name, way in ways.items()}
    ours = PairClassifier(model, str(path), PAIR_LENGTH, cpu=True)
    logits = {"ppa_fairseq": lambda pairs: ours(*zip(*pairs, strict=True)), **peers}
    first, *others = (side(some) for side in logits.values())
    assert all(np.abs(first - other).max() < 1e-4 for other in others), "logits differ"
    return {name: lambda chunk, side=side: side(chunk).argmax(1).tolist() for name, side in logits.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["questions", "pairs"])
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint, an import or a Hugging Face folder")
    parser.add_argument("--data", type=Path, help="SQuAD-format or NLI file (default: text of the bundled sample)")
    parser.add_argument("--count", type=int, default=256, help="questions or pairs (default: %(default)s)")
    parser.add_argument("--chunk", type=int, default=64, help="questions or pairs in a turn (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = checkpoint.read(args.model)
    if args.what == "questions":
        work = (read_squad(args.data) if args.data else sample_questions(args.count))[: args.count]
        sides = question_sides(model, args.model)
    else:
        rows = next(iter(find_nli([args.data]).values())) if args.data else []
        work = [(row.premise, row.hypothesis) for row in rows][: args.count] or sample_pairs(args.count)
        sides = pair_sides(model, args.model, work[:PAIR_BATCH])
    seconds, answers = take_turns(sides, work, args.chunk)
    table = [["", f"{args.what} a second", "ratio", "same answer"]]
    for name, took in seconds.items():
        same = np.mean([a == b for a, b in zip(answers["ppa_fairseq"], answers[name], strict=True)])
        ratio = f"**{took / seconds['ppa_fairseq']:.2f}×**"
        table.append([name, f"{len(work) / took:.2f}", ratio, f"{100 * same:.1f} %"])
    shape = f"{model.shape.layers} layers of {model.shape.dim}"
    print(f"{len(work)} {args.what}, {shape}, {args.threads} threads, fp32\n")
    print(markdown_table(table))


if __name__ == "__main__":
    main()
