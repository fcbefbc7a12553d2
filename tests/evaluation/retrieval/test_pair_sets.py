"""Which texts are equal, and when the lines of two sides probably do not belong together."""

import random

import pytest

from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.evaluation.retrieval.pair_sets import ascends, order_warning, text_numbers

PAIR = Bitext("de", "en", [])


def translations(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Sentences of 2 to 12 words, and as many words on the other side, give or take one."""
    rng = random.Random(seed)
    lengths = [rng.randint(2, 12) for _ in range(count)]
    sides = ([" ".join(rng.choices("der Die das ein".split(), k=length + rng.randint(0, 1))) for length in lengths],
             [" ".join(rng.choices("the A an to of in".split(), k=length)) for length in lengths])  # fmt: skip
    return sides


def test_equal_texts_have_one_number():
    texts = ["a b", "c", " a  b", "caf\u00e9", "cafe\u0301", "A b", "c"]
    assert text_numbers(texts).tolist() == [0, 1, 0, 2, 2, 3, 1]


KEYS = {"bytes": None, "case": str.casefold, "locale": lambda text: text.replace(" ", "")}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_sorted_side_is_warned_of(key):
    source, target = translations(200)
    assert order_warning(PAIR, (source, target)) is None
    warning = order_warning(PAIR, (source, sorted(target, key=key)))
    assert "the en side is sorted and the de side is not" in warning
    assert "the de side is sorted" in order_warning(PAIR, (sorted(source, key=key), target))


def test_pairs_that_are_sorted_together_are_right():
    pairs = sorted(zip(*translations(200), strict=True))
    source, target = map(list, zip(*pairs, strict=True))
    assert ascends(source) and not ascends(target)
    assert order_warning(PAIR, (source, target), [0.0, 0.5]) is None


def test_retrieval_at_chance_is_warned_of_only_where_lengths_do_not_correlate():
    source, target = translations(200)
    shifted = target[7:] + target[:7]
    assert order_warning(PAIR, (source, target), [0.5, 1.0]) is None
    assert "retrieval is at chance" in order_warning(PAIR, (source, shifted), [0.5, 1.0])
    assert order_warning(PAIR, (source, shifted), [0.5, 30.0]) is None
    assert order_warning(PAIR, (source[:19], sorted(target[:19])), [0.0]) is None  # too few to judge
