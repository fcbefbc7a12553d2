"""Texts as tokens with their places in the text, and answers as spans of tokens."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from ppa_fairseq.data.qa.squad import Question

FAULTS = {
    "misplaced": "which are not at their answer_start",
    "unmapped": "which have no token, as they are white space or control characters",
    "widened": "which begin or end within a token, so that their spans have more characters",
}


class TokenizedText(NamedTuple):
    """A text in L tokens."""

    ids: np.ndarray  # (L,)
    offsets: np.ndarray  # (L, 2) where each starts and ends in the text, in characters


def encode_with_offsets(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[TokenizedText]:
    """Tokenize the texts, without special tokens around them."""
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        flat = np.fromiter(chain.from_iterable(encoding.offsets), np.int32, count=2 * len(encoding))
        yield TokenizedText(np.array(encoding.ids, dtype=np.int32), flat.reshape(-1, 2))


def token_span(offsets: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """Return the first and the last token (inclusive) with any of the characters [start, end), or None.

    *offsets* (L, 2): where each token starts and ends in the original text.
    """
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1
    return (first, last) if start < end and first <= last else None


def answer_spans(question: Question, offsets: np.ndarray) -> tuple[list[tuple[int, int]], list[tuple[str, str]]]:
    """Return the spans of the answers that have one, and the faults of answers: a key of FAULTS and a description.

    *offsets* (L, 2) are those of the question's context.
    """
    spans, faults = [], []
    for text, start in question.answers:
        end = start + len(text)
        if start < 0 or question.context[start:end] != text:
            found = question.context[max(start, 0) : max(end, 0)]
            faults.append(("misplaced", f"{question.place}: {_quote(text)} is not at {start}, but {_quote(found)}"))
        elif (span := token_span(offsets, start, end)) is None:
            faults.append(("unmapped", f"{question.place}: {_quote(text)} has no token"))
        else:
            spans.append(span)
            covered = question.context[offsets[span[0], 0] : offsets[span[1], 1]]
            if len(covered.strip()) > len(text.strip()):
                faults.append(("widened", f"{question.place}: {_quote(text)} becomes {_quote(covered)}"))
    return spans, faults


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:29]}…{text[-30:]}")
