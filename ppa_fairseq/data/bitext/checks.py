"""What looks wrong with a parallel text as a whole: its encoding, its order, the quotes of a CSV writer."""

from collections.abc import Callable, Iterator
from itertools import chain, islice

import numpy as np

from ppa_fairseq.data.bitext.reader import Bitext, Columns, Row
from ppa_fairseq.data.text_files import CONVERT, seems_csv, unquote
from ppa_fairseq.utils.errors import InputError

HEAD = 10_000  # rows of each file that are examined
MOST_BROKEN = 0.1  # share of these that may not be UTF-8
FEW = 20  # pairs, below which no order is judged
UNRELATED = 0.2  # correlation of the lengths of two sides; translations have 0.6 to 0.95


def checked_rows(
    bitext: Bitext, columns: Columns | None, csv_quotes: bool, warn: Callable[[str], None]
) -> Iterator[Row]:
    """Rows of *bitext* as `Bitext.rows` gives them, unquoted with *csv_quotes*; *warn* gets what looks wrong.

    Raises InputError if too many lines of a file are not UTF-8.
    """
    for part in bitext.parts:
        files = " and ".join(map(str, part))
        rows = bitext.part_rows(part, columns)
        head = list(islice(rows, HEAD))
        broken = sum(row.broken == "encoding" for row in head)
        if broken > MOST_BROKEN * len(head):
            raise InputError(f"{files}: not UTF-8 in {broken:,} of the first {len(head):,} lines; {CONVERT}")
        correlation = length_correlation([row.first for row in head], [row.second for row in head])
        if len(head) >= FEW and correlation < UNRELATED:
            warn(
                f"{files}: the lengths of the two sides correlate by {correlation:.2f}, those of translations by 0.6 "
                "or more. Check that each line translates the other; a side that was sorted alone does not"
            )
        rows = chain(head, rows)
        if len(part) == 1 and csv_quotes:
            rows = (row._replace(first=unquote(row.first), second=unquote(row.second)) for row in rows)
        elif len(part) == 1 and seems_csv(cell for row in head for cell in row[:2]):
            warn(f'{files}: a CSV writer wrote it, with "a ""b"" c" for a "b" c; --unquote restores the text')
        yield from rows


def length_correlation(first: list[str], second: list[str]) -> float:
    """Correlation of the lengths of paired sentences, in characters; 1 if all of one side are equally long."""
    lengths = np.array([list(map(len, first)), list(map(len, second))], dtype=float)  # (2, pairs)
    return float(np.corrcoef(lengths)[0, 1]) if lengths.size and lengths.std(axis=1).all() else 1.0
