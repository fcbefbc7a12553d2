"""Parallel text whose words are separated by spaces, for word alignment."""

from collections.abc import Iterator
from pathlib import Path

from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.data.text_files import text_lines, unpacked_name
from ppa_fairseq.utils.errors import InputError

BAR = "|||"
Words = tuple[list[str], list[str]]  # of the source, of the target


def word_pairs(path: Path, columns: tuple[int, int] = (0, 1)) -> Iterator[Words]:
    """The words of the two sentences of each line: two *columns* (from 0) of a .tsv, else `source ||| target`.

    Raises InputError on an empty or damaged file, and on a line that does not hold exactly two sentences in UTF-8.
    """
    sentences = tsv_pairs(path, columns) if unpacked_name(path).suffix == ".tsv" else bar_pairs(path)
    number = 0
    for number, (source, target) in enumerate(sentences, 1):
        words = source.split(), target.split()
        if not all(words):
            raise InputError(f"{path}:{number}: an empty sentence; remove the line")
        yield words
    if number == 0:
        raise InputError(f"{path}: the file is empty")


def tsv_pairs(path: Path, columns: tuple[int, int]) -> Iterator[tuple[str, str]]:
    for row in Bitext("source", "target", [(path,)]).rows(columns):
        if row.broken:
            raise InputError(f"{row.where}; correct or remove the line")
        yield row.first, row.second


def bar_pairs(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text_lines(path), 1):
        source, *target = line.split(BAR)
        if len(target) != 1:
            fault = f"{len(target)} times {BAR} in a line" if target else f"no {BAR} between two sentences"
            raise InputError(f"{path}:{number}: {fault}; expected `source {BAR} target`, or a .tsv")
        yield source, target[0]
