"""Probe accuracies by language: English, the other languages, and the gain over the first model."""

from collections.abc import Mapping, Sequence

import numpy as np

from ppa_fairseq.data.code_switching import ENGLISH
from ppa_fairseq.evaluation.classification import report as classification
from ppa_fairseq.evaluation.results import Result, different
from ppa_fairseq.evaluation.significance import INTERVAL

OTHERS = "others"  # the average over all languages but English, each counting the same
MIXED = "mixed"  # the average over all pairs of two languages
BETWEEN = "+"  # the names of two languages


def measure(task: str, right: Mapping[str, Mapping[str, np.ndarray]], translations: bool) -> list[Result]:
    """`classification.measure`, with the averages over the languages other than English and over mixed pairs.

    Args:
        right: {model: {language: (N,)}}, the share of seeds that were right on an example.
    """
    languages = next(iter(right.values()))
    others = [language for language in languages if language != ENGLISH and BETWEEN not in language]
    averages = {OTHERS: others, MIXED: [language for language in languages if BETWEEN in language]}
    averages = {name: members for name, members in averages.items() if members}
    return classification.measure(right, translations, averages, task=task)


def tables(results: Sequence[Result]) -> str:
    """One Markdown table for each task."""
    parts = [
        f"{task}: accuracy of a probe trained on English, in percent [{INTERVAL}]\n\n"
        + classification.table([one for one in results if one["task"] == task])
        for task in different(results, "task")
    ]
    notes = f"{OTHERS}: the average over all languages but English, each counting the same."
    if results[-1].model != results[0].model:
        notes += f" Gains are over {results[0].model}, in points; p: random sign flips."
    return "\n\n".join([*parts, notes]) + "\n"
