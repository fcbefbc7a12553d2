"""Text that is wrong as a whole is refused or named: its order, its encoding, the quotes of a CSV writer."""

import csv
import random

import pytest

from ppa_fairseq.data.bitext.checks import checked_rows, is_sorted
from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.utils.errors import InputError

DRAW = random.Random(0)
ENGLISH = [" ".join(DRAW.choices("abcdefgh", k=DRAW.randint(5, 40))).capitalize() for _ in range(300)]
GERMAN = [sentence[::-1] for sentence in ENGLISH]  # as long, in another order


def check(folder, *sides, csv_quotes=False):
    """The warnings about, and the rows of, two files or one TSV."""
    names = ["a.de", "a.en"] if len(sides) == 2 else ["a.tsv"]
    for name, lines in zip(names, sides, strict=True):
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    warnings = []
    bitext = Bitext("de", "en", [tuple(folder / name for name in names)])
    rows = [row[:2] for row in checked_rows(bitext, (0, 1), csv_quotes, warnings.append)]
    return warnings, rows


def locale_order(text):
    return text.replace(" ", "").casefold()


@pytest.mark.parametrize("key", [str, str.casefold, locale_order], ids=["code points", "no case", "locale"])
def test_a_side_sorted_alone_is_refused(tmp_path, key):
    with pytest.raises(InputError, match="the en side is sorted and the other is not.*paste .*a.de .*a.en | shuf"):
        check(tmp_path, GERMAN, sorted(ENGLISH, key=key))


def test_sorted_pairs_are_kept_with_a_warning(tmp_path):
    pairs = sorted(zip(GERMAN, ENGLISH, strict=True))
    warnings, rows = check(tmp_path, [f"{a}\t{b}" for a, b in pairs])
    assert rows == pairs
    assert len(warnings) == 1 and "the de side is sorted and the other is not. Check" in warnings[0]
    assert "correlate by 1.00" in warnings[0]


def test_shifted_side_gets_a_warning(tmp_path):
    warnings, rows = check(tmp_path, GERMAN, ENGLISH[1:] + ENGLISH[:1])
    assert len(rows) == 300
    assert len(warnings) == 1 and "Check that its lines are translations" in warnings[0]


@pytest.mark.parametrize(
    "sides",
    [
        pytest.param((GERMAN, ENGLISH), id="translations"),
        pytest.param((sorted(GERMAN), sorted(GERMAN)), id="both sorted"),
        pytest.param((["eins"] * 300, ENGLISH), id="one sentence"),
        pytest.param((GERMAN[:19], sorted(ENGLISH[:19])), id="few pairs"),
    ],
)
def test_text_in_order_gets_no_warning(tmp_path, sides):
    assert check(tmp_path, *sides)[0] == []


def test_is_sorted_needs_nearly_all_lines_in_order():
    texts = sorted(set(ENGLISH))
    assert is_sorted(texts) and not is_sorted(ENGLISH)
    assert is_sorted([*texts[:100], texts[0], *texts[100:]]) and not is_sorted(texts[::-1])


def test_latin_1_is_refused_with_the_command_that_converts_it(tmp_path):
    (tmp_path / "a.tsv").write_bytes("".join(f"{a} schön\t{b}\n" for a, b in zip(GERMAN, ENGLISH)).encode("latin-1"))  # noqa: B905
    bitext = Bitext("de", "en", [(tmp_path / "a.tsv",)])
    with pytest.raises(InputError, match="a.tsv: not UTF-8 in 300 of its first 300 lines; perhaps ISO-8859-1.*iconv"):
        list(checked_rows(bitext, (0, 1), False, print))


def quoted_text(folder, quoting):
    """The text ENGLISH as a CSV writer writes it, with a quote in every fifth sentence."""
    pairs = [(a, f'{b} "said" she' if i % 5 == 0 else b) for i, (a, b) in enumerate(zip(GERMAN, ENGLISH, strict=True))]
    with open(folder / "written.tsv", "w", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=quoting, lineterminator="\n").writerows(pairs)
    return pairs, (folder / "written.tsv").read_text().splitlines()


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["minimal", "all"])
def test_csv_quotes_are_kept_with_a_hint_and_unquote_takes_them_off(tmp_path, quoting):
    pairs, lines = quoted_text(tmp_path, quoting)
    warnings, rows = check(tmp_path, lines)
    assert rows == [tuple(line.split("\t")) for line in lines]
    assert len(warnings) == 1 and "as a CSV writer writes them" in warnings[0] and "--unquote" in warnings[0]
    assert check(tmp_path, lines, csv_quotes=True) == ([], pairs)


def test_raw_quotes_are_kept_without_a_hint(tmp_path):
    sides = zip(GERMAN, ENGLISH, strict=True)
    pairs = [(a, f'"{b}"' if i % 2 else f'{b} "said" she') for i, (a, b) in enumerate(sides)]
    lines = [f"{a}\t{b}" for a, b in pairs]
    assert check(tmp_path, lines) == ([], pairs)
    assert "150 of 300 cells with a quote are not as a CSV writer" in check(tmp_path, lines, csv_quotes=True)[0][0]
