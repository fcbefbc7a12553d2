"""Probe accuracies by language: English, the other languages, and the gain over the first model."""

from collections.abc import Mapping, Sequence

import numpy as np

from ppa_fairseq.evaluation.results import Cell, Result, table_by_model
from ppa_fairseq.evaluation.significance import INTERVAL, differences, interval, mean_of_means, p_cell, sign_flip_test

OTHERS = "others"  # the average over all languages but English, each counting the same
ENGLISH = "en"


def measure(task: str, right: Mapping[str, Mapping[str, np.ndarray]]) -> list[Result]:
    """Accuracy in percent of each model by language and over the others, with its gain over the first model.

    Args:
        right: {model: {language: (N,)}}, the share of seeds that were right on an example.
    """
    results, base = [], next(iter(right.values()))
    for model, by_language in right.items():
        others = [language for language in by_language if language.partition("-")[0] != ENGLISH]
        for name, languages in (*((one, [one]) for one in by_language), *([(OTHERS, others)] if others else [])):
            sets = [([(one, i) for i in range(len(by_language[one]))], 100 * by_language[one]) for one in languages]
            first = [(ids, 100 * base[one]) for (ids, _), one in zip(sets, languages, strict=True)]
            low, high = interval(sets) or (None, None)
            measures = {"examples": sum(len(values) for _, values in sets), "accuracy": mean_of_means(sets)}
            measures |= {"low": low, "high": high, "gain": None, "p_value": None}
            if by_language is not base:
                gains = differences(sets, first)
                measures |= {"gain": mean_of_means(gains), "p_value": sign_flip_test(gains)}
            results.append(Result(model, {"task": task, "language": name}, measures))
    return results


def tables(results: Sequence[Result]) -> str:
    """One Markdown table for each task."""
    base = results[0].model

    def columns(model: str) -> dict[str, Cell]:
        cells = {model: lambda one: f"{one['accuracy']:.1f} [{one['low']:.1f}, {one['high']:.1f}]"}
        gain = {"gain": lambda one: f"{one['gain']:+.1f} ({p_cell(one['p_value'])})"}
        return cells if model == base else cells | gain

    tasks = dict.fromkeys(result["task"] for result in results)
    parts = [
        f"{task}: accuracy of a probe trained on English, in percent [{INTERVAL}]\n\n"
        + table_by_model([one for one in results if one["task"] == task], "language", columns, "examples")
        for task in tasks
    ]
    notes = f"{OTHERS}: the average over all languages but English. Gains are over {base}; p: random sign flips."
    return "\n\n".join([*parts, notes]) + "\n"
