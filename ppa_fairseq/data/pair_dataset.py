"""Examples of two halves (premise and hypothesis, question and context) in several languages, with code-switching."""

from collections.abc import Sequence

import numpy as np
import torch

from ppa_fairseq.data.code_switching import CodeSwitch
from ppa_fairseq.data.grouped_dataset import GroupedDataset
from ppa_fairseq.data.sentence_pairs import PairLayout


class PairDataset(GroupedDataset):
    """What the datasets of XNLI and MLQA share.

    Args:
        corpora: the languages; English first if *switch* needs it.
        numbers: the number of each of them in a batch.
        train_langs: the languages to train on (or to validate).
        layout: how two halves become one sequence.
        switch: how to mix with English; None for validation.
        by_language: make batches of one language each, so that validation can report each language.
    """

    def __init__(
        self,
        corpora: Sequence,
        numbers: list[int],
        train_langs: list[str],
        layout: PairLayout,
        seed: int,
        switch: CodeSwitch | None = None,
        by_language: bool = False,
    ):
        self.corpora = corpora
        self.numbers = numbers
        self.languages = [corpus.language for corpus in corpora]
        self.train_langs = train_langs
        self.layout = layout
        self.seed = seed
        self.switch = switch
        self.by_language = by_language
        self.set_epoch(1)


def lengths(rows: torch.utils.data.Dataset) -> np.ndarray:
    """Return the lengths (rows,) of an indexed dataset, without the [SEP] at the end of each row."""
    return rows.sizes.astype(np.int32) - 1
