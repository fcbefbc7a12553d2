"""Mined pairs against a gold list of pairs of ids, as BUCC publishes it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppa_fairseq.data.text_files import numbered_lines
from ppa_fairseq.evaluation.mining.sentences import read_sentences, text_hash
from ppa_fairseq.utils.errors import InputError


class Accuracy(NamedTuple):
    """In percent, of the pairs with this margin or more."""

    margin: float
    precision: float
    recall: float
    f1: float
    pairs: int


def read_gold(path: Path, texts: tuple[Path, Path]) -> set[tuple[int, int]]:
    """The gold pairs as hashes of both texts, so that any copy of a sentence counts.

    Raises InputError if a line is not two ids, or an id is not in *texts*.
    """
    pairs = []
    for where, line in numbered_lines(path):
        if line.strip():
            ids = line.split()
            if len(ids) != 2:
                raise InputError(f"{where}: {len(ids)} words; expected the ids of two sentences, as BUCC's gold has")
            pairs.append((where, *ids))
    wanted = {own_id for _, *ids in pairs for own_id in ids}
    hashes = [
        {own_id: text_hash(text) for own_id, text in read_sentences(text_path) if own_id in wanted}
        for text_path in texts
    ]
    if pairs and pairs[0][1] in hashes[1] and pairs[0][2] in hashes[0]:  # the other language first
        pairs = [(where, second, first) for where, first, second in pairs]
    for where, *ids in pairs:
        for own_id, known, text_path in zip(ids, hashes, texts, strict=True):
            if own_id not in known:
                raise InputError(f"{where}: no sentence with the id {own_id} in {text_path} (lines of id, tab, text)")
    if not pairs:
        raise InputError(f"{path}: no pairs in it; give BUCC's gold, two ids a line")
    return {(hashes[0][first], hashes[1][second]) for _, first, second in pairs}


def accuracy_by_margin(margins: np.ndarray, right: np.ndarray, gold: int) -> tuple[np.ndarray, ...]:
    """Precision, recall and F1, (P,) each, if the list were cut behind each pair; *margins* descend.

    *right* (P,) says which pairs are among the *gold* ones.
    """
    found = np.cumsum(right)
    precision, recall = found / np.arange(1, len(right) + 1), found / gold
    return precision, recall, 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def best_accuracy(margins: np.ndarray, right: np.ndarray, gold: int) -> Accuracy:
    """Where F1 is best; equal margins are cut together. The margin lies halfway to the next pair's."""
    if not len(margins):
        return Accuracy(1.0, 0.0, 0.0, 0.0, 0)
    precision, recall, f1 = accuracy_by_margin(margins, right, gold)
    last = np.append(margins[:-1] > margins[1:], True)  # of its margin
    place = int(np.argmax(np.where(last, f1, -1)))
    following = margins[place + 1] if place + 1 < len(margins) else margins[place]
    margin = (float(margins[place]) + float(following)) / 2
    return Accuracy(margin, *(100 * float(one[place]) for one in (precision, recall, f1)), place + 1)


def accuracy_at(margin: float, margins: np.ndarray, right: np.ndarray, gold: int) -> Accuracy:
    """With all pairs of *margin* or more."""
    pairs = int((margins >= margin).sum())
    if not pairs:
        return Accuracy(margin, 0.0, 0.0, 0.0, 0)
    return Accuracy(margin, *(100 * float(one[pairs - 1]) for one in accuracy_by_margin(margins, right, gold)), pairs)
