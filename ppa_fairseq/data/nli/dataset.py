"""Premise and hypothesis in one sequence; with code-switching, each in its own language."""

from dataclasses import dataclass

import numpy as np
import torch

from ppa_fairseq.data.code_switching import CodeSwitch, mix
from ppa_fairseq.data.grouped_dataset import GroupedDataset
from ppa_fairseq.data.sentence_pairs import PairLayout, collate, gather


@dataclass(frozen=True)
class NLICorpus:
    """One language of one split; row *k* is the translation of row *k* in every other language.

    Attributes:
        premise, hypothesis: indexed datasets of tokens; each row ends in [SEP].
        label: (rows,) class numbers.
    """

    language: str
    premise: torch.utils.data.Dataset
    hypothesis: torch.utils.data.Dataset
    label: np.ndarray


class NLIDataset(GroupedDataset):
    """All examples of the training languages, and their mixed forms.

    Args:
        corpora: the languages; English first if *switch* needs it.
        numbers: the number of each of them in a batch.
        train_langs: the languages to train on (or to validate).
        layout: how two sentences become one sequence.
        switch: see :mod:`~ppa_fairseq.data.code_switching`; None for validation.
        by_language: make batches of one language each, so that validation can report each language.
    """

    def __init__(
        self,
        corpora: list[NLICorpus],
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
        self.layout = layout
        self.seed = seed
        self.switch = switch
        self.by_language = by_language
        self._rows = {
            corpus.language: np.arange(len(corpus.label)) for corpus in corpora if corpus.language in train_langs
        }
        # Without their [SEP].
        self._premise_lengths = [corpus.premise.sizes.astype(np.int32) - 1 for corpus in corpora]
        self._hypothesis_lengths = [corpus.hypothesis.sizes.astype(np.int32) - 1 for corpus in corpora]
        self.set_epoch(1)

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's code-switching, a function of (seed, epoch, example)."""
        english_rows = np.arange(len(self.corpora[0].label))
        self.mixture = mix(self.languages, self._rows, english_rows, self.switch, self.seed, epoch)
        self.group = self.mixture.group
        self.sizes = self.layout.length(
            gather(self._premise_lengths, self.mixture.first, self.mixture.row),
            gather(self._hypothesis_lengths, self.mixture.second, self.mixture.row),
        )
        self.language = self.mixture.first if self.by_language else None

    def __getitem__(self, index: int) -> dict:
        mixture = self.mixture
        first, second, row = self.corpora[mixture.first[index]], self.corpora[mixture.second[index]], mixture.row[index]
        tokens, token_types = self.layout.lay(first.premise[row].numpy()[:-1], second.hypothesis[row].numpy()[:-1])
        return {
            "id": index,
            "language": self.numbers[mixture.first[index]],
            "tokens": torch.from_numpy(tokens),
            "token_types": torch.from_numpy(token_types),
            "label": int(first.label[row]),
        }

    def origin(self, index: int) -> str:
        """Say where an example comes from: "fr/en row 18" has a French premise and an English hypothesis."""
        first, second = (self.languages[side[index]] for side in (self.mixture.first, self.mixture.second))
        return f"{first}{'' if first == second else '/' + second} row {self.mixture.row[index] + 1}"

    def collater(self, samples: list[dict]) -> dict:
        """Batch N examples: ``net_input`` packed, ``target`` (N,), ``language`` (N,) of the premises, counts."""
        if not samples:
            return {}
        return collate(samples) | {"target": torch.tensor([s["label"] for s in samples])}
