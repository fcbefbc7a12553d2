"""Distributions of scores in plain text."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping


def in_hundredths(scores: Iterable[float]) -> Counter:
    """Count scores by their hundredths, rounded down: small for any number of scores."""
    return Counter(math.floor(100 * score) for score in scores)


def histogram(scores: Mapping[int, int], least: float, bins: int = 20) -> str:
    """A line for each range of scores (counted by hundredths), with a bar; marks those below *least* as dropped."""
    low, high = min(scores, default=0), max(scores, default=0)
    width = max(1, math.ceil((high - low + 1) / bins))
    heights = Counter()
    for score, count in scores.items():
        heights[(score - low) // width] += count
    lines = []
    for place in range((high - low) // width + 1):
        start, end = low + place * width, low + (place + 1) * width
        fate = " dropped" if end <= 100 * least else " partly dropped" if start < 100 * least else ""
        bar = "#" * math.ceil(40 * heights[place] / max(heights.values(), default=1))
        lines.append(f"  {start / 100:8.2f} to {end / 100:.2f}  {heights[place]:>10,}  {bar}{fate}")
    return "\n".join(lines)
