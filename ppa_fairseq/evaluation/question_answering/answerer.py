"""Questions and contexts to answers: packed windows of similar length, and their best spans in the original text."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ppa_fairseq.checkpoints.weights import SPAN_HEAD, Checkpoint
from ppa_fairseq.data.qa.encoder import TokenizedText, encode_with_offsets
from ppa_fairseq.data.qa.squad import Question
from ppa_fairseq.data.qa.windows import check_window_sizes, context_windows, kept_question
from ppa_fairseq.evaluation.embedding import batches_by_length
from ppa_fairseq.evaluation.pair_model import PairModel
from ppa_fairseq.evaluation.question_answering.spans import Span, best_spans, probabilities, window_spans
from ppa_fairseq.modules.heads import SpanHead
from ppa_fairseq.utils.errors import InputError

CHUNK = 2**12  # texts tokenized at a time: bounds the memory of the tokenizer's own objects


class Answer(NamedTuple):
    """A text of the context, its first character there, and its probability among the returned answers."""

    text: str
    start: int
    score: float
    probability: float


class Window(NamedTuple):
    """Tokens [start, end) of the context of a question."""

    question: int
    start: int
    end: int


class QuestionAnswerer(PairModel):
    """Answers questions with one fine-tuned model; the other arguments and errors are those of `PairModel`.

    Args:
        doc_stride: tokens that consecutive windows share.
        max_answer_length: tokens in an answer, at most.

    Raises:
        InputError: no room for windows in `max_length` beside `doc_stride`.
    """

    head_prefix = SPAN_HEAD
    head_name = "span head"
    task = "mlqa_codeswitch"

    def __init__(
        self,
        model: Checkpoint,
        source: str,
        max_length: int = 384,
        doc_stride: int = 128,
        max_answer_length: int = 30,
        **limits,
    ):
        super().__init__(model, source, max_length, **limits)
        self.sizes = {"max_length": max_length, "doc_stride": doc_stride, "specials": self.layout.specials}
        check_window_sizes(**self.sizes)
        self.max_answer_length = max_answer_length
        self.tokenized: dict[str, TokenizedText] = {}  # every text so far: sets in several languages share contexts

    def new_head(self, model: Checkpoint) -> SpanHead:
        return SpanHead(model.shape.dim)

    @torch.inference_mode()
    def __call__(
        self, questions: Sequence[Question], count: int = 1, progress: Callable[[int], object] = lambda done: None
    ) -> list[list[Answer]]:
        """The `count` best answers of each question, best first; fewer, or none, for a very short context.

        `progress` is called with the number of questions begun since its last call. Raises InputError if the logits are
        not finite.
        """
        self.tokenize(text for question in questions for text in (question.question, question.context))
        windows = [
            Window(number, start, end)
            for number, question in enumerate(questions)
            for start, end in context_windows(
                len(self.tokenized[question.question].ids), len(self.tokenized[question.context].ids), **self.sizes
            )
        ]
        sequences = [self.lay(questions[window.question], window) for window in windows]
        spans: list[list[Span]] = [[] for _ in questions]
        for batch in batches_by_length([len(tokens) for tokens, _ in sequences], self.batch_tokens):
            logits = self.logits([sequences[i] for i in batch], [windows[i] for i in batch])
            for i, found in zip(batch, window_spans(logits, self.max_answer_length, count), strict=True):
                number, first, _ = windows[i]
                spans[number] += [Span(first + start, first + end, score) for start, end, score in found]
            progress(sum(windows[i].start == 0 for i in batch))
        return [self.answers(*found, count) for found in zip(questions, spans, strict=True)]

    def tokenize(self, texts: Iterable[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self.tokenized]
        for first in range(0, len(new), CHUNK):
            chunk = new[first : first + CHUNK]
            self.tokenized.update(zip(chunk, encode_with_offsets(self.tokenizer, chunk), strict=True))

    def lay(self, question: Question, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and token types, (L,) each."""
        asked = self.tokenized[question.question].ids
        kept = kept_question(len(asked), **self.sizes)
        return self.layout.lay(asked[:kept], self.tokenized[question.context].ids[window.start : window.end])

    def logits(self, sequences: Sequence[tuple[np.ndarray, np.ndarray]], windows: Sequence[Window]) -> list[np.ndarray]:
        """Start and end logits of each window's context, (L, 2) each."""
        packed = self.pack(sequences)
        logits = self.head(self.encoder(**packed)["hidden"]).cpu().numpy()  # (T, 2)
        if not np.isfinite(logits).all():
            raise InputError("the model's logits are not finite: its weights are NaN or infinite")
        ends = np.cumsum(packed["lengths"]) - 1  # the context ends before the last eos
        return [logits[end - (w.end - w.start) : end] for end, w in zip(ends, windows, strict=True)]

    def answers(self, question: Question, spans: list[Span], count: int) -> list[Answer]:
        spans = best_spans(spans, count)
        offsets = self.tokenized[question.context].offsets
        found = []
        for span, probability in zip(spans, probabilities(spans), strict=True):
            start, end = int(offsets[span.start, 0]), int(offsets[span.end, 1])
            text = question.context[start:end]
            start += len(text) - len(text.lstrip())  # a SentencePiece token includes the space before it
            found.append(Answer(text.strip(), start, span.score, probability))
        return found
