"""Candidates and margins are those of sentence-transformers' bitext mining, by brute force."""

import numpy as np
import pytest

from ppa_fairseq.evaluation.mining.margins import mine
from ppa_fairseq.evaluation.mining.search import neighbour_type


def corpora(first=150, second=200, shared=80, dim=24, seed=0):
    """Unit vectors of two sides; the first `shared` of both are translations."""
    rng = np.random.default_rng(seed)
    sides = [rng.standard_normal((count, dim)) for count in (first, second)]
    sides[1][:shared] = sides[0][:shared] + 0.6 * rng.standard_normal((shared, dim))
    return [(side / np.linalg.norm(side, axis=1, keepdims=True)).astype(np.float32) for side in sides]


def neighbours(queries, keys, k):
    cosines = queries @ keys.T
    found = np.zeros(len(queries), dtype=neighbour_type(k))
    found["key"] = np.argsort(-cosines, axis=1)[:, :k]
    found["cosine"] = np.take_along_axis(cosines, found["key"], 1)
    return found


def published_mining(first, second, k):
    """The arithmetic of sentence-transformers' example bitext_mining.py, a sentence at a time, in Python."""

    def cosine(i, j):
        return sum(float(a) * float(b) for a, b in zip(first[i], second[j], strict=True))

    table = [[cosine(i, j) for j in range(len(second))] for i in range(len(first))]
    columns = list(zip(*table, strict=True))
    mean_forward = [sum(sorted(row)[-k:]) / k for row in table]
    mean_backward = [sum(sorted(column)[-k:]) / k for column in columns]

    def margin(i, j):
        return table[i][j] / ((mean_forward[i] + mean_backward[j]) / 2)

    candidates = []
    for i, row in enumerate(table):
        near = sorted(range(len(row)), key=lambda j: -row[j])[:k]
        candidates.append(max((margin(i, j), i, j) for j in near))
    for j, column in enumerate(columns):
        near = sorted(range(len(column)), key=lambda i: -column[i])[:k]
        candidates.append(max((margin(i, j), i, j) for i in near))
    seen_first, seen_second, pairs = set(), set(), []
    for score, i, j in sorted(candidates, reverse=True):
        if i not in seen_first and j not in seen_second:
            seen_first.add(i)
            seen_second.add(j)
            pairs.append((i, j, score))
    return pairs


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("sizes", [(150, 200), (200, 120)], ids=["fewer first", "more first"])
def test_candidates_and_margins_are_the_published_ones(k, sizes):
    first, second = corpora(*sizes)
    expected = published_mining(first, second, k)
    found = mine(neighbours(first, second, k), neighbours(second, first, k))
    assert list(zip(found.first, found.second, strict=True)) == [pair[:2] for pair in expected]
    np.testing.assert_allclose(found.margin, [score for *_, score in expected], rtol=1e-5)
    assert sum(i == j < 80 for i, j in zip(found.first, found.second, strict=True)) > 60


def test_a_neighbour_that_was_not_found_is_no_candidate():
    first, second = corpora()
    forward, backward = neighbours(first, second, 4), neighbours(second, first, 4)
    forward["key"][3], forward["cosine"][3] = -1, -np.inf
    forward["key"][5, 2:] = -1
    backward["key"][backward["key"] == 3] = -1
    found = mine(forward, backward)
    assert 3 not in found.first and (found.second >= 0).all() and np.isfinite(found.margin).all()
