"""Sides that take turns at the same work, so that the noise of the machine meets all of them."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm


def take_turns(
    sides: dict[str, Callable[[Sequence], list]], work: Sequence, chunk: int
) -> tuple[dict[str, float], dict[str, list]]:
    """Seconds and answers of each side for all of *work*, done in turns of *chunk* items.

    A first turn of a few items warms every side up and does not count.
    """
    for side in sides.values():
        side(work[:2])
    seconds, answers = dict.fromkeys(sides, 0.0), {name: [] for name in sides}
    for first in tqdm(range(0, len(work), chunk), unit="chunk"):
        for name, side in sides.items():
            start = time.perf_counter()
            answers[name] += side(work[first : first + chunk])
            seconds[name] += time.perf_counter() - start
    return seconds, answers


def rows_of(seconds: dict[str, float], answers: dict[str, list], unit: str) -> list[list[str]]:
    """The table: items a second, how many times as fast the first side is, share of answers that are the first's."""
    (first, base), *_ = seconds.items()
    rows = [["", f"{unit} a second", "ratio", "same answer"]]
    for name, took in seconds.items():
        same = np.mean([a == b for a, b in zip(answers[first], answers[name], strict=True)])
        ratio = f"**{took / base:.2f}×**"
        rows.append([name, f"{len(answers[name]) / took:.2f}", ratio, f"{100 * same:.1f} %"])
    return rows
