"""The bitext that a user names: folders, archives, or pairs with their files."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ppa_fairseq.data.bitext.find_files import find_bitexts, parse_bitext
from ppa_fairseq.data.bitext.reader import Bitext


def find_all(texts: Sequence[str]) -> list[Bitext]:
    """All language pairs of these arguments; lists on stderr what was found in folders, and what was not taken."""
    return [bitext for text in texts for bitext in _find(text)]


def _find(text: str) -> list[Bitext]:
    if not Path(text).exists():
        return [parse_bitext(text)]
    bitexts, passed_over = find_bitexts(Path(text))
    for bitext in bitexts:
        print(f"{bitext.name}: {', '.join(str(path) for part in bitext.parts for path in part)}", file=sys.stderr)
    for line in passed_over:
        print(f"not taken: {line}", file=sys.stderr)
    return bitexts
