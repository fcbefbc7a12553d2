"""From an answer in characters to its span of WordPieces."""

import numpy as np

from ppa_fairseq.data.qa.squad import Question

FAULTS = {
    "misplaced": "which do not stand at their answer_start",
    "unmapped": "which have no WordPiece, being white space or control characters",
    "widened": "which begin or end within a WordPiece, so that their spans have more characters",
}


def token_span(offsets: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """First and last WordPiece (inclusive) with any of the characters [start, end); None if there is none.

    *offsets* (L, 2): where each WordPiece starts and ends in the original text, as `tokenizers` gives them.
    """
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1
    return (first, last) if start < end and first <= last else None


def answer_spans(question: Question, offsets: np.ndarray) -> tuple[list[tuple[int, int]], list[tuple[str, str]]]:
    """Spans of the answers that have one, and what is wrong with answers: a key of FAULTS, and the place for the user.

    *offsets* (L, 2) are those of the question's context.
    """
    spans, faults = [], []
    for text, start in question.answers:
        end = start + len(text)
        if start < 0 or question.context[start:end] != text:
            found = question.context[max(start, 0) : max(end, 0)]
            faults.append(("misplaced", f"{question.place}: {_short(text)} is not at {start}, but {_short(found)}"))
        elif (span := token_span(offsets, start, end)) is None:
            faults.append(("unmapped", f"{question.place}: {_short(text)} has no WordPiece"))
        else:
            spans.append(span)
            covered = question.context[offsets[span[0], 0] : offsets[span[1], 1]]
            if len(covered.strip()) > len(text.strip()):
                faults.append(("widened", f"{question.place}: {_short(text)} becomes {_short(covered)}"))
    return spans, faults


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:29]}…{text[-30:]}")
