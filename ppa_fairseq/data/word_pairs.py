"""Parallel text whose words stand between spaces: what word alignments count."""

from collections.abc import Iterator
from pathlib import Path

from ppa_fairseq.data.bitext.reader import Bitext, unpacked_name
from ppa_fairseq.data.text_lines import text_lines
from ppa_fairseq.utils.errors import InputError

BAR = "|||"
Words = tuple[list[str], list[str]]  # of the source, of the target


def word_pairs(path: Path, columns: tuple[int, int] = (0, 1)) -> Iterator[Words]:
    """The words of each line's two sentences: of a .tsv from two *columns* (from 0), else of `source ||| target`.

    Raises:
        InputError: a line that has not exactly two sentences, none of them empty, in UTF-8; an empty or damaged file.
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
            raise InputError(f"{row.where}; mend or remove the line")
        yield row.first, row.second


def bar_pairs(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text_lines(path), 1):
        source, *target = line.split(BAR)
        if len(target) != 1:
            fault = f"{len(target)} times {BAR} in a line" if target else f"no {BAR} between two sentences"
            raise InputError(f"{path}:{number}: {fault}; expected `source {BAR} target`, or a .tsv")
        yield source, target[0]
