"""Sentence-level code-switching with English (Pan et al. 2021): choose the language of each half of an example."""

from dataclasses import dataclass

import numpy as np

from ppa_fairseq.data.counter_random import uniform

ENGLISH = "en"
PURPOSE = 0x5C  # keeps these draws apart from others of the same (seed, epoch, index)


@dataclass(frozen=True)
class CodeSwitch:
    """How to mix non-English examples with English.

    Attributes:
        probability: of mixing an example, drawn anew every epoch.
        first, second: make the form whose first (second) half is English; the paper makes both.
    """

    probability: float = 1.0
    first: bool = True
    second: bool = True


@dataclass(frozen=True)
class Mixture:
    """The E examples of one epoch: entry *i* takes its first half from one language and its second from another."""

    first: np.ndarray  # (E,) numbers of languages
    second: np.ndarray  # (E,)
    row: np.ndarray  # (E,) the example's row, the same in every language
    group: np.ndarray  # (E,) ascending; the two mixed forms of one example are one group


def mix(
    languages: list[str],
    rows: dict[str, np.ndarray],
    english_rows: np.ndarray,
    switch: CodeSwitch | None,
    seed: int,
    epoch: int,
) -> Mixture:
    """Return all examples unmixed, and the mixed forms of the non-English ones.

    Args:
        languages: an entry's numbers are positions in this list; with *switch*, English is one of them.
        rows: the rows to train on, by language; ascending.
        english_rows: the rows that exist in English, ascending; only these have mixed forms.
        switch: None for plain translate-train (or zero-shot, with English alone).
    """
    parts = []  # of (language of the first half, of the second, row, number within the group)
    for language, chosen in rows.items():
        number = languages.index(language)
        parts.append([np.full(len(chosen), number)] * 2 + [chosen, np.zeros(len(chosen), dtype=np.int64)])
        if switch is None or language == ENGLISH:
            continue
        english = languages.index(ENGLISH)
        drawn = uniform(seed, epoch, number, chosen, PURPOSE) < switch.probability
        mixed = chosen[drawn & np.isin(chosen, english_rows, assume_unique=True)]
        forms = [(number, english)] * switch.second + [(english, number)] * switch.first
        first, second = (np.tile(np.array(side), len(mixed)) for side in zip(*forms, strict=True))
        within = np.tile(np.arange(len(forms)), len(mixed))
        parts.append([first, second, np.repeat(mixed, len(forms)), within])
    first, second, row, within = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Mixture(first, second, row, np.cumsum(within == 0) - 1)
