"""What looks wrong with a parallel text as a whole: its encoding, its order, the quotes of a CSV writer."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

import numpy as np

from ppa_fairseq.data.bitext.reader import Bitext, is_table
from ppa_fairseq.data.bitext.row import Column, Columns, Row, parse_score
from ppa_fairseq.data.text_files import AS_CSV, CONVERT, seems_csv, unquote
from ppa_fairseq.utils.errors import InputError, quote

HEAD = 10_000  # rows of each file that are examined
MOST_BROKEN = 0.1  # share of these that may not be UTF-8, no JSON or without a score
BROKEN = {"encoding": CONVERT, "format": "give JSON lines, with the same columns of text in each"}
FEW = 20  # pairs, below which no order is judged
UNRELATED = 0.4  # correlation of the lengths of two sides; 100 translations have 0.6 to 0.98


def checked_rows(
    bitext: Bitext,
    columns: Columns | None,
    csv_quotes: bool,
    warn: Callable[[str], None],
    score: Column | None = None,
) -> Iterator[Row]:
    """Rows of *bitext* as `Bitext.rows` gives them, unquoted with *csv_quotes*; *warn* gets what looks wrong.

    Raises InputError if too many lines of a file are not UTF-8 or no JSON, or have no number in the column *score*.
    """
    for part in bitext.parts:
        files = " and ".join(map(str, part))
        rows = bitext.part_rows(part, columns, score)
        head = list(islice(rows, HEAD))
        for reason, advice in BROKEN.items():
            broken = [row.where for row in head if row.broken == reason]
            if len(broken) > MOST_BROKEN * len(head):
                raise InputError(f"{broken[0]}, one of {len(broken):,} such lines in the first {len(head):,}; {advice}")
        if score is not None:
            _check_scores([row for row in head if not row.broken], files)
        pairs = [row[:2] for row in head if row.first and row.second]
        if len(pairs) >= FEW and (correlation := length_correlation(*zip(*pairs, strict=True))) < UNRELATED:
            warn(
                f"{files}: the lengths of the two sides correlate by {correlation:.2f}, those of translations by 0.6 "
                "or more; check that line N of one side translates line N of the other, and that no side was sorted "
                "alone (XTREME's scripts sort the English side of Tatoeba)"
            )
        rows = chain(head, rows)
        if is_table(part) and csv_quotes:
            rows = (row._replace(first=unquote(row.first), second=unquote(row.second)) for row in rows)
        elif is_table(part) and seems_csv(cell for row in head for cell in row[:2]):
            warn(f"{files}: {AS_CSV}")
        yield from rows


def _check_scores(head: list[Row], files: str) -> None:
    """Raise InputError if too many of these rows have no number as a score."""
    broken = [(number, row.score) for number, row in enumerate(head, 1) if parse_score(row.score) is None]
    if len(broken) > MOST_BROKEN * len(head):
        number, score = broken[0]
        raise InputError(
            f"{files}: the score of pair {number} is {quote(score)}, no number, as {len(broken):,} of the first "
            f"{len(head):,} are; --score-column says which column holds the scores"
        )


def length_correlation(first: Sequence[str], second: Sequence[str]) -> float:
    """Correlation of the lengths of paired sentences, none empty; 1 if all of one side are equally long.

    Of the lengths' logarithms: a few very long sentences would decide about the correlation of the lengths themselves.
    """
    lengths = np.log([list(map(len, first)), list(map(len, second))])  # (2, pairs)
    return float(np.corrcoef(lengths)[0, 1]) if lengths.size and lengths.std(axis=1).all() else 1.0
