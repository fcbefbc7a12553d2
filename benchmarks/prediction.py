"""Question answering against transformers' example: questions a second from text to answers, in one run.

    python benchmarks/prediction.py --model runs/quickstart/imported
    python benchmarks/prediction.py --model imported/mbert --data dev-context-en-question-en.json --questions 64

Both sides have the same encoder, under its span head or one random one (whose near ties make some answers differ,
as only ours looks at all spans), and answer the same questions in fp32: windows of 384 that
share 128, best span of up to 30 WordPieces. transformers' side does what its example run_qa.py does: windows from its
tokenizer, batches of 8 in the order of the file, the 20 best starts by the 20 best ends. By default the example pads
every window to the full length; `to the longest` is with --pad_to_max_length False. The sides take turns, so that the
noise of the machine meets all. Without --data, contexts are the bundled sample's sentences, put together until they are
as long as those of TyDiQA-GoldP's English training examples.
"""

import argparse
import lzma
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from finetuning import CONTEXT, draw_lengths
from turns import rows_of, take_turns

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import SPAN_HEAD, Checkpoint, part
from ppa_fairseq.commands import export_hf
from ppa_fairseq.data.qa.squad import Question, read_squad
from ppa_fairseq.evaluation.question_answering.answerer import QuestionAnswerer
from ppa_fairseq.modules.bert import init_bert_params
from ppa_fairseq.modules.heads import SpanHead
from ppa_fairseq.utils.markdown import markdown_table

SAMPLE = Path(__file__).resolve().parents[1] / "sample" / "de-en.train.tsv.xz"
MAX_LENGTH, STRIDE, ANSWER, N_BEST, BATCH = 384, 128, 30, 20, 8
PIECES_A_WORD = 1.4  # of the sample's English, about


def sample_questions(count: int) -> list[Question]:
    rng = np.random.default_rng(1)
    with lzma.open(SAMPLE, "rt", encoding="utf-8") as file:
        sentences = [line.rstrip("\n").split("\t")[1] for line in file]
    questions = []
    for number, length in enumerate(draw_lengths(CONTEXT, count, rng)):
        context = ""
        while len(context.split()) * PIECES_A_WORD < length:
            context += sentences[rng.integers(len(sentences))] + ". "
        asked = sentences[rng.integers(len(sentences))]
        questions.append(Question(f"q{number}", asked, context.strip(), ((context[:3], 0),), "sample"))
    return questions


class TransformersExample:
    """run_qa.py's way from questions to answers. *padding*: of its tokenizer, "max_length" or "longest"."""

    def __init__(self, folder: Path, padding: str):
        sys.modules.setdefault("torchaudio", None)  # imported wherever it is installed, and it may not load
        from transformers import AutoModelForQuestionAnswering, AutoTokenizer

        self.model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.padding = padding

    @torch.inference_mode()
    def __call__(self, questions: list[Question]) -> list[str]:
        windows = self.tokenizer(
            [question.question for question in questions],
            [question.context for question in questions],
            truncation="only_second",
            max_length=MAX_LENGTH,
            stride=STRIDE,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        offsets, owner = windows.pop("offset_mapping"), windows.pop("overflow_to_sample_mapping")
        best = [(-np.inf, "")] * len(questions)
        for first in range(0, len(owner), BATCH):
            rows = range(first, min(first + BATCH, len(owner)))
            batch = {name: [values[row] for row in rows] for name, values in windows.items()}
            batch = self.tokenizer.pad(batch, padding=self.padding, max_length=MAX_LENGTH, return_tensors="pt")
            output = self.model(**batch)
            starts, ends = output.start_logits.numpy(), output.end_logits.numpy()
            for place, row in enumerate(rows):
                context = [kind == 1 for kind in windows.sequence_ids(row)]
                found = self.best_span(starts[place], ends[place], context, offsets[row])
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


def with_head(model: Checkpoint, prefix: str, head: torch.nn.Module) -> Checkpoint:
    """The model with its own head under *prefix*, or with *head*, drawn anew, if it has none there."""
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
        export_hf.run(argparse.Namespace(checkpoint=Path(folder, "model.pt"), out=out, pooling=None))
        yield out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint, an import or a Hugging Face folder")
    parser.add_argument("--data", type=Path, help="SQuAD-format file (default: made of the bundled sample)")
    parser.add_argument("--questions", type=int, default=128)
    parser.add_argument("--chunk", type=int, default=32, help="questions that a side answers at a turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    questions = (read_squad(args.data) if args.data else sample_questions(args.questions))[: args.questions]

    model = checkpoint.read(args.model)
    model = with_head(model, SPAN_HEAD, SpanHead(model.shape.dim))
    with exported(model) as folder:
        peers = {
            f"transformers, {name}": TransformersExample(folder, padding)
            for name, padding in (("to the full length", "max_length"), ("to the longest", "longest"))
        }
    ours = QuestionAnswerer(model, str(args.model), MAX_LENGTH, STRIDE, ANSWER, cpu=True)
    sides = {"ppa_fairseq": lambda chunk: [answers[0].text for answers in ours(chunk)], **peers}
    rows = rows_of(*take_turns(sides, questions, args.chunk), "questions")
    shape = f"{model.shape.layers} layers of {model.shape.dim}"
    print(f"{len(questions)} questions, {shape}, {args.threads} threads, fp32\n")
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
