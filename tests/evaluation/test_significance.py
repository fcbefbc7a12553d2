"""Intervals and tests against formulas, exact enumeration, and what they promise over many draws."""

import math

import numpy as np
import pytest
from scipy.stats import permutation_test

from ppa_fairseq.evaluation.significance import by_example, interval, mean_of_means, ratio, sign_flip_test


def answers(count: int, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(count) < share


def one_set(values, start=0):
    return range(start, start + len(values)), np.asarray(values, dtype=float)


@pytest.mark.parametrize("share", [0.35, 0.7, 0.97])
def test_interval_of_an_accuracy_is_the_binomial_one(share):
    right = answers(4000, share, seed=1)
    mean = right.mean()
    half = 1.96 * math.sqrt(mean * (1 - mean) / len(right))
    assert interval([one_set(right)]) == pytest.approx((mean - half, mean + half), abs=half / 15)


def test_sets_count_the_same_whatever_their_number_of_rows():
    large, small = answers(3000, 0.9, seed=2), answers(300, 0.5, seed=3)
    sets = [one_set(large), one_set(small, start=3000)]
    mean = (large.mean() + small.mean()) / 2
    half = 1.96 * math.sqrt(large.var() / len(large) + small.var() / len(small)) / 2
    assert mean_of_means(sets) == pytest.approx(mean)
    assert interval(sets) == pytest.approx((mean - half, mean + half), abs=half / 15)


def test_a_ratio_of_sums_has_its_own_bootstrap():
    """Against resampling the two sums together; without words there is no error."""
    rng = np.random.default_rng(1)
    words = rng.integers(1, 40, 400)
    right = rng.binomial(words, rng.uniform(0.4, 1, 400))
    values = ratio(right, words)
    assert values.mean() == pytest.approx(right.sum() / words.sum())
    drawn = rng.integers(400, size=(4000, 400))
    shares = right[drawn].sum(1) / words[drawn].sum(1)
    assert interval([one_set(values)]) == pytest.approx(list(np.percentile(shares, [2.5, 97.5])), abs=0.002)
    assert ratio(np.zeros(3), np.zeros(3)).tolist() == [0, 0, 0]


def test_translations_are_one_example():
    """Fifteen languages with the same answers say no more than one of them; fifteen unrelated ones do."""
    right = answers(500, 0.6, seed=4)
    together = interval([one_set(right)] * 15)
    assert together == pytest.approx(interval([one_set(right)]))
    apart = interval([one_set(right, start=500 * i) for i in range(15)])
    assert apart[1] - apart[0] == pytest.approx((together[1] - together[0]) / math.sqrt(15), rel=0.1)


def test_intervals_of_averages_equal_a_plain_bootstrap_over_ids():
    rng = np.random.default_rng(1)
    ease = rng.random(300)
    sets = []
    for size in (300, 200, 120):
        members = rng.choice(300, size, replace=False)
        sets.append((members.tolist(), 100.0 * (rng.random(size) < ease[members])))
    assert by_example(sets).mean() == pytest.approx(mean_of_means(sets))
    means = []
    for _ in range(4000):
        weights = np.bincount(rng.integers(300, size=300), minlength=300)
        means.append(np.mean([np.average(values, weights=weights[ids]) for ids, values in sets]))
    assert interval(sets) == pytest.approx(list(np.percentile(means, [2.5, 97.5])), abs=0.4)


def test_extreme_samples_have_extreme_intervals():
    assert interval([one_set(np.ones(10))]) == (1, 1)
    assert interval([one_set([1])]) is None
    assert sign_flip_test([one_set(np.zeros(30))]) == 1


def test_sign_flips_of_two_models_on_one_set_approximate_the_exact_binomial_test():
    """McNemar's test: where only one of two models is right, each is equally likely to be."""
    rng = np.random.default_rng(5)
    for _ in range(5):
        first, second = rng.random((2, 40)) < rng.random((2, 1))
        gained, lost = sum(second & ~first), sum(first & ~second)
        tail = sum(math.comb(gained + lost, k) for k in range(min(gained, lost) + 1))
        expected = min(1, 2 * tail / 2 ** (gained + lost))
        assert sign_flip_test([one_set(second * 1.0 - first)]) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("shift", [0, 0.3, 0.6])
def test_sign_flips_approximate_the_test_of_all_flips(shift):
    values = np.random.default_rng(6).normal(shift, 0.5, 13)
    every = permutation_test(
        [values], lambda sample, axis: sample.mean(axis), permutation_type="samples", vectorized=True
    )
    assert every.null_distribution.size == 2**13
    assert sign_flip_test([one_set(values)]) == pytest.approx(every.pvalue, abs=0.015)
    assert sign_flip_test([one_set(-values)]) == pytest.approx(every.pvalue, abs=0.015)


def test_sign_flips_weigh_sets_the_same():
    """A gain in the small set, none in the large one."""
    small, large = np.array([1.0] * 4 + [0.0] * 4), np.random.default_rng(7).choice([-1.0, 0, 1], 64)
    weighted = np.concatenate([small / 8, large / 64])
    rng = np.random.default_rng(8)
    sums = np.array([(weighted * rng.choice([-1, 1], len(weighted))).sum() for _ in range(20_000)])
    expected = (np.abs(sums) >= abs(weighted.sum()) - 1e-12).mean()
    assert sign_flip_test([one_set(small), one_set(large, start=8)]) == pytest.approx(expected, abs=0.02)


def test_numbers_repeat_whatever_was_drawn_before():
    sets = [one_set(np.random.default_rng(9).normal(0.1, 1, 200))]
    before = interval(sets), sign_flip_test(sets)
    np.random.random(7)
    assert (interval(sets), sign_flip_test(sets)) == before
