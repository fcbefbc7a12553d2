"""Markdown tables that also read well as plain text."""

from collections.abc import Sequence


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Format *lines* of equal length, the head first; the first column holds names, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    head, *body = (f"| {' | '.join(line)} |" for line in padded)
    return "\n".join([head, f"| {' | '.join(rule)} |", *body])
