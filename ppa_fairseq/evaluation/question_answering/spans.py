"""From start and end logits to answers: the best valid spans of a question over all windows of its context.

A span is valid if it starts no later than it ends, lies in one window and has at most `max_answer_length` tokens. Its
score is its start logit plus its end logit (Devlin et al. 2019). Every valid span counts, while transformers' example
only combines the 20 best starts with the 20 best ends.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """Tokens `start` to `end`, inclusive."""

    start: int
    end: int
    score: float


def window_spans(logits: Sequence[np.ndarray], max_answer_length: int, count: int = 1) -> list[list[Span]]:
    """The `count` best spans of each window, or all if it has fewer, counted from the window's first token.

    `logits` are W arrays (L_w, 2): the start and the end logit of each token in a window, all finite.
    Best first; of equal scores the earliest start, then the earliest end.
    """
    if not logits:
        return []
    width = min(max_answer_length, max(map(len, logits)))
    # The gap between two windows keeps spans inside their window.
    gap = np.full((width, 2), -np.inf, dtype=np.float32)
    rows = np.concatenate([part for window in logits for part in (window, gap)])
    ends = np.lib.stride_tricks.sliding_window_view(rows[:, 1], width)  # (rows - width + 1, width)
    scores = rows[: len(ends), :1] + ends  # of starts × lengths
    spans, first = [], 0
    for window in logits:
        block = scores[first : first + len(window)].reshape(-1)
        starts, more = np.divmod(best(block, count), width)
        found = zip(starts.tolist(), more.tolist(), strict=True)
        spans.append([Span(start, start + more, float(block[start * width + more])) for start, more in found])
        first += len(window) + width
    return spans


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` highest `scores` (N,) that are not -inf; highest first, then earliest."""
    if len(scores) == 0:
        return np.zeros(0, dtype=int)
    count = min(count, len(scores))
    least = np.partition(scores, -count)[-count]
    places = np.flatnonzero((scores >= least) & (scores > -np.inf))
    return places[np.argsort(-scores[places], kind="stable")][:count]


def best_spans(spans: Iterable[Span], count: int = 1) -> list[Span]:
    """The `count` best spans of a question, counted in its context; a span in two windows counts once."""
    highest: dict[tuple[int, int], float] = {}
    for start, end, score in spans:
        highest[start, end] = max(score, highest.get((start, end), score))
    found = (Span(start, end, score) for (start, end), score in highest.items())
    return sorted(found, key=lambda span: (-span.score, span.start, span.end))[:count]


def probabilities(spans: Sequence[Span]) -> list[float]:
    """Softmax of the scores of `spans`, best first; their probabilities add up to 1."""
    if not spans:
        return []
    powers = np.exp(np.array([span.score for span in spans]) - spans[0].score)
    return (powers / powers.sum()).tolist()
