"""Premise and hypothesis in one sequence; with code-switching, each in its own language."""

from dataclasses import dataclass

import numpy as np
import torch

from ppa_fairseq.data.code_switching import mix
from ppa_fairseq.data.pair_dataset import PairDataset, gather, lengths


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


class NLIDataset(PairDataset):
    """All examples of the training languages, and their mixed forms."""

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's code-switching, a function of (seed, epoch, example)."""
        rows = {one.language: np.arange(len(one.label)) for one in self.corpora if one.language in self.train_langs}
        english_rows = np.arange(len(self.corpora[0].label))
        self.mixture = mix(self.languages, rows, english_rows, self.switch, self.seed, epoch)
        self.group = self.mixture.group
        self.sizes = self.layout.length(
            gather([lengths(corpus.premise) for corpus in self.corpora], self.mixture.first, self.mixture.row),
            gather([lengths(corpus.hypothesis) for corpus in self.corpora], self.mixture.second, self.mixture.row),
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
            "target": torch.tensor(first.label[row]),
        }

    def origin(self, index: int) -> str:
        """Say where an example comes from: "fr/en row 18" has a French premise and an English hypothesis."""
        first, second = (self.languages[side[index]] for side in (self.mixture.first, self.mixture.second))
        return f"{first}{'' if first == second else '/' + second} row {self.mixture.row[index] + 1}"
