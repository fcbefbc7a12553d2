"""Precision, recall and F1 against BUCC's gold, where F1 is best and at a margin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppa_fairseq.evaluation.mining.gold import accuracy_at, best_accuracy, read_gold
from ppa_fairseq.evaluation.mining.sentences import text_hash
from ppa_fairseq.utils.errors import InputError


def by_hand(margin, pairs, gold):
    """Precision, recall and F1 in percent of the (margin, right) at or above a margin."""
    kept = [right for other, right in pairs if other >= margin]
    if not kept or not sum(kept):
        return 0.0, 0.0, 0.0
    precision, recall = sum(kept) / len(kept), sum(kept) / gold
    return 100 * precision, 100 * recall, 200 * precision * recall / (precision + recall)


@given(st.lists(st.tuples(st.sampled_from([0.5, 0.9, 1.0, 1.1, 1.25]), st.booleans()), min_size=1, max_size=12))
def test_best_threshold_is_that_of_all_thresholds(pairs):
    pairs = sorted(pairs, key=lambda pair: -pair[0])
    margins, right = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    gold = int(right.sum()) + 2
    best = best_accuracy(margins, right, gold)
    assert best.f1 == pytest.approx(max(by_hand(margin, pairs, gold)[2] for margin, _ in pairs))
    assert best[1:4] == pytest.approx(by_hand(best.margin, pairs, gold))
    assert best.pairs == (margins >= best.margin).sum()
    for margin in (0.95, 1.1, 2.0):
        assert accuracy_at(margin, margins, right, gold)[1:4] == pytest.approx(by_hand(margin, pairs, gold))


@pytest.fixture
def corpus(tmp_path):
    paths = tmp_path / "x.de", tmp_path / "x.en"
    paths[0].write_text("de-1\teins\nde-2\tzwei\nde-3\teins\n")
    paths[1].write_text("en-1\tone\nen-2\ttwo\n")
    return paths


@pytest.mark.parametrize(
    "lines", ["de-1\ten-1\nde-3\ten-1\n", "en-1\tde-1\n", "de-3 en-1\n\n"], ids=["", "swapped", ""]
)
def test_gold_pairs_are_those_of_the_texts(corpus, tmp_path, lines):
    (tmp_path / "gold").write_text(lines)
    assert read_gold(tmp_path / "gold", corpus) == {(text_hash("eins"), text_hash("one"))}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("de-1\n", "gold:1: 1 words; expected the ids"),
        ("de-1 en-1\nde-9 en-1\n", "gold:2: no sentence with the id de-9 in .*x.de"),
        ("", "gold: no pairs in it"),
    ],
)
def test_bad_gold_is_named(corpus, tmp_path, lines, message):
    (tmp_path / "gold").write_text(lines)
    with pytest.raises(InputError, match=message):
        read_gold(tmp_path / "gold", corpus)
