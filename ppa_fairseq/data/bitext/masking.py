"""Masking for TLM: 15 % of the tokens, of which 80 % become [MASK], 10 % a random token (Pan et al. 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppa_fairseq.data.counter_random import uniform

# Purposes of random numbers: two purposes give independent numbers at the same position.
INPUT_SHUFFLE, MASK_COUNT, MASK_ORDER, MASK_ACTION, MASK_REPLACEMENT = range(5)


@dataclass(frozen=True)
class MaskingScheme:
    """The share of tokens to mask, the tokens that may be masked, and what replaces them."""

    probability: float
    maskable: np.ndarray  # (V,) bool, False for special tokens and [unused…]
    mask_index: int
    replacements: np.ndarray  # (R,) ids to draw random tokens from: neither special, [unused…] nor [UNK]
    mask_share: float = 0.8  # of the chosen tokens
    random_share: float = 0.1  # of the chosen tokens; the rest stays as it is

    @classmethod
    def for_dictionary(cls, dictionary, probability: float) -> "MaskingScheme":
        """The scheme for a `WordPieceDictionary`."""
        maskable = np.ones(len(dictionary), dtype=bool)
        maskable[dictionary.special_ids()] = False
        return cls(probability, maskable, dictionary.mask(), np.array(dictionary.random_ids()))


def mask_tokens(
    tokens: np.ndarray,  # (T,) of all sequences, one after another
    lengths: Sequence[int] | np.ndarray,  # (B,) of the sequences
    index: np.ndarray,  # (B,) the pair's index in the dataset
    scheme: MaskingScheme,
    seed: int,
    epoch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask *scheme.probability* of each sequence's maskable tokens, as a function of (seed, epoch, index) alone.

    Of n maskable tokens ⌊probability · n + u⌋ are chosen, with u uniform in [0, 1), so that the mean is exact; but at
    least one if n > 0. Returns the tokens after masking (T,), and the chosen positions (M,), ascending.
    """
    sequence = np.repeat(np.arange(len(lengths)), lengths)  # (T,)
    position = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)  # (T,)
    candidates = np.flatnonzero(scheme.maskable[tokens])  # (C,)
    owner = sequence[candidates]  # (C,)
    draw = uniform(seed, epoch, index[owner], MASK_ORDER, position[candidates])  # (C,)
    by_draw = np.lexsort((draw, owner))  # (C,) sequence by sequence, the lowest draw of each first
    available = np.bincount(owner, minlength=len(index))  # (B,) candidates of each sequence
    first = np.cumsum(available) - available  # (B,) where each sequence begins in by_draw
    rank = np.arange(len(candidates)) - first[owner[by_draw]]  # (C,) 0 for the lowest draw of a sequence
    count = np.floor(scheme.probability * available + uniform(seed, epoch, index, MASK_COUNT))  # (B,)
    count = np.clip(count, 1, available)
    chosen = np.sort(candidates[by_draw[rank < count[owner[by_draw]]]])  # (M,)

    pair, at = index[sequence[chosen]], position[chosen]  # (M,) each
    action = uniform(seed, epoch, pair, MASK_ACTION, at)  # (M,)
    replacement = uniform(seed, epoch, pair, MASK_REPLACEMENT, at)  # (M,)
    hidden = action < scheme.mask_share  # (M,) becomes [MASK]
    replaced = ~hidden & (action < scheme.mask_share + scheme.random_share)  # (M,) becomes a random token
    masked = tokens.copy()  # (T,)
    masked[chosen[hidden]] = scheme.mask_index
    random_tokens = (replacement[replaced] * len(scheme.replacements)).astype(np.int64)
    masked[chosen[replaced]] = scheme.replacements[random_tokens]
    return masked, chosen
