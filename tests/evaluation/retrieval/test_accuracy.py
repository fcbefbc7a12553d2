"""Retrieval accuracy against loops in float64, and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from ppa_fairseq.evaluation.retrieval.accuracy import SCORINGS, retrieval_accuracy

BOTH = pytest.mark.parametrize("scoring", SCORINGS)


def noisy_pairs(count: int, dim: int, seed: int, noise: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(count, dim, generator=generator)
    return source, source + noise * torch.randn(count, dim, generator=generator)


def cosine_loop(a: list[float], b: list[float]) -> float:
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms


def accuracy_loop(source: torch.Tensor, target: torch.Tensor, scoring: str, k: int) -> tuple[float, float]:
    """Artetxe and Schwenk 2019, as loops: the ratio of a cosine to the mean of the 2 k nearest ones."""
    x, y = source.double().tolist(), target.double().tolist()
    cosines = [[cosine_loop(a, b) for b in y] for a in x]
    columns = [list(column) for column in zip(*cosines, strict=True)]
    k = min(k, len(x))

    def score(i, j):
        if scoring == "cosine":
            return cosines[i][j]
        near_x = sum(sorted(cosines[i], reverse=True)[:k]) / (2 * k)
        near_y = sum(sorted(columns[j], reverse=True)[:k]) / (2 * k)
        return cosines[i][j] / (near_x + near_y)

    every = range(len(x))
    forward = sum(all(score(i, i) > score(i, j) for j in every if j != i) for i in every)
    backward = sum(all(score(j, j) > score(i, j) for i in every if i != j) for j in every)
    return 100 * forward / len(x), 100 * backward / len(x)


@BOTH
@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 24), seed=st.integers(0, 10**6), k=st.integers(1, 6), rows=st.integers(1, 30))
def test_equals_float64_loop_at_any_chunk(scoring, count, seed, k, rows):
    source, target = noisy_pairs(count, 5, seed)
    # Shared direction: embeddings of an encoder are all alike, which keeps the margin's denominator positive.
    source, target = source + 2, target + 2
    measured = retrieval_accuracy(source, target, scoring, k, max_scores=rows * count)
    assert measured == pytest.approx(accuracy_loop(source, target, scoring, k))


def test_cosine_equals_scikit_learn():
    source, target = noisy_pairs(400, 16, seed=1)
    expected = []
    for query, key in ((source, target), (target, source)):
        nearest = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(key.numpy())
        found = nearest.kneighbors(query.numpy(), return_distance=False)[:, 0]
        expected.append(100 * np.mean(found == np.arange(400)))
    assert 20 < min(expected) < max(expected) < 95
    assert retrieval_accuracy(source, target) == pytest.approx(expected)


def test_margin_finds_what_a_hub_hides_from_cosine():
    # Target 0 lies near every source (a hub). The margin, unlike the cosine, discounts it.
    source = torch.eye(4, 5)
    target = 0.4 * torch.eye(4, 5)
    target[:, 4] = 0.9
    target[0] = torch.tensor([1.3, 1.0, 1.0, 1.0, 0.0])
    cosine, _ = retrieval_accuracy(source, target, "cosine")
    margin, _ = retrieval_accuracy(source, target, "margin", k=4)
    assert (cosine, margin) == (25, 100)


def test_directions_are_source_to_target_then_back():
    source = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    target = torch.tensor([[1.0, 0.1], [1.0, 1.2], [1.0, 0.05]])
    # source 0 → target 2, source 1 → 1, source 2 → 1; target 0 → source 0, target 1 → 1, target 2 → 0.
    assert retrieval_accuracy(source, target) == pytest.approx((100 / 3, 200 / 3))


@BOTH
def test_ties_count_against(scoring):
    source, target = noisy_pairs(6, 8, seed=3, noise=0.01)
    assert retrieval_accuracy(source, target, scoring) == (100, 100)
    target[1] = 8 * target[0]  # the same direction: sources 0 and 1 can't tell them apart
    forward, _ = retrieval_accuracy(source, target, scoring)
    assert forward == pytest.approx(400 / 6)


@BOTH
@pytest.mark.parametrize("broken", [0.0, 1.0, math.nan, math.inf])
def test_collapsed_or_broken_vectors_score_zero(scoring, broken):
    vectors = torch.full((9, 4), broken)
    assert retrieval_accuracy(vectors, vectors, scoring) == (0, 0)


@BOTH
def test_vectors_that_are_nearly_alike_are_told_apart(scoring):
    # [CLS] of an unaligned encoder: one large shared direction, cosines of 1 - 1e-7.
    source, target = (3e-4 * side for side in noisy_pairs(60, 8, seed=6))
    source[:, 0], target[:, 0] = 1, 1
    measured = retrieval_accuracy(source, target, scoring)
    assert 20 < min(measured) < 90
    assert measured == pytest.approx(accuracy_loop(source, target, scoring, 4))


@BOTH
def test_equal_texts_are_no_rivals(scoring):
    """Every sentence three times on both sides: the accuracy is that of the different sentences."""
    source, target = noisy_pairs(30, 8, seed=7)
    source, target = source + 1, target + 1
    once = retrieval_accuracy(source, target, scoring)
    assert 20 < min(once) < 95
    numbers = torch.arange(30).repeat(3)
    thrice = source.repeat(3, 1), target.repeat(3, 1)
    for max_scores in (7 * 90, 2**23):
        measured = retrieval_accuracy(*thrice, scoring, max_scores=max_scores, texts=(numbers, numbers))
        assert measured == pytest.approx(once)
    assert retrieval_accuracy(*thrice, scoring) == (0, 0)  # as different sentences they are ties


def test_any_copy_of_the_right_sentence_counts():
    source = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]])
    target = torch.tensor([[1.0, 0.9], [0.1, 1.0], [1.0, 0.0]])  # targets 0 and 2 have one text
    texts = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 0])
    # source 0 finds target 2, a copy of its own; source 2 finds target 1. Copies as queries: 0 and 2 find source 0.
    assert retrieval_accuracy(source, target, texts=texts) == pytest.approx((200 / 3, 200 / 3))
    assert retrieval_accuracy(source, target) == pytest.approx((100 / 3, 200 / 3))
