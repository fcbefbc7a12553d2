"""Which texts are equal, and when the lines of two sides probably do not belong together."""

import random

import pytest

from ppa_fairseq.data.bitext.checks import length_correlation
from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.evaluation.retrieval.pair_sets import order_warning, text_numbers

PAIR = Bitext("de", "en", [])
CHANCE, ABOVE = [0.5, 1.0], [0.5, 30.0]  # accuracies in percent


def translations(count: int) -> tuple[list[str], list[str]]:
    """Sentences of 2 to 12 words, and as many words on the other side, give or take one."""
    rng = random.Random(0)
    lengths = [rng.randint(2, 12) for _ in range(count)]
    german = [" ".join(rng.choices("der Die das ein".split(), k=length + rng.randint(0, 1))) for length in lengths]
    return german, [" ".join(rng.choices("the A an to of in".split(), k=length)) for length in lengths]


def test_equal_texts_have_one_number():
    texts = ["a b", "c", " a  b", "caf\u00e9", "cafe\u0301", "A b", "c"]
    assert text_numbers(texts).tolist() == [0, 1, 0, 2, 2, 3, 1]


KEYS = {"bytes": None, "case": str.casefold, "locale": lambda text: text.replace(" ", "").casefold()}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_sorted_side_is_warned_of(key):
    source, target = translations(200)
    by_one = sorted(target, key=key)
    assert "the en side is sorted and the de side is not" in order_warning(PAIR, (source, by_one), CHANCE)
    assert "the de side is sorted" in order_warning(PAIR, (sorted(source, key=key), target), CHANCE)
    assert order_warning(PAIR, (source, by_one), ABOVE) is None
    assert order_warning(PAIR, (source[:19], sorted(target[:19], key=key)), [0.0]) is None  # too few to judge


def test_a_sorted_side_is_warned_of_where_lengths_correlate_by_chance():
    """Of sets of 25 wrong pairs, every sixth has a correlation of over 0.2."""
    source = ["x" * (20 + number * 7 % 11) for number in range(25)]
    target = [chr(97 + number) * (20 + number * 7 % 11 + number * 3 % 17) for number in range(25)]
    assert length_correlation(source, target) == pytest.approx(0.31, abs=0.01)
    assert "the en side is sorted" in order_warning(PAIR, (source, target), [4.0])
    assert order_warning(PAIR, (source[::-1], target[::-1]), [4.0]) is None  # descends


def test_pairs_that_are_sorted_together_are_right():
    source, target = map(list, zip(*sorted(zip(*translations(200), strict=True)), strict=True))
    assert order_warning(PAIR, (source, target), CHANCE) is None


def test_chance_is_warned_of_only_where_lengths_do_not_correlate():
    source, target = translations(200)
    shifted = target[7:] + target[:7]
    assert order_warning(PAIR, (source, target), CHANCE) is None
    assert "en: retrieval is at chance" in order_warning(PAIR, (source, shifted), CHANCE)
    assert order_warning(PAIR, (source, shifted), ABOVE) is None
