"""What looks wrong with a parallel text as a whole: its encoding, its order, the quotes of a CSV writer."""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from ppa_fairseq.data.bitext.reader import Bitext, Columns, Row
from ppa_fairseq.data.text_files import LineReader, how_to_convert, unquote
from ppa_fairseq.utils.errors import InputError

HEAD = 10_000  # rows of each file that are examined
MOST_BROKEN = 0.1  # share of these that may not be UTF-8
FEW = 20  # pairs, below which no order is judged
UNRELATED = 0.2  # correlation of the lengths of two sides; translations have 0.6 to 0.95
NOT_WORD = str.maketrans("", "", " \t\"'.,;:!?()-")


def checked_rows(
    bitext: Bitext, columns: Columns | None, csv_quotes: bool, warn: Callable[[str], None]
) -> Iterator[Row]:
    """Rows of *bitext* as `Bitext.rows` gives them, unquoted with *csv_quotes*; *warn* gets what looks wrong.

    Raises InputError if too many lines of a file are not UTF-8, or its two sides are in different orders.
    """
    for part in bitext.parts:
        rows = bitext.part_rows(part, columns)
        head = list(islice(rows, HEAD))
        _check_encoding(head, part)
        _check_order([row for row in head if not row.broken], bitext, part, warn)
        rows = chain(head, rows)
        if len(part) == 1:
            _check_quotes(head, part[0], csv_quotes, warn)
            rows = map(_unquoted, rows) if csv_quotes else rows
        yield from rows


def _check_encoding(head: list[Row], part: tuple[Path, ...]) -> None:
    broken = [number for number, row in enumerate(head) if row.broken == "encoding"]
    if len(broken) <= MOST_BROKEN * len(head):
        return
    path = next(path for path in part if head[broken[0]].where.startswith(f"{path}:"))
    line = next(islice(LineReader(path), broken[0], None))
    raise InputError(
        f"{path}: not UTF-8 in {len(broken):,} of its first {len(head):,} lines; {how_to_convert(path, line)}"
    )


def _check_order(head: list[Row], bitext: Bitext, part: tuple[Path, ...], warn: Callable[[str], None]) -> None:
    """Raise InputError where one side alone is sorted and the lengths of the sides do not correlate; else warn."""
    if len(head) < FEW:
        return
    files = " and ".join(map(str, part))
    shuffle = f"{f'paste {part[0]} {part[1]} | shuf' if len(part) == 2 else f'shuf {part[0]}'} > NEW.tsv"
    sides = [row.first for row in head], [row.second for row in head]
    correlation = length_correlation(*sides)
    evidence = f"the lengths of its sentences correlate by {correlation:.2f}"
    in_order = [is_sorted(texts) for texts in sides]
    side = bitext.second_lang if in_order[1] else bitext.first_lang
    if in_order[0] != in_order[1] and correlation < UNRELATED:
        raise InputError(
            f"{files}: the {side} side is sorted and the other is not, and {evidence}: its lines do not "
            "belong together. Get the text in its original order (XTREME's scripts sort the English side of "
            f"Tatoeba); if the pairs are right, shuffle their lines together: {shuffle}"
        )
    if in_order[0] != in_order[1]:
        warn(
            f"{files}: the {side} side is sorted and the other is not. Check that its lines are translations of each "
            f"other ({evidence}); with --max-train, shuffle them first: {shuffle}"
        )
    elif correlation < UNRELATED:
        warn(f"{files}: {evidence}; those of translations by 0.6 or more. Check that its lines are translations")


def length_correlation(first: list[str], second: list[str]) -> float:
    """Correlation of the lengths of paired sentences, in characters; 1 if all of one side are equally long."""
    lengths = np.array([list(map(len, first)), list(map(len, second))], dtype=float)  # (2, pairs)
    return float(np.corrcoef(lengths)[0, 1]) if lengths.std(axis=1).all() else 1.0


def is_sorted(texts: list[str]) -> bool:
    """Whether nearly all of *texts* ascend: by code points, without case, or as a locale sorts, without punctuation."""
    for key in (str, str.casefold, lambda text: text.translate(NOT_WORD).casefold()):
        keys = list(map(key, texts))
        steps = [one < other for one, other in zip(keys, keys[1:], strict=False) if one != other]
        if len(steps) >= FEW - 1 and np.mean(steps) > 0.95:
            return True
    return False


def _check_quotes(head: list[Row], path: Path, csv_quotes: bool, warn: Callable[[str], None]) -> None:
    cells = [cell for row in head for cell in row[:2]]
    quoted = [cell for cell in cells if '"' in cell]
    texts = [text for text in map(unquote, quoted) if text is not None]
    follow = len(texts) == len(quoted) and ('"' in "".join(texts) or len(quoted) == len(cells))
    if quoted and csv_quotes != follow:
        lines = f"{path}: in its first {len(head):,} lines"
        if csv_quotes:
            warn(f"{lines} {len(quoted) - len(texts):,} of {len(quoted):,} cells with a quote are not as a CSV writer "
                 "writes them; --unquote leaves these as they are")  # fmt: skip
        else:
            warn(f'{lines} all {len(quoted):,} cells with a quote are as a CSV writer writes them ("a ""b"" c" for '
                 'a "b" c); they are kept as they are; --unquote restores the text')  # fmt: skip


def _unquoted(row: Row) -> Row:
    first, second = (text if (text := unquote(cell)) is not None else cell for cell in row[:2])
    return row._replace(first=first, second=second)
