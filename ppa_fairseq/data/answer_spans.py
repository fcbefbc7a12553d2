"""From an answer in characters to its span of WordPieces."""

import numpy as np

from ppa_fairseq.data.squad_reader import Question

FAULTS = {
    "misplaced": "answers that do not stand at their answer_start",
    "unmapped": "answers without a WordPiece: white space or control characters",
}


def token_span(offsets: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """First and last WordPiece (inclusive) with any of the characters [start, end); None if there is none.

    *offsets* (L, 2): where each WordPiece starts and ends in the original text, as `tokenizers` gives them.
    """
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1
    return (first, last) if first <= last else None


def answer_spans(question: Question, offsets: np.ndarray) -> tuple[list[tuple[int, int]], list[tuple[str, str]]]:
    """Spans of the answers that have one, and for every other its fault (a key of FAULTS) and its place, for the user.

    *offsets* (L, 2) are those of the question's context.
    """
    spans, faults = [], []
    for text, start in question.answers:
        end = start + len(text)
        if start < 0 or question.context[start:end] != text:
            found = question.context[max(start, 0) : max(end, 0)]
            faults.append(("misplaced", f"{question.place}: {text[:40]!r} is not at {start}, but {found[:40]!r}"))
        elif (span := token_span(offsets, start, end)) is None:
            faults.append(("unmapped", f"{question.place}: {text[:40]!r} has no WordPiece"))
        else:
            spans.append(span)
    return spans, faults
