"""Questions, contexts and answers as WordPieces, in worker processes."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from ppa_fairseq.checkpoints.tokenizer_files import build_tokenizer
from ppa_fairseq.data.qa.answer_spans import answer_spans
from ppa_fairseq.data.qa.squad import Question


class Pieces(NamedTuple):
    """A text in L WordPieces."""

    ids: np.ndarray  # (L,)
    offsets: np.ndarray  # (L, 2) where each starts and ends in the text, in characters


def encode_with_offsets(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[Pieces]:
    """The texts, without special symbols around them."""
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        flat = np.fromiter(chain.from_iterable(encoding.offsets), np.int32, count=2 * len(encoding))
        yield Pieces(np.array(encoding.ids, dtype=np.int32), flat.reshape(-1, 2))


@dataclass
class Example:
    """A question with an answer, as ids; `context` counts in its `EncodedBatch`."""

    id: str
    question: np.ndarray  # (Q,)
    context: int
    span: tuple[int, int]  # of the first answer that has one: first and last WordPiece of the context


@dataclass
class EncodedBatch:
    """What became of a batch: the examples in order, what was dropped why, and each answer's fault."""

    contexts: list[np.ndarray] = field(default_factory=list)  # ids, (L,) each
    offsets: list[np.ndarray] = field(default_factory=list)  # characters, (L, 2) each
    examples: list[Example] = field(default_factory=list)
    dropped: Counter = field(default_factory=Counter)
    faults: list[tuple[str, str]] = field(default_factory=list)


class QuestionEncoder:
    """Tokenizes batches of questions; *texts* are the tokenizer's files, *source* names them in messages."""

    def __init__(self, texts: dict[str, str], source: str):
        self.tokenizer = build_tokenizer(texts, source)

    def encode(self, batch: list[Question]) -> EncodedBatch:
        """Encode the batch, a context of several questions once, and find its answers."""
        contexts = {question.context: 0 for question in batch}
        contexts = {context: number for number, context in enumerate(contexts)}
        result = EncodedBatch()
        for ids, offsets in encode_with_offsets(self.tokenizer, list(contexts)):
            result.contexts.append(ids)
            result.offsets.append(offsets)
        texts = [question.question for question in batch]
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for question, encoding in zip(batch, encodings, strict=True):
            context = contexts[question.context]
            spans, faults = answer_spans(question, result.offsets[context])
            result.faults += faults
            if not question.answers:
                result.dropped["unanswerable"] += 1
            elif not spans:
                result.dropped[faults[0][0]] += 1
            elif not encoding.ids:
                result.dropped["blank"] += 1
            else:
                ids = np.array(encoding.ids, dtype=np.int32)
                result.examples.append(Example(question.id, ids, context, spans[0]))
        return result


_encoder: QuestionEncoder  # of this worker process


def set_up_worker(*arguments) -> None:
    """Make the worker's QuestionEncoder of its *arguments*."""
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes use the cores already
    _encoder = QuestionEncoder(*arguments)


def encode_in_worker(batch: list[Question]) -> EncodedBatch:
    """`QuestionEncoder.encode` of this worker process."""
    return _encoder.encode(batch)
