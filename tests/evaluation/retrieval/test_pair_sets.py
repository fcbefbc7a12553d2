"""Which texts are equal, and when the lines of two sides probably do not belong together."""

import random

import pytest

from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.evaluation.retrieval.pair_sets import find_pair_sets, order_warning, read_pairs, text_numbers

PAIR = Bitext("de", "en", [])
CHANCE, ABOVE = [0.5, 1.0], [0.5, 30.0]  # accuracies in percent


def translations(count: int) -> tuple[list[str], list[str]]:
    """Sentences of 2 to 12 words, and as many words on the other side, give or take one."""
    rng = random.Random(0)
    lengths = [rng.randint(2, 12) for _ in range(count)]
    german = [" ".join(rng.choices("der Die das ein".split(), k=length + rng.randint(0, 1))) for length in lengths]
    return german, [" ".join(rng.choices("the A an to of in".split(), k=length)) for length in lengths]


def test_files_of_a_folder_that_are_not_taken_are_named(tmp_path, caplog):
    for name in ("de-en.tsv", "fr-en.train.tsv", "sw-en.tsv.7z"):
        (tmp_path / name).write_text("a\tb\nc\td\n")
    assert [found.name for found in find_pair_sets([tmp_path])] == ["de-en"]
    assert [record.message for record in caplog.records] == [
        f"not taken: {tmp_path}/fr-en.train.tsv: its name says train; to take it, name the file itself instead of its "
        "folder",
        f"not taken: {tmp_path}/sw-en.tsv.7z: cannot read .7z; unpack it",
    ]


def test_equal_texts_have_one_number():
    texts = ["a b", "c", " a  b", "caf\u00e9", "cafe\u0301", "A b", "c"]
    assert text_numbers(texts).tolist() == [0, 1, 0, 2, 2, 3, 1]


@pytest.mark.parametrize("sorted_side", [0, 1])
def test_a_side_that_was_sorted_alone_is_warned_of(sorted_side):
    sides = list(translations(200))
    sides[sorted_side].sort()
    assert "de-en: retrieval is at chance, and the lengths" in order_warning(PAIR, sides, CHANCE)
    assert order_warning(PAIR, sides, ABOVE) is None
    assert order_warning(PAIR, [side[:19] for side in sides], [0.0]) is None  # too few to judge


def test_pairs_that_are_sorted_together_are_right():
    source, target = map(list, zip(*sorted(zip(*translations(200), strict=True)), strict=True))
    assert order_warning(PAIR, (source, target), CHANCE) is None


def test_chance_alone_is_no_reason():
    assert order_warning(PAIR, translations(200), CHANCE) is None


def test_a_csv_writers_quotes_are_named_and_taken_off(tmp_path, caplog):
    path = tmp_path / "de-en.tsv"
    path.write_text('"Er sagte ""nein""."\tHe said no.\nja\tyes\n')
    pairs = Bitext("de", "en", [(path,)])
    assert read_pairs(pairs)[0][0] == '"Er sagte ""nein""."'
    assert caplog.text.count("--unquote") == 1
    assert read_pairs(pairs, csv_quotes=True)[0] == ['Er sagte "nein".', "ja"]
