"""Retrieval in validation: sides in their places again, repeated batches, equal sentences."""

import pytest
import torch

from ppa_fairseq.modules.packing import pack
from ppa_fairseq.tasks._validation_retrieval import ValidationRetrieval

VECTORS = torch.eye(4)


def add(validation, ids, queries, keys, query, key, swapped=None):
    """Add a batch of sentences, given as lists of token ids, with their vectors."""
    swapped = torch.tensor(swapped or [False] * len(ids))
    packed = [pack([torch.tensor(row) for row in rows]) for rows in (queries, keys)]
    sample = {"id": torch.tensor(ids), "pair": torch.zeros(len(ids), dtype=torch.int64), "swapped": swapped}
    validation.add(sample | {"net_input": {"key_input": packed[1]}}, packed[0], query, key)


@pytest.mark.parametrize("swapped", [[False, True, False, True], [False] * 4], ids=["swapped", "in order"])
def test_equal_sentences_are_no_rivals_and_are_counted_once(swapped, caplog):
    """Targets 0 and 2 are one sentence with one vector: as rivals they would hide each other."""
    caplog.set_level("INFO")
    sources, targets = [[1], [2], [3], [4]], [[5, 6], [7], [5, 6], [8]]
    source, target = VECTORS.clone(), VECTORS.clone()
    target[0] = target[2] = torch.tensor([1.0, 0.0, 1.0, 0.0])
    sides = zip(sources, targets, swapped, strict=True)
    queries, keys = zip(*((b, a) if swap else (a, b) for a, b, swap in sides), strict=True)
    flip = torch.tensor(swapped)[:, None]
    query, key = torch.where(flip, target, source), torch.where(flip, source, target)
    validation = ValidationRetrieval(["de-en"])
    for _ in range(2):  # two validations
        validation.reset()
        for _ in range(2):  # a rank without data repeats a batch
            add(validation, range(4), queries, keys, query, key, swapped)
        assert len(validation) == 4
        # The equal targets cannot tell sources 0 and 2 apart.
        assert validation.accuracy() == {"retrieval": 75, "retrieval_de-en": 100, "retrieval_en-de": 50}
    assert [record.message for record in caplog.records if "repeat" in record.message] == [
        "retrieval: 1 sentences repeat an earlier one; any copy of the right one counts"
    ]


def test_different_sentences_with_one_vector_are_ties():
    validation = ValidationRetrieval(["de-en"])
    add(validation, [0, 1], [[1], [2]], [[3], [4]], torch.ones(2, 3), torch.ones(2, 3))
    assert set(validation.accuracy().values()) == {0}
