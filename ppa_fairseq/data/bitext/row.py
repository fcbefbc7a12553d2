"""One sentence pair as read, whatever the format of its file."""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

BREAKS = re.compile(r"\s*[\t\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]\s*")  # what a line of a text file cannot hold
Columns = tuple[int, int] | tuple[str, str]  # where a file holds the two languages: places from 0, or names
Column = int | str


class Row(NamedTuple):
    """One pair as read. If it is broken: the reason, and in `where` file, line and fault for the user."""

    first: str = ""
    second: str = ""
    broken: str = ""
    where: str = ""
    score: str = ""  # as the file has it; empty where none was asked for


@dataclass
class Progress:
    """How many bytes of a file are read, for a bar."""

    position: int = 0


def on_one_line(text: str) -> str:
    """The text with a space for each line break or tab, as a text file would hold it."""
    return BREAKS.sub(" ", text.strip()) if BREAKS.search(text) else text


def parse_score(text: str) -> float | None:
    """A finite number, or None."""
    try:
        score = float(text)
    except ValueError:
        return None
    return score if math.isfinite(score) else None
