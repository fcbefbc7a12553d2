"""What must hold of texts whose every line counts: each is read as it stands, or the file is refused.

Each check reads its file a second time, plainly, so that it also knows which files must not be refused.
"""

from collections.abc import Iterable
from pathlib import Path

from reader_files import FILE_SEPARATOR, GOLD_SIZES, as_expected, is_utf16, lines_of, place, unpacked

from ppa_fairseq.data.bitext_reader import MAX_LINE
from ppa_fairseq.data.text_lines import text_lines
from ppa_fairseq.data.word_pairs import BAR, word_pairs
from ppa_fairseq.evaluation.alignment_error import read_gold
from ppa_fairseq.evaluation.pair_sets import find_pair_sets, read_pairs


def byte_lines(name: str, content: bytes) -> list[bytes]:
    """All lines of a text, without their ends; none if it is damaged or has a line too long to be one."""
    text = unpacked(name, content)
    if text is None or is_utf16(text):
        return []
    lines = [line.removesuffix(b"\r") for line in lines_of(text)]
    return lines if all(len(line) <= MAX_LINE for line in lines) else []


def decoded(lines: Iterable[bytes]) -> list[str]:
    """All of them as text; none if one is no UTF-8."""
    try:
        return [line.decode() for line in lines]
    except UnicodeDecodeError:
        return []


def plain_lines(name: str, content: bytes) -> list[str]:
    return decoded(byte_lines(name, content))


def plain_columns(name: str, content: bytes) -> list[list[str]]:
    """The first two columns of a TSV, line by line; none if its lines differ in their number, or one column is all.

    Of the other columns nothing is asked.
    """
    rows = [line.split(b"\t") for line in byte_lines(name, content)]
    pairs = [decoded(row[:2]) for row in rows]
    return pairs if len({len(row) for row in rows}) == 1 and all(len(pair) == 2 for pair in pairs) else []


def plain_texts(name: str, content: bytes) -> list[str]:
    lines = plain_lines(name, content)
    return lines if all(line.strip() for line in lines) else []


def check_lines(name: str, content: bytes) -> bool:
    """`ppa embed`, `ppa perplexity`: every line is a sentence; every row of a set of pairs, a pair; none is empty."""
    if ".txt" in name:
        path = place(name, content)
        return as_expected(lambda: list(text_lines(path)), plain_texts(name, content) or None)
    if ".tsv" in name:
        path, rows = place(name, content), plain_columns(name, content)
        sides = [list(side) for side in zip(*rows, strict=True)] if rows else [[], []]
    else:
        names = name, name.removesuffix(".de") + ".en"
        contents = content.partition(FILE_SEPARATOR)[::2]
        path = [place(*file) for file in zip(names, contents, strict=True)][0]
        sides = [plain_texts(*file) for file in zip(names, contents, strict=True)]
    sound = len(sides[0]) == len(sides[1]) > 1 and all(text.strip() for side in sides for text in side)
    outcomes = []
    for limit in (2, None):
        chosen = [side[:limit] for side in sides]  # whether it is split into WordPieces is asked of these alone
        expected = chosen if sound and not any(map(is_split, chosen)) else None
        outcomes.append(as_expected(lambda limit=limit: list(map(list, read_first(path, limit))), expected))
    return outcomes[-1]


def is_split(side: list[str]) -> bool:
    return 10 * sum(" ##" in text for text in side) > len(side)


def read_first(path: Path, limit: int | None) -> tuple[list[str], list[str]]:
    (found,) = find_pair_sets([path])
    return read_pairs(found, limit)


def check_words(name: str, content: bytes) -> bool:
    """`ppa word-align`: every line is two sentences, each of all its words."""
    path = place(name, content)
    if ".tsv" in name:
        rows = plain_columns(name, content)
    else:
        rows = [line.split(BAR) for line in plain_lines(name, content)]
    pairs = [tuple(side.split() for side in row) for row in rows]
    sound = pairs and all(len(pair) == 2 and all(pair) for pair in pairs)
    return as_expected(lambda: list(word_pairs(path)), pairs if sound else None)


def check_gold(name: str, content: bytes) -> bool:
    """Every link of every line is there, as sure or as possible, and of words that its sentences have."""
    path, base = place(name, content), int("base1" in name)
    lines, sizes = plain_lines(name, content), GOLD_SIZES
    expected = [plain_links(line, base, size) for line, size in zip(lines, sizes, strict=False)]
    sound = len(lines) == len(sizes) and None not in expected and any(sure for line in expected for *_, sure in line)

    def read() -> list[set[tuple[int, int, bool]]]:
        gold = read_gold(path, base, iter(sizes))
        return [{(*link, False) for link in one.possible} | {(*link, True) for link in one.sure} for one in gold]

    return as_expected(read, expected if sound else None)


def plain_links(line: str, base: int, size: tuple[int, int]) -> set[tuple[int, int, bool]] | None:
    """Each link (source, target, False), counted from 0, and (source, target, True) too if it is sure; or None."""
    links = set()
    if not line.isascii():
        return None
    for cell in line.split():
        sure = "-" in cell
        numbers = cell.split("-" if sure else "p")
        if len(numbers) != 2 or not all(n.isdigit() and len(n) < 10 for n in numbers):
            return None
        link = tuple(int(number) - base for number in numbers)
        if not all(0 <= number < words for number, words in zip(link, size, strict=True)):
            return None
        links |= {(*link, False), (*link, sure)}
    return links
