"""Questions and contexts to answers: windows of like length, packed, their best spans cut from the original text."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from fairseq.utils import apply_to_sample

from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.qa_windows import check_window_sizes, context_windows, kept_question
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.data.squad_reader import Question
from ppa_fairseq.embedding import batches_by_length
from ppa_fairseq.errors import InputError
from ppa_fairseq.models.bert_encoder import BertEncoder
from ppa_fairseq.models.heads import SpanHead
from ppa_fairseq.models.packing import pack
from ppa_fairseq.qa_spans import Span, best_spans, probabilities, window_spans
from ppa_fairseq.tokenizer import build_tokenizer, symbols
from ppa_fairseq.weights import SPAN_HEAD, Checkpoint, no_values, part

# Texts tokenized at a time: bounds the memory of the tokenizer's own objects.
CHUNK = 2**12


class Answer(NamedTuple):
    """A text of the context, and where it starts there, in characters; its probability among the answers given."""

    text: str
    start: int
    score: float
    probability: float


class Pieces(NamedTuple):
    """A text in L WordPieces."""

    ids: np.ndarray  # (L,)
    offsets: np.ndarray  # (L, 2) where each starts and ends, in characters


class Window(NamedTuple):
    """WordPieces [start, end) of a context beside its question."""

    question: int
    start: int
    end: int


class QuestionAnswerer:
    """Answers questions with one fine-tuned model, in fp32.

    Args:
        model: a checkpoint with a span head; it is moved to the GPU when there is one (and not `cpu`).
        source: names the model in messages.
        max_length: of a question with a window of its context, in WordPieces, specials included.
        doc_stride: how many WordPieces consecutive windows share.
        max_answer_length: of an answer, in WordPieces.
        batch_tokens: tokens in one batch; a longer window makes a batch of its own.

    Raises:
        InputError: no span head, one token type where the family needs two, lengths that don't fit together or into
            the position table.
    """

    def __init__(
        self,
        model: Checkpoint,
        source: str,
        max_length: int = 384,
        doc_stride: int = 128,
        max_answer_length: int = 30,
        batch_tokens: int = 4096,
        cpu: bool = False,
    ):
        head = part(model.state, SPAN_HEAD)
        if not head:
            raise InputError(f"{source}: no span head; fine-tune it first, by `--task mlqa_codeswitch`")
        dictionary = WordPieceDictionary(symbols(model.tokenizer, source), source=source)
        if dictionary.second_type >= model.shape.token_types:
            raise InputError(f"{source}: has one token type, but the context needs another than its question")
        with no_values():
            self.encoder = BertEncoder(None, model.shape)
            self.head = SpanHead(model.shape.dim)
        if max_length > self.encoder.max_positions():
            raise InputError(f"--max-length {max_length}: the encoder has {self.encoder.max_positions()} positions")
        self.layout = PairLayout(dictionary, max_length)
        check_window_sizes(max_length, doc_stride, self.layout.specials)
        self.device = torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")
        for module, state in ((self.encoder, part(model.state, "encoder.")), (self.head, head)):
            module.load_state_dict(state, assign=True)
            module.float().eval().to(self.device)
        self.tokenizer = build_tokenizer(model.tokenizer, source)
        self.sizes = {"max_length": max_length, "doc_stride": doc_stride, "specials": self.layout.specials}
        self.max_answer_length = max_answer_length
        self.batch_tokens = batch_tokens
        self.pieces: dict[str, Pieces] = {}  # of every text so far: sets in several languages share contexts

    @torch.inference_mode()
    def __call__(
        self, questions: Sequence[Question], count: int = 1, progress: Callable[[int], object] = lambda done: None
    ) -> list[list[Answer]]:
        """The `count` best answers of each question, best first; fewer, or none, where the context is as short.

        `progress` is called with the number of questions begun since its last call. Raises InputError if the model
        gives logits that are not finite.
        """
        self.tokenize(text for question in questions for text in (question.question, question.context))
        windows = [
            Window(number, start, end)
            for number, question in enumerate(questions)
            for start, end in context_windows(
                len(self.pieces[question.question].ids), len(self.pieces[question.context].ids), **self.sizes
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
        new = [text for text in dict.fromkeys(texts) if text not in self.pieces]
        for first in range(0, len(new), CHUNK):
            chunk = new[first : first + CHUNK]
            for text, encoding in zip(chunk, self.tokenizer.encode_batch(chunk, add_special_tokens=False), strict=True):
                flat = np.fromiter(chain.from_iterable(encoding.offsets), np.int32, count=2 * len(encoding))
                self.pieces[text] = Pieces(np.array(encoding.ids, dtype=np.int32), flat.reshape(-1, 2))

    def lay(self, question: Question, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and token types, (L,) each."""
        asked = self.pieces[question.question].ids
        kept = kept_question(len(asked), **self.sizes)
        return self.layout.lay(asked[:kept], self.pieces[question.context].ids[window.start : window.end])

    def logits(self, sequences: Sequence[tuple[np.ndarray, np.ndarray]], windows: Sequence[Window]) -> list[np.ndarray]:
        """Of each window's context, (L, 2)."""
        tokens, token_types = zip(*sequences, strict=True)
        packed = pack(list(map(torch.from_numpy, tokens)), list(map(torch.from_numpy, token_types)))
        packed = apply_to_sample(lambda tensor: tensor.to(self.device), packed)
        logits = self.head(self.encoder(**packed)["hidden"]).cpu().numpy()  # (T, 2)
        if not np.isfinite(logits).all():
            raise InputError("the model gives logits that are not finite: its weights are NaN or infinite")
        ends = np.cumsum(packed["lengths"]) - 1  # the context stands before the last eos
        return [logits[end - (w.end - w.start) : end] for end, w in zip(ends, windows, strict=True)]

    def answers(self, question: Question, spans: list[Span], count: int) -> list[Answer]:
        spans = best_spans(spans, count)
        offsets = self.pieces[question.context].offsets
        found = []
        for span, probability in zip(spans, probabilities(spans), strict=True):
            start, end = int(offsets[span.start, 0]), int(offsets[span.end, 1])
            text = question.context[start:end]
            start += len(text) - len(text.lstrip())  # SentencePiece's pieces begin with the space before them
            found.append(Answer(text.strip(), start, span.score, probability))
        return found
