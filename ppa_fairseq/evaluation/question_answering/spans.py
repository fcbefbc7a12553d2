"""From start and end logits to the best valid span of each window.

A span is valid if it starts no later than it ends, lies in one window and has at most `max_answer_length` tokens. Its
score is its start logit plus its end logit (Devlin et al. 2019). Every valid span counts, while transformers' example
only combines the 20 best starts with the 20 best ends.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """Tokens `start` to `end`, inclusive."""

    start: int
    end: int
    score: float


def best_spans(logits: Sequence[np.ndarray], max_answer_length: int) -> list[Span | None]:
    """The best span of each window, counted from its first token; None for an empty window.

    `logits` are W arrays (L_w, 2): the start and the end logit of each token in a window, all finite.
    Of equal scores the earliest start wins, then the earliest end.
    """
    width = min(max_answer_length, max(map(len, logits)))
    if not width:
        return [None] * len(logits)
    # The gap between two windows keeps spans inside their window.
    gap = np.full((width, 2), -np.inf, dtype=np.float32)
    rows = np.concatenate([part for window in logits for part in (window, gap)])
    ends = np.lib.stride_tricks.sliding_window_view(rows[:, 1], width)  # (rows - width + 1, width)
    scores = rows[: len(ends), :1] + ends  # of starts × lengths
    spans, first = [], 0
    for window in logits:
        block = scores[first : first + len(window)]
        start, more = np.unravel_index(block.argmax(), block.shape) if len(window) else (0, 0)
        spans.append(Span(int(start), int(start + more), float(block[start, more])) if len(window) else None)
        first += len(window) + width
    return spans
