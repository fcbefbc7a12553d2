"""Does a sentence find its translation? Retrieval accuracy in both directions, by cosine or by margin."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SCORINGS = ("cosine", "margin")
# Scores are fp64: the cosines of an unaligned encoder's [CLS] vectors may differ by only 1e-6. Scores closer than this
# are ties; rounding must not decide between them.
TIE = 1e-12
MAX_SCORES = 2**23  # scores in memory at once: 64 MiB, for any number of sentences


@torch.no_grad()
def retrieval_accuracy(
    source: Tensor,
    target: Tensor,
    scoring: str = "cosine",
    k: int = 4,
    max_scores: int = MAX_SCORES,
    texts: tuple[Tensor, Tensor] | None = None,
) -> tuple[float, float]:
    """Percent of sentences whose best-scored sentence on the other side is their own translation.

    A sentence that occurs several times on the searched side is one candidate: to find any of its copies is right.
    A tie with a different sentence counts as wrong, so vectors that have collapsed or are not finite score 0. Published
    Tatoeba figures use argmax instead, by which the first of several equal scores wins.

    Args:
        source, target: (N, C), row i of one translates row i of the other; of any float type.
        scoring: "cosine", or "margin": the cosine divided by the mean cosine of both sentences to their k nearest
            neighbours on the other side (ratio margin; Artetxe and Schwenk 2019, arXiv 1811.01136).
        k: neighbours for the margin.
        max_scores: scores in memory at once, for any N.
        texts: a number for each sentence of both sides, (N,) each; sentences with the same number have the same text.
            Default: all sentences are different.

    Returns:
        (source → target, target → source), each in percent.
    """
    sides = [F.normalize(side.double(), dim=1) for side in (source, target)]
    every = torch.arange(len(source))
    texts = [numbers.to(source.device) for numbers in texts or (every, every)]
    rows = max(1, max_scores // len(source))
    near = None, None
    if scoring == "margin":
        unique = [
            side[torch.from_numpy(np.unique(numbers.cpu(), return_index=True)[1]).to(side.device)]
            for side, numbers in zip(sides, texts, strict=True)
        ]
        near = mean_nearest(sides[0], unique[1], k, rows), mean_nearest(sides[1], unique[0], k, rows)  # (N,) each
    return (
        percent_found(sides[0], sides[1], near[0], near[1], texts[1], rows),
        percent_found(sides[1], sides[0], near[1], near[0], texts[0], rows),
    )


def mean_nearest(query: Tensor, key: Tensor, k: int, rows: int) -> Tensor:
    """The mean cosine of each query to its k nearest keys, or to all of fewer keys; (N,)."""
    k = min(k, len(key))
    return torch.cat([(chunk @ key.T).topk(k, dim=1).values.mean(dim=1) for chunk in query.split(rows)])


def percent_found(
    query: Tensor, key: Tensor, near_query: Tensor | None, near_key: Tensor | None, texts: Tensor, rows: int
) -> float:
    """Percent of queries that score their own key, or a key of its text, strictly above all others.

    Queries and keys, (N, C) each, have unit length; `texts` (N,) numbers the texts of the keys.
    """
    found = 0
    for start in range(0, len(query), rows):
        chunk = slice(start, start + rows)
        scores = query[chunk] @ key.T  # (rows, N)
        if near_query is not None:
            scores /= (near_query[chunk, None] + near_key) / 2
        right = texts[chunk, None] == texts  # (rows, N)
        best_right = scores.masked_fill(~right, -torch.inf).amax(dim=1)  # (rows,)
        best_other = scores.masked_fill_(right, -torch.inf).amax(dim=1)  # (rows,)
        found += int((best_right > best_other + TIE).sum())
    return 100.0 * found / len(query)
