"""Questions and contexts to answers: packed windows of similar length, and their best spans in the original text."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ppa_fairseq.checkpoints.weights import SPAN_HEAD, Checkpoint
from ppa_fairseq.data.qa.encoder import encode_with_offsets
from ppa_fairseq.data.qa.squad import Question
from ppa_fairseq.data.qa.windows import check_window_sizes, context_windows, kept_question
from ppa_fairseq.evaluation.embedding import batches_by_length
from ppa_fairseq.evaluation.pair_model import PairModel
from ppa_fairseq.evaluation.precision import NOT_FINITE
from ppa_fairseq.evaluation.question_answering.spans import Span, best_spans
from ppa_fairseq.utils.errors import InputError


class Answer(NamedTuple):
    """A text of the context, its first character there, and its score."""

    text: str
    start: int
    score: float


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

    @torch.inference_mode()
    def __call__(
        self, questions: Sequence[Question], progress: Callable[[int], object] = lambda done: None
    ) -> list[Answer]:
        """The best answer to each question; an empty one in a context without tokens.

        `progress` is called with the number of questions begun since its last call. Raises InputError if the logits are
        not finite.
        """
        texts = list(dict.fromkeys(text for question in questions for text in (question.question, question.context)))
        tokenized = dict(zip(texts, encode_with_offsets(self.tokenizer, texts), strict=True))
        windows, sequences = [], []
        for number, question in enumerate(questions):
            asked, context = tokenized[question.question].ids, tokenized[question.context].ids
            kept = asked[: kept_question(len(asked), **self.sizes)]
            for start, end in context_windows(len(asked), len(context), **self.sizes):
                windows.append(Window(number, start, end))
                sequences.append(self.layout.lay(kept, context[start:end]))
        spans: list[list[Span]] = [[] for _ in questions]
        for batch in batches_by_length([len(tokens) for tokens, _ in sequences], self.batch_tokens):
            logits = self.logits([sequences[i] for i in batch], [windows[i] for i in batch])
            for i, span in zip(batch, best_spans(logits, self.max_answer_length), strict=True):
                number, first, _ = windows[i]
                if span:
                    spans[number].append(Span(first + span.start, first + span.end, span.score))
            progress(sum(windows[i].start == 0 for i in batch))
        return [
            self.answer(question.context, tokenized[question.context].offsets, found)
            for question, found in zip(questions, spans, strict=True)
        ]

    def logits(self, sequences: Sequence[tuple[np.ndarray, np.ndarray]], windows: Sequence[Window]) -> list[np.ndarray]:
        """Start and end logits of each window's context, (L, 2) each."""
        packed = self.pack(sequences)
        logits = self.precision(lambda: self.head(self.encoder(**packed)["hidden"])).cpu().numpy()  # (T, 2)
        if not np.isfinite(logits).all():
            raise InputError(f"the model's logits are not finite: {NOT_FINITE[self.precision.dtype]}")
        ends = np.cumsum(packed["lengths"]) - 1  # the context ends before the last eos
        return [logits[end - (w.end - w.start) : end] for end, w in zip(ends, windows, strict=True)]

    @staticmethod
    def answer(context: str, offsets: np.ndarray, spans: Sequence[Span]) -> Answer:
        """The text of the best of a question's spans; of equal scores, the earliest and shortest."""
        if not spans:
            return Answer("", 0, 0.0)
        best = min(spans, key=lambda span: (-span.score, span.start, span.end))
        start, end = int(offsets[best.start, 0]), int(offsets[best.end, 1])
        text = context[start:end]
        # A SentencePiece token includes the space before it.
        return Answer(text.strip(), start + len(text) - len(text.lstrip()), best.score)
