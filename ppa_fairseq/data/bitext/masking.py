"""Which tokens of a TLM sequence are hidden, and behind what (Pan et al. 2021; BERT's 80/10/10)."""

from dataclasses import dataclass

import numpy as np

from ppa_fairseq.data.counter_random import uniform

# What a random number is drawn for: distinct purposes give independent numbers at the same position.
INPUT_SHUFFLE, MASK_COUNT, MASK_ORDER, MASK_ACTION, MASK_REPLACEMENT = range(5)


@dataclass(frozen=True)
class MaskingScheme:
    """How TLM masks: the share of tokens, which they may be, the mask's id, and what may be drawn as a replacement."""

    probability: float
    maskable: np.ndarray  # (V,) bool, False for specials and [unused…] entries
    mask_index: int
    replacements: np.ndarray  # (R,) ids, without these and [UNK]
    mask_share: float = 0.8
    random_share: float = 0.1

    @classmethod
    def for_dictionary(cls, dictionary, probability: float) -> "MaskingScheme":
        maskable = np.ones(len(dictionary), dtype=bool)
        maskable[dictionary.special_ids()] = False
        return cls(probability, maskable, dictionary.mask(), np.array(dictionary.random_ids()))


def mask_tokens(
    tokens: np.ndarray,  # (T,) all sequences, one after another
    sequence: np.ndarray,  # (T,) number of the sequence, 0 … B - 1, ascending
    position: np.ndarray,  # (T,) position in the sequence, from 0
    index: np.ndarray,  # (B,) the data set's index of each sequence
    scheme: MaskingScheme,
    seed: int,
    epoch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Hide *scheme.probability* of each sequence's maskable tokens; a function of (seed, epoch, index) alone.

    The number hidden in a sequence of n maskable tokens is ⌊probability · n + u⌋ with u uniform, so that its mean is
    exact, and at least one where n > 0.

    Returns:
        the tokens after masking (T,), and the places that were chosen (M,), ascending.
    """
    candidates = np.flatnonzero(scheme.maskable[tokens])  # (C,)
    owner = sequence[candidates]  # (C,)
    drawn = uniform(seed, epoch, index[owner], MASK_ORDER, position[candidates])  # (C,)
    by_draw = np.lexsort((drawn, owner))  # within each sequence, in the order of the draws
    available = np.bincount(owner, minlength=len(index))  # (B,)
    first = np.cumsum(available) - available  # (B,) where each sequence starts in by_draw
    rank = np.arange(len(candidates)) - first[owner[by_draw]]  # (C,)
    wanted = np.floor(scheme.probability * available + uniform(seed, epoch, index, MASK_COUNT))  # (B,)
    wanted = np.clip(wanted, 1, available)
    chosen = np.sort(candidates[by_draw[rank < wanted[owner[by_draw]]]])  # (M,)

    where = (seed, epoch, index[sequence[chosen]])
    action = uniform(*where, MASK_ACTION, position[chosen])  # (M,)
    replacement = uniform(*where, MASK_REPLACEMENT, position[chosen])  # (M,)
    masked = tokens.copy()
    hidden = action < scheme.mask_share
    replaced = ~hidden & (action < scheme.mask_share + scheme.random_share)
    masked[chosen[hidden]] = scheme.mask_index
    masked[chosen[replaced]] = scheme.replacements[
        (replacement[replaced] * len(scheme.replacements)).astype(np.int64)
    ]
    return masked, chosen
