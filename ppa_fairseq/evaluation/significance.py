"""Bootstrap intervals, and a significance test of two models on the same examples.

The seed is fixed: the same answers give the same numbers.
"""

from collections.abc import Hashable, Sequence
from statistics import fmean

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2999  # per interval: another seed moves its ends by 1 % of its width
FLIPS = 9999  # per test: the smallest p-value is 2 in 10,000
SEED = 0
BATCH = 100  # resamples in memory at once

INTERVAL = "95 % interval"
SETTINGS = {"confidence": CONFIDENCE, "resamples": RESAMPLES, "flips": FLIPS, "seed": SEED}  # of intervals and tests

Values = tuple[Sequence[Hashable], np.ndarray]  # ids of a set's N examples, and a value for each, (N,)


def mean_of_means(sets: Sequence[Values]) -> float:
    """The average over sets, each of which counts the same."""
    return fmean(values.mean() for _, values in sets)


def interval(sets: Sequence[Values]) -> tuple[float, float] | None:
    """Bootstrap interval of the average over `sets`, at CONFIDENCE; None for a single example.

    The ids are resampled. An example that is in several sets, translated, is one example: its answers depend on each
    other, and 15 translations would otherwise look like 15 times as many examples.
    """
    from scipy.stats import bootstrap

    centred = by_example([(ids, values - values.mean()) for ids, values in sets])
    if len(centred) < 2:
        return None
    rng = np.random.default_rng(SEED)
    settings = {"n_resamples": RESAMPLES, "batch": BATCH, "confidence_level": CONFIDENCE, "rng": rng}
    found = bootstrap([centred], np.mean, method="percentile", **settings)  # exists even if all values are the same
    centre = mean_of_means(sets)
    return centre + float(found.confidence_interval.low), centre + float(found.confidence_interval.high)


def by_example(sets: Sequence[Values]) -> np.ndarray:
    """A value for each of the N different ids, (N,): the sum of its shares in the sets. The mean is the sets' average.

    For an interval the sets must be centred, or it would also cover how many sets an example happens to be in.
    """
    places = {name: place for place, name in enumerate(dict.fromkeys(name for ids, _ in sets for name in ids))}
    total = np.zeros(len(places))
    for ids, values in sets:
        total[[places[name] for name in ids]] += np.asarray(values, float) * len(places) / (len(values) * len(sets))
    return total


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Values of N examples whose mean is the ratio of two sums over them, as F1 and the accuracy of words are.

    To first order, their bootstrap is the ratio's (the delta method). Nothing over nothing is 0.
    """
    if not denominators.any():
        return np.zeros(len(denominators))
    mean = numerators.sum() / denominators.sum()
    return mean + (numerators - mean * denominators) / denominators.mean()


def differences(sets: Sequence[Values], base: Sequence[Values]) -> list[Values]:
    """The values of `sets` minus those of `base`, on the same examples."""
    return [(ids, np.asarray(values, float) - first) for (ids, values), (_, first) in zip(sets, base, strict=True)]


def sign_flip_test(sets: Sequence[Values]) -> float:
    """Two-sided p-value that the average over `sets`, of differences between two models, is 0.

    If the models are equally good, the difference on an example could as well have the other sign (approximate
    randomisation).
    """
    from scipy.stats import monte_carlo_test

    shares = by_example(sets)
    shares = shares[shares != 0]
    if not len(shares):
        return 1.0
    rng = np.random.default_rng(SEED)

    def flipped(size: tuple[int, int]) -> np.ndarray:
        return shares * (2 * rng.integers(2, size=size, dtype=np.int8) - 1)

    found = monte_carlo_test(shares, flipped, np.sum, vectorized=True, n_resamples=FLIPS, batch=BATCH)
    return float(found.pvalue)


def percent_cell(percent: float, low: float | None, high: float | None) -> str:
    """A percentage, with its interval if there is one."""
    return f"{percent:.1f}" + ("" if low is None else f" [{low:.1f}, {high:.1f}]")


def gain_cell(gain: float, p_value: float) -> str:
    return f"{gain:+.1f} ({p_cell(p_value)})"


def p_cell(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
