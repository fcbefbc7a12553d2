"""The pairs that an epoch takes from each corpus."""

import numpy as np


def epoch_counts(sizes: list[int], exponent: float) -> np.ndarray:
    """Number of pairs to take from each corpus, in proportion to size ** exponent; about sum(sizes) in all.

    1 takes every pair once, 0 the same number from each corpus; between, small corpora are seen more often.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    if exponent == 1.0:
        return sizes.astype(np.int64)
    share = sizes**exponent
    return np.maximum(1, np.round(sizes.sum() * share / share.sum())).astype(np.int64)


def epoch_rows(size: int, count: int, seed: int, epoch: int, corpus: int) -> np.ndarray:
    """*count* rows of a corpus of *size*, (count,): whole passes, then a random part that changes with the epoch."""
    passes, rest = divmod(count, size)
    rows = np.tile(np.arange(size), passes)
    if not rest:  # the usual case; saves a shuffle
        return rows
    part = np.random.default_rng((seed, epoch, corpus)).permutation(size)[:rest]
    return np.concatenate([rows, np.sort(part)])
