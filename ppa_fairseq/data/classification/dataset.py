"""One sentence or two in one sequence, with a label; with code-switching, each of the two in its own language."""

from dataclasses import dataclass

import numpy as np
import torch

from ppa_fairseq.data.code_switching import mix
from ppa_fairseq.data.pair_dataset import PairDataset, gather, lengths


@dataclass(frozen=True)
class ClassificationCorpus:
    """One language of one split. For code-switching, row *k* is the translation of row *k* in every other language.

    Attributes:
        sentences: one or two indexed datasets of tokens; each row ends in [SEP].
        label: (rows,) class numbers.
    """

    language: str
    sentences: tuple[torch.utils.data.Dataset, ...]
    label: np.ndarray


class ClassificationDataset(PairDataset):
    """All examples of the training languages, and their mixed forms."""

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's code-switching, a function of (seed, epoch, example)."""
        rows = {one.language: np.arange(len(one.label)) for one in self.corpora if one.language in self.train_langs}
        english_rows = np.arange(len(self.corpora[0].label))
        self.mixture = mix(self.languages, rows, english_rows, self.switch, self.seed, epoch)
        self.group = self.mixture.group
        sides = zip(*(corpus.sentences for corpus in self.corpora), strict=True)  # of all languages
        self.sizes = self.layout.length(
            *(
                gather(list(map(lengths, side)), language, self.mixture.row)
                for side, language in zip(sides, (self.mixture.first, self.mixture.second), strict=False)
            )
        )
        self.language = self.mixture.first if self.by_language else None

    def __getitem__(self, index: int) -> dict:
        mixture, row = self.mixture, self.mixture.row[index]
        first, second = self.corpora[mixture.first[index]], self.corpora[mixture.second[index]]
        sides = zip((first, second), range(len(first.sentences)), strict=False)
        tokens, token_types = self.layout.lay(*(one.sentences[side][row].numpy()[:-1] for one, side in sides))
        return {
            "id": index,
            "language": self.numbers[mixture.first[index]],
            "tokens": torch.from_numpy(tokens),
            "token_types": torch.from_numpy(token_types),
            "target": self.target(first, row, len(tokens)),
        }

    def target(self, corpus: ClassificationCorpus, row: int, length: int) -> torch.Tensor:
        """The class of a row, which is a sequence of *length* tokens."""
        return torch.tensor(corpus.label[row])

    def origin(self, index: int) -> str:
        """Say where an example comes from: "fr/en row 18" has a French first and an English second sentence."""
        first, second = (self.languages[side[index]] for side in (self.mixture.first, self.mixture.second))
        return f"{first}{'' if first == second else '/' + second} row {self.mixture.row[index] + 1}"
