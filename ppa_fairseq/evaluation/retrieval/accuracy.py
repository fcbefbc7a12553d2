"""Does a sentence find its translation? Retrieval accuracy in both directions, by cosine or by margin."""

import torch
import torch.nn.functional as F
from torch import Tensor

SCORINGS = ("cosine", "margin")

# Scores are fp64: the [CLS] vectors of an unaligned encoder can have cosines that differ by 1e-6 only.
# A rival this near the true translation is a tie, which the order of a sum must not decide.
TIE = 1e-12
# Scores held at once: 64 MiB, however many sentences there are.
MAX_SCORES = 2**23


@torch.no_grad()
def retrieval_accuracy(
    source: Tensor, target: Tensor, scoring: str = "cosine", k: int = 4, max_scores: int = MAX_SCORES
) -> tuple[float, float]:
    """Percent of sentences whose best-scored sentence on the other side is their own translation.

    Ties count against, so vectors that have collapsed or are not finite score 0.

    Args:
        source, target: (N, C), row i of one translates row i of the other; of any float type.
        scoring: "cosine", or "margin": the cosine over the mean cosine of both sentences to their k nearest
            neighbours on the other side (ratio margin; Artetxe and Schwenk 2019, arXiv 1811.01136).
        k: neighbours for the margin.
        max_scores: scores held at once, whatever N is.

    Returns:
        (source → target, target → source), each in percent.

    Raises:
        ValueError: unequal shapes, no sentences, or an unknown scoring.
    """
    if source.dim() != 2 or source.shape != target.shape or not len(source):
        raise ValueError(f"need two (N, C) with N > 0, not {tuple(source.shape)} and {tuple(target.shape)}")
    if scoring not in SCORINGS:
        raise ValueError(f"unknown scoring {scoring!r}: one of {', '.join(SCORINGS)}")
    source, target = F.normalize(source.double(), dim=1), F.normalize(target.double(), dim=1)
    rows = max(1, max_scores // len(source))
    near_source = near_target = None
    if scoring == "margin":
        near_source = mean_nearest(source, target, k, rows)  # (N,)
        near_target = mean_nearest(target, source, k, rows)  # (N,)
    return (
        percent_found(source, target, near_source, near_target, rows),
        percent_found(target, source, near_target, near_source, rows),
    )


def mean_nearest(query: Tensor, key: Tensor, k: int, rows: int) -> Tensor:
    """(N,): mean cosine of each query to its k nearest keys (all of them where there are fewer)."""
    k = min(k, len(key))
    return torch.cat([(chunk @ key.T).topk(k, dim=1).values.mean(dim=1) for chunk in query.split(rows)])


def percent_found(
    query: Tensor, key: Tensor, near_query: Tensor | None, near_key: Tensor | None, rows: int
) -> float:
    """Percent of queries (N, C), of unit length, that score their own key strictly above every other key."""
    found = 0
    for start in range(0, len(query), rows):
        chunk = query[start : start + rows]
        scores = chunk @ key.T  # (rows, N)
        if near_query is not None:
            scores /= (near_query[start : start + rows, None] + near_key) / 2
        own = torch.arange(len(chunk), device=query.device)
        true = scores[own, own + start].clone()
        scores[own, own + start] = -torch.inf
        found += int((true > scores.amax(dim=1) + TIE).sum())
    return 100.0 * found / len(query)
