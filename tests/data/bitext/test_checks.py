"""Text that is wrong as a whole is refused or named: its order, its encoding, the quotes of a CSV writer."""

import csv
import random

import pytest

from ppa_fairseq.data.bitext.checks import FEW, UNRELATED, checked_rows, length_correlation
from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.utils.errors import InputError

DRAW = random.Random(0)
ENGLISH = [" ".join(DRAW.choices("abcdefgh", k=DRAW.randint(5, 40))).capitalize() for _ in range(300)]
GERMAN = [sentence[::-1] for sentence in ENGLISH]  # as long, in another order


def check(folder, *sides, csv_quotes=False):
    """The warnings about, and the rows of, two files or one TSV."""
    names = ["a.de", "a.en"] if len(sides) == 2 else ["a.tsv"]
    for name, lines in zip(names, sides, strict=True):
        lines = (line if isinstance(line, bytes) else line.encode() for line in lines)
        (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))
    warnings = []
    bitext = Bitext("de", "en", [tuple(folder / name for name in names)])
    rows = [row[:2] for row in checked_rows(bitext, (0, 1), csv_quotes, warnings.append)]
    return warnings, rows


def locale_order(text):
    return text.replace(" ", "").casefold()


@pytest.mark.parametrize("key", [str, str.casefold, locale_order], ids=["code points", "no case", "locale"])
def test_a_side_sorted_alone_in_real_text_is_warned_of(shared_data, tmp_path, key):
    """As XTREME's scripts write Tatoeba: the English side is sorted."""
    paths = sorted(shared_data("tatoeba").glob("??-en.en"))
    assert len(paths) == 14
    for path in paths:
        others, english = (p.read_text("utf-8").split("\n")[:-1] for p in (path.with_suffix(f".{path.name[:2]}"), path))
        assert check(tmp_path, others, english)[0] == []
        (warning,) = check(tmp_path, others, sorted(english, key=key))[0]
        assert f"{tmp_path / 'a.de'} and {tmp_path / 'a.en'}: the lengths of the two sides correlate by" in warning


def test_lengths_part_translations_from_sorted_sides_in_small_sets(shared_data):
    wrong = 0
    for path in sorted(shared_data("tatoeba").glob("??-en.en")):
        sides = [p.read_text("utf-8").split("\n")[:-1] for p in (path.with_suffix(f".{path.name[:2]}"), path)]
        for start in range(0, 300, 100):
            others, english = (side[start : start + 100] for side in sides)
            wrong += length_correlation(others, english) < UNRELATED
            wrong += length_correlation(others, sorted(english)) >= UNRELATED
    assert wrong == 0


@pytest.mark.parametrize(
    ("sides", "warnings"),
    [
        pytest.param((GERMAN, ENGLISH), 0, id="translations"),
        pytest.param((GERMAN, ENGLISH[1:] + ENGLISH[:1]), 1, id="shifted"),
        pytest.param((GERMAN, sorted(ENGLISH)), 1, id="sorted"),
        pytest.param((["", b"\xff"] * 10 + GERMAN, ["", ""] * 10 + sorted(ENGLISH)), 1, id="sorted, broken lines"),
        pytest.param(([f"{a}\t{b}" for a, b in sorted(zip(GERMAN, ENGLISH, strict=True))],), 0, id="sorted pairs"),
        pytest.param((["eins"] * 300, ENGLISH), 0, id="one sentence"),
        pytest.param((GERMAN[: FEW - 1], sorted(ENGLISH[: FEW - 1])), 0, id="few pairs"),
        pytest.param(([], []), 0, id="no pairs"),
    ],
)
def test_unrelated_sides_are_warned_of_and_kept(tmp_path, sides, warnings):
    found, rows = check(tmp_path, *sides)
    assert len(found) == warnings and len(rows) == len(sides[0])


def test_latin_1_is_refused_with_the_file_and_the_command_that_converts_it(tmp_path):
    with pytest.raises(InputError, match="a.en:3: not UTF-8, one of 298 such lines in the first 300; .*iconv -f"):
        check(tmp_path, GERMAN, ENGLISH[:2] + [f"{text} café".encode("latin-1") for text in ENGLISH[2:]])


def quoted_text(folder, quoting, quote='"said"'):
    """Pairs, and how a CSV writer writes them, with *quote* in every fifth sentence."""
    pairs = [(a, f"{b} {quote}" if i % 5 == 0 else b) for i, (a, b) in enumerate(zip(GERMAN, ENGLISH, strict=True))]
    with open(folder / "written.tsv", "w", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=quoting, lineterminator="\n").writerows(pairs)
    return pairs, (folder / "written.tsv").read_text().splitlines()


@pytest.mark.parametrize(
    ("quoting", "quote"),
    [(csv.QUOTE_MINIMAL, '"said"'), (csv.QUOTE_ALL, '"said"'), (csv.QUOTE_ALL, "said")],
    ids=["minimal", "all", "all, none inside"],
)
def test_csv_quotes_are_kept_with_one_hint_and_unquote_takes_them_off(tmp_path, quoting, quote):
    pairs, lines = quoted_text(tmp_path, quoting, quote)
    warnings, rows = check(tmp_path, lines)
    assert rows == [tuple(line.split("\t")) for line in lines]
    assert len(warnings) == 1 and "quotes are those of a CSV writer" in warnings[0] and "--unquote" in warnings[0]
    assert check(tmp_path, lines, csv_quotes=True) == ([], pairs)


@pytest.mark.parametrize("every_second", ['{} "said" she', "{}"], ids=["inner quotes", "direct speech"])
def test_raw_quotes_are_kept_without_a_hint(tmp_path, every_second):
    pairs = [(a, f'"{b}"' if i % 2 else every_second.format(b)) for i, (a, b) in enumerate(zip(GERMAN, ENGLISH))]  # noqa: B905
    assert check(tmp_path, [f"{a}\t{b}" for a, b in pairs]) == ([], pairs)
