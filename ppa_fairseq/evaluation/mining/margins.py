"""Which sentences are translations: the ratio margin in both directions, one to one (Artetxe and Schwenk 2019)."""

from typing import NamedTuple

import numpy as np

WINDOW = 2**16  # sentences scored at a time


class Pairs(NamedTuple):
    """Candidates, best first: the places of both sentences, and the margin; (P,) each."""

    first: np.ndarray
    second: np.ndarray
    margin: np.ndarray


def mean_cosine(neighbours: np.ndarray) -> np.ndarray:
    """The mean cosine of each sentence to its nearest, (N,)."""
    cosines = neighbours["cosine"]
    found = neighbours["key"] >= 0
    return (np.where(found, cosines, 0).sum(axis=1, dtype=np.float64) / found.sum(axis=1).clip(1)).astype(np.float32)


def ratio_margin(cosine: np.ndarray, near_first: np.ndarray, near_second: np.ndarray) -> np.ndarray:
    """The cosine of a pair, divided by the mean cosine of both sentences to their nearest (arXiv 1811.01136)."""
    return cosine / ((near_first + near_second) / 2)


def mine(forward: np.ndarray, backward: np.ndarray) -> Pairs:
    """The best partner of each sentence of both sides among its nearest, then the best of these, one to one.

    *forward* (N,) and *backward* (M,) are neighbours as `search.nearest` finds them.
    """
    near = mean_cosine(forward), mean_cosine(backward)
    second, scores = _best_partners(forward, *near)
    first, other_scores = _best_partners(backward, *near[::-1])
    places = np.concatenate([np.arange(len(second)), first]), np.concatenate([second, np.arange(len(first))])
    scores = np.concatenate([scores, other_scores])
    best_first = np.argsort(-scores, kind="stable")
    best_first = best_first[np.isfinite(scores[best_first])]
    taken = bytearray(len(forward)), bytearray(len(backward))
    kept = []
    for number, one, other in zip(
        best_first.tolist(), places[0][best_first].tolist(), places[1][best_first].tolist(), strict=True
    ):
        if not taken[0][one] and not taken[1][other]:
            taken[0][one] = taken[1][other] = True
            kept.append(number)
    return Pairs(places[0][kept], places[1][kept], scores[kept])


def _best_partners(neighbours: np.ndarray, near: np.ndarray, near_other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The partner with the best margin of each sentence, and the margin, (N,) each."""
    partners = np.empty(len(neighbours), dtype=np.int64)
    scores = np.empty(len(neighbours), dtype=np.float32)
    for start in range(0, len(neighbours), WINDOW):
        here = slice(start, start + WINDOW)
        keys = neighbours["key"][here]  # (n, k)
        margins = ratio_margin(neighbours["cosine"][here], near[here, None], near_other[keys])
        margins = np.where(keys >= 0, margins, -np.inf)
        best = margins.argmax(axis=1)[:, None]
        partners[here] = np.take_along_axis(keys, best, 1)[:, 0]
        scores[here] = np.take_along_axis(margins, best, 1)[:, 0]
    return partners, scores
