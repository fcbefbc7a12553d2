"""Texts as tokens with their places in the text, and answers as spans of tokens."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from ppa_fairseq.data.qa.squad import Question


class TokenizedText(NamedTuple):
    """A text in L tokens."""

    ids: np.ndarray  # (L,)
    offsets: np.ndarray  # (L, 2) where each starts and ends in the text, in characters


def encode_with_offsets(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[TokenizedText]:
    """Tokenize the texts, without special tokens around them."""
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        flat = np.fromiter(chain.from_iterable(encoding.offsets), np.int32, count=2 * len(encoding))
        yield TokenizedText(np.array(encoding.ids, dtype=np.int32), flat.reshape(-1, 2))


def answer_span(question: Question, offsets: np.ndarray) -> tuple[int, int] | None:
    """Return the first and the last token of the first answer that is at its answer_start and has a token, or None.

    *offsets* (L, 2) are those of the question's context.
    """
    for text, start in question.answers:
        if start >= 0 and question.context.startswith(text, start):
            if span := token_span(offsets, start, start + len(text)):
                return span
    return None


def token_span(offsets: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """Return the first and the last token (inclusive) with any of the characters [start, end), or None."""
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1
    return (first, last) if start < end and first <= last else None
