"""Parallel text whose words are separated by spaces, for word alignment."""

from collections.abc import Callable, Iterator
from pathlib import Path

from ppa_fairseq.data.bitext.checks import checked_rows
from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.data.packed import unpacked_name
from ppa_fairseq.data.text_files import text_lines
from ppa_fairseq.utils.errors import InputError

Words = tuple[list[str], list[str]]  # of the source, of the target


def word_pairs(
    path: Path,
    columns: tuple[int, int] = (0, 1),
    csv_quotes: bool = False,
    warn: Callable[[str], object] = lambda message: None,
) -> Iterator[Words]:
    """The words of the two sentences of each line: two *columns* (from 0) of a .tsv, else `source ||| target`.

    With *csv_quotes* a .tsv is unquoted; *warn* gets what looks wrong in it.

    Raises InputError on an empty or damaged file, and on a line that does not hold exactly two sentences in UTF-8.
    """
    number = 0
    for number, sentences in enumerate(_sentence_pairs(path, columns, csv_quotes, warn), 1):
        words = tuple(sentence.split() for sentence in sentences)
        if len(words) != 2 or not all(words):
            raise InputError(f"{path}:{number}: {len(words)} sentences, or an empty one; expected `source ||| target`")
        yield words
    if number == 0:
        raise InputError(f"{path}: the file is empty")


def _sentence_pairs(path: Path, columns: tuple[int, int], csv_quotes: bool, warn: Callable) -> Iterator[list[str]]:
    if unpacked_name(path).suffix != ".tsv":
        yield from (line.split("|||") for line in text_lines(path))
        return
    for row in checked_rows(Bitext("source", "target", [(path,)]), columns, csv_quotes, warn):
        if row.broken:
            raise InputError(f"{row.where}; correct or remove the line")
        yield [row.first, row.second]
