"""Scores of tags: the accuracy of words, and the F1 of entities by seqeval where the tags are IOB."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from ppa_fairseq.data.tagging.prepare import UNTAGGED
from ppa_fairseq.utils.extras import load_extra

IOB = re.compile(r"O|[BI]-.+")
Tags = Sequence[Sequence[str | None]]  # of the words of N sentences; None: no prediction


def are_iob(tags: Iterable[str]) -> bool:
    """Whether all *tags* are of the IOB format, and one is of an entity."""
    tags = set(tags)
    return tags > {"O"} and all(map(IOB.fullmatch, tags))


def right_words(gold: Tags, predicted: Tags) -> tuple[np.ndarray, np.ndarray]:
    """Words with the right tag, and words with a tag, of each sentence, (N,) each: accuracy is the sums' ratio."""
    pairs = [
        [(one, other) for one, other in zip(*tags, strict=True) if one != UNTAGGED]
        for tags in zip(gold, predicted, strict=True)
    ]
    return np.array([sum(one == other for one, other in rows) for rows in pairs]), np.array(list(map(len, pairs)))


def right_entities(gold: Tags, predicted: Tags) -> tuple[np.ndarray, np.ndarray]:
    """Twice the right entities, and the true and predicted ones, of each sentence, (N,) each: F1 is the sums' ratio.

    Entities are seqeval's: lenient, as in CoNLL's script. No prediction is O.
    """
    get_entities = load_extra("seqeval.metrics.sequence_labeling", "tagging", "F1 of entities").get_entities
    true, found = (
        [set(get_entities([tag or "O" for tag in tags])) for tags in sentences] for sentences in (gold, predicted)
    )
    both = [2 * len(one & other) for one, other in zip(true, found, strict=True)]
    return np.array(both), np.array([len(one) + len(other) for one, other in zip(true, found, strict=True)])
