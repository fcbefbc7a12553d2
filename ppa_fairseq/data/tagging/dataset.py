"""Tagged words: a class for each word's first token, none for its other tokens and for special tokens."""

from pathlib import Path

import numpy as np
import torch
from fairseq.data import Dictionary

from ppa_fairseq.data.classification.corpora import label_ids
from ppa_fairseq.data.classification.dataset import ClassificationCorpus, ClassificationDataset
from ppa_fairseq.data.indexed import open_indexed
from ppa_fairseq.utils.errors import InputError

NO_CLASS = -1


def load_tagging(
    folder: str, split: str, languages: list[str], labels: Dictionary, words
) -> list[ClassificationCorpus]:
    """Open *split* of every language as corpora whose `label` is a list of (tokens,) classes.

    *words* is the dictionary; the first of *labels* stands for no class. Raises InputError if a file is missing or
    damaged, or sentences and their tags do not fit together.
    """
    return [_load(Path(folder, language), split, labels, words) for language in languages]


def _load(folder: Path, split: str, labels: Dictionary, words) -> ClassificationCorpus:
    tokens, tags = open_indexed(f"{folder}/input0/{split}", words), open_indexed(f"{folder}/label/{split}")
    if not np.array_equal(tokens.sizes, tags.sizes):
        raise InputError(
            f"{folder}, {split}: not one tag for each token; prepare it with `ppa prepare-tagging` and `ppa binarize`"
        )
    classes = label_ids(folder, split, tags, labels) - 1
    rows = np.split(np.maximum(classes, NO_CLASS), np.cumsum(tags.sizes)[:-1])
    return ClassificationCorpus(folder.name, (tokens,), [row[:-1] for row in rows])


class TaggingDataset(ClassificationDataset):
    """Sentences of all training languages. What is over the maximum length is cut off with its tags."""

    join_targets = staticmethod(torch.cat)

    def target(self, corpus: ClassificationCorpus, row: int, length: int) -> torch.Tensor:
        """The classes (L,) of a row's tokens, special tokens included."""
        classes = np.full(length, NO_CLASS)
        classes[1:-1] = corpus.label[row][: length - 2]
        return torch.from_numpy(classes)

    def collater(self, samples: list[dict]) -> dict:
        """Batch sentences: ``target`` (T,), the class of each token or NO_CLASS, and the number of tagged words."""
        batch = super().collater(samples)
        return batch and batch | {"nwords": int((batch["target"] != NO_CLASS).sum())}
