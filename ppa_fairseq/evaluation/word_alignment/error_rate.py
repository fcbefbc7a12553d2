"""Alignment error rate: word links compared with a gold standard of sure and possible links (Och and Ney 2003)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from ppa_fairseq.data.text_files import LineReader
from ppa_fairseq.utils.errors import InputError, quote

LINK = re.compile(r"(\d{1,9})([-p])(\d{1,9})")
Link = tuple[int, int]  # numbers of a source and a target word, from 0


@dataclass(frozen=True)
class Gold:
    """The true links of one pair. `possible` includes the sure ones."""

    sure: frozenset[Link]
    possible: frozenset[Link]


@dataclass
class Tally:
    """Counts of a model's links and the gold links over all sentence pairs, and the measures in percent."""

    links: int = 0  # |A|
    sure: int = 0  # |S|
    links_sure: int = 0  # |A ∩ S|
    links_possible: int = 0  # |A ∩ P|

    def add(self, links: set[Link], gold: Gold) -> None:
        self.links += len(links)
        self.sure += len(gold.sure)
        self.links_sure += len(links & gold.sure)
        self.links_possible += len(links & gold.possible)

    @property
    def precision(self) -> float:
        """Share of the found links that are possible; 0 if none was found."""
        return 100 * self.links_possible / max(self.links, 1)

    @property
    def recall(self) -> float:
        """Share of the sure links that were found."""
        return 100 * self.links_sure / self.sure

    @property
    def error_rate(self) -> float:
        """1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|)."""
        return 100 * (1 - (self.links_sure + self.links_possible) / (self.links + self.sure))


def read_gold(path: Path, base: int, sizes: Iterable[tuple[int, int]]) -> list[Gold]:
    """Read one line per pair: links `i-j` (sure) and `ipj` (possible) separated by spaces, counted from *base*.

    *sizes* are the numbers of words in the two sentences of each pair.

    Raises:
        InputError: more or fewer lines than pairs, a cell that is not a link, a word that the sentence does not have,
            no sure link at all.
    """
    gold = []
    for number, (line, size) in enumerate(zip_longest(LineReader(path), sizes), 1):
        if line is None or size is None:
            more, less = ("pairs", "lines") if line is None else ("lines", "pairs")
            raise InputError(f"{path}: {number - 1} {less}, but more {more}; give a gold with a line for each pair")
        gold.append(read_links(line.decode("ascii", "replace"), base, size, f"{path}:{number}"))
    if not any(links.sure for links in gold):
        raise InputError(f"{path}: no sure link (i-j), which recall and error rate need; give a gold with sure links")
    return gold


def read_links(line: str, base: int, size: Sequence[int], where: str) -> Gold:
    links: dict[str, set[Link]] = {"-": set(), "p": set()}
    for cell in line.split():
        match = LINK.fullmatch(cell)
        if match is None:
            raise InputError(f"{where}: {quote(cell)} is not a link; expected i-j (sure) or ipj (possible)")
        source, target = int(match[1]) - base, int(match[3]) - base
        if min(source, target) < 0 or source >= size[0] or target >= size[1]:
            raise InputError(
                f"{where}: {cell} links words that do not exist: the sentences have {size[0]} and {size[1]} words, "
                f"counted from {base}; set --gold-base to the gold's first number, and put spaces between words"
            )
        links[match[2]].add((source, target))
    return Gold(frozenset(links["-"]), frozenset(links["-"] | links["p"]))
