"""Bootstrap intervals, and significance tests of two models on the same examples.

The seed is fixed: the same answers give the same numbers.
"""

from collections.abc import Mapping, Sequence

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2999  # per interval: another seed moves its ends by 1 % of its width
FLIPS = 9999  # per test: the smallest p-value is 2 in 10,000
SEED = 0
BATCH = 100  # resamples in memory at once

INTERVAL = f"{CONFIDENCE:.0%} interval".replace("%", " %")
SETTINGS = {"confidence": CONFIDENCE, "resamples": RESAMPLES, "flips": FLIPS, "seed": SEED}  # of intervals and tests


def independent_samples(by_language: Mapping[str, np.ndarray], translations: bool) -> list[np.ndarray]:
    """The samples to draw from for the average over languages, each of which counts the same.

    Args:
        by_language: a value for each row, (N,) float or bool.
        translations: row i of every language is a translation of the same example. Its answers depend on each other, so
            there is one sample: each row's mean over the languages, (N,). As independent samples, 15 languages would
            look like 15 times as many examples. Otherwise each language is a sample of its own.
    """
    values = [np.asarray(rows, dtype=np.float64) for rows in by_language.values()]
    return [np.mean(values, axis=0)] if translations else values


def mean_interval(samples: Sequence[np.ndarray]) -> tuple[float, float]:
    """Bootstrap interval of the mean of the samples' means, at CONFIDENCE; each sample (N_i,) is resampled by itself.

    It consists of percentiles, which exist even if all values are the same.
    """
    from scipy.stats import bootstrap

    found = bootstrap(
        samples,
        mean_of_means,
        n_resamples=RESAMPLES,
        batch=BATCH,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def mean_of_means(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.mean([sample.mean(axis) for sample in samples], axis=0)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p-value of McNemar's exact test that two models, right (bool) on (N,) examples, are equally good.

    The examples must be independent, as those of one language are.
    """
    from scipy.stats import binomtest

    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flip_test(samples: Sequence[np.ndarray]) -> float:
    """Two-sided p-value that the mean of the samples' means is 0, each sample (N_i,) being differences of two models.

    If the models are equally good, every difference could as well have the other sign (approximate randomisation).
    """
    from scipy.stats import monte_carlo_test

    shares = np.concatenate([sample / (len(sample) * len(samples)) for sample in samples])
    shares = shares[shares != 0]
    if not len(shares):
        return 1.0
    rng = np.random.default_rng(SEED)

    def flipped(size: tuple[int, int]) -> np.ndarray:
        return shares * (2 * rng.integers(2, size=size, dtype=np.int8) - 1)

    found = monte_carlo_test(shares, flipped, np.sum, vectorized=True, n_resamples=FLIPS, batch=BATCH)
    return float(found.pvalue)


def p_cell(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
