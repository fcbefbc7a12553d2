"""Intervals and tests against formulas, exact enumeration, and what they promise over many draws."""

import math

import numpy as np
import pytest
from scipy.stats import permutation_test

from ppa_fairseq.evaluation.significance import independent_samples, mcnemar, mean_interval, sign_flip_test


def answers(count: int, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(count) < share


@pytest.mark.parametrize("share", [0.35, 0.7, 0.97])
def test_interval_of_an_accuracy_is_the_binomial_one(share):
    right = answers(4000, share, seed=1)
    mean = right.mean()
    half = 1.96 * math.sqrt(mean * (1 - mean) / len(right))
    assert mean_interval([right]) == pytest.approx((mean - half, mean + half), abs=half / 15)


def test_languages_count_the_same_whatever_their_number_of_rows():
    large, small = answers(3000, 0.9, seed=2), answers(300, 0.5, seed=3)
    samples = independent_samples({"en": large, "sw": small}, translations=False)
    mean = (large.mean() + small.mean()) / 2
    half = 1.96 * math.sqrt(large.var() / len(large) + small.var() / len(small)) / 2
    assert mean_interval(samples) == pytest.approx((mean - half, mean + half), abs=half / 15)


def test_translations_are_one_sample():
    """Fifteen languages that answer alike tell no more than one of them; fifteen unrelated ones do."""
    right = {f"l{i}": answers(500, 0.6, seed=4) for i in range(15)}
    together = mean_interval(independent_samples(right, translations=True))
    assert together == pytest.approx(mean_interval([right["l0"]]))
    apart = mean_interval(independent_samples(right, translations=False))
    width = together[1] - together[0]
    assert apart[1] - apart[0] == pytest.approx(width / math.sqrt(15), rel=0.1)


@pytest.mark.parametrize("value", [0, 1])
def test_all_alike_is_an_interval_of_one_point(value):
    assert mean_interval([np.full(10, bool(value))]) == (value, value)


def test_mcnemar_is_the_exact_binomial_sum():
    rng = np.random.default_rng(5)
    for _ in range(20):
        first, second = rng.random((2, 40)) < rng.random((2, 1))
        gained, lost = sum(second & ~first), sum(first & ~second)
        discordant = gained + lost
        tail = sum(math.comb(discordant, k) for k in range(min(gained, lost) + 1))
        expected = min(1, 2 * tail / 2**discordant)
        assert mcnemar(first, second) == pytest.approx(expected) == pytest.approx(mcnemar(second, first))
    assert mcnemar(first, first) == 1


@pytest.mark.parametrize("shift", [0, 0.3, 0.6])
def test_sign_flips_are_what_all_of_them_give(shift):
    differences = np.random.default_rng(6).normal(shift, 0.5, 13)
    every = permutation_test(
        [differences], lambda sample, axis: sample.mean(axis), permutation_type="samples", vectorized=True
    )
    assert every.null_distribution.size == 2**13
    assert sign_flip_test([differences]) == pytest.approx(every.pvalue, abs=0.015)
    assert sign_flip_test([-differences]) == pytest.approx(every.pvalue, abs=0.015)


def test_sign_flips_weigh_samples_the_same():
    """A gain in the small sample, none in the large one: as if each had been given as often."""
    small, large = np.array([1.0] * 4 + [0.0] * 4), np.random.default_rng(7).choice([-1.0, 0, 1], 64)
    weighted = np.concatenate([small / 8, large / 64])
    rng = np.random.default_rng(8)
    sums = np.array([(weighted * rng.choice([-1, 1], len(weighted))).sum() for _ in range(20_000)])
    expected = (np.abs(sums) >= abs(weighted.sum()) - 1e-12).mean()
    assert sign_flip_test([small, large]) == pytest.approx(expected, abs=0.02)


def test_equal_models_are_rarely_told_apart_and_unequal_ones_mostly():
    def share_found(gain: float, by_row: bool = True) -> float:
        found = 0
        for seed in range(150):
            rng = np.random.default_rng(seed)
            hard = rng.random((2, 40, 1))  # what is hard for a model is so in each of a row's 5 languages
            first, second = hard * rng.random((2, 40, 5))
            differences = (second < 0.2 + gain).astype(float) - (first < 0.2)
            found += sign_flip_test([differences.mean(1) if by_row else differences.ravel()]) < 0.05
        return found / 150

    assert 0.01 <= share_found(0) <= 0.1
    assert share_found(0, by_row=False) > 0.15  # why rows are kept whole
    assert share_found(0.2) > 0.8


def test_no_difference_at_all_is_no_evidence():
    assert sign_flip_test([np.zeros(30)]) == sign_flip_test([np.zeros(3), np.zeros(9)]) == 1


def test_numbers_repeat_whatever_was_drawn_before():
    differences = np.random.default_rng(9).normal(0.1, 1, 200)
    before = mean_interval([differences]), sign_flip_test([differences])
    np.random.random(7)
    assert (mean_interval([differences]), sign_flip_test([differences])) == before
