"""Results of classifiers in several languages: accuracies with intervals and gains, as numbers, tables and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ppa_fairseq.evaluation.results import AVERAGE, Cell, Result, different, series, table_by_model
from ppa_fairseq.evaluation.significance import (
    INTERVAL,
    Values,
    differences,
    interval,
    mcnemar,
    mean_of_means,
    p_cell,
    sign_flip_test,
)
from ppa_fairseq.utils.markdown import markdown_table

ALL = "all"


def measure(right: Mapping[str, Mapping[str, np.ndarray]], translations: bool) -> list[Result]:
    """Accuracy of each model by language and on average, in percent, with its gain over the first model, in points.

    By language a gain is tested by McNemar's exact test, on average by flipping signs; no p-value is corrected for the
    number of tests. Rows count as independent, though XNLI has three rows for each premise.

    Args:
        right: {model: {language: (N,) bool}}, whether the model is right on an example.
        translations: row i of every language is a translation of the same example.
    """
    results = []
    base = next(iter(right.values()))
    for model, by_language in right.items():
        for language in (*by_language, AVERAGE):
            languages = list(by_language) if language == AVERAGE else [language]
            sets, first = (
                [(range(len(of[one])) if translations else [(one, i) for i in range(len(of[one]))], 100 * of[one])
                 for one in languages]
                for of in (by_language, base)
            )  # fmt: skip
            measures = {"examples": sum(len(values) for _, values in sets), **estimate("accuracy", "", sets)}
            measures |= dict.fromkeys(("gain", "gain_low", "gain_high", "p_value"))
            if by_language is not base:
                gains = differences(sets, first)
                is_average = language == AVERAGE
                p_value = sign_flip_test(gains) if is_average else mcnemar(base[language], by_language[language])
                measures |= estimate("gain", "gain_", gains) | {"p_value": p_value}
            results.append(Result(model, {"language": language}, measures))
    return results


def estimate(name: str, prefix: str, sets: Sequence[Values]) -> dict[str, float]:
    """The average over the sets and its interval."""
    low, high = interval(sets)
    return {name: mean_of_means(sets), f"{prefix}low": low, f"{prefix}high": high}


def confusions(
    gold: Mapping[str, np.ndarray], predicted: Mapping[str, np.ndarray], classes: int
) -> dict[str, np.ndarray]:
    """How often each class was predicted for each true class, by language and in ALL: (K, K), a row per true class.

    `gold` and `predicted` are {language: (N,) ids}.
    """
    counts = {
        language: np.bincount(ids * classes + predicted[language], minlength=classes**2).reshape(classes, classes)
        for language, ids in gold.items()
    }
    return counts | {ALL: sum(counts.values())}


def confusion_table(model: str, counts: np.ndarray, labels: Sequence[str]) -> str:
    """Markdown: a line for each true class, a column for each prediction."""
    lines = [[label, *map(str, row)] for label, row in zip(labels, counts, strict=True)]
    return markdown_table([[f"{model}: true \\ predicted", *labels], *lines])


def report(
    results: Sequence[Result],
    confused: Mapping[str, Mapping[str, np.ndarray]],
    labels: Sequence[str],
    translations: bool,
    records: Mapping[str, str],
) -> str:
    """The table of accuracies and how to read it, facts about the trainings, and confusions over all languages.

    `confused` has the `confusions` of each model, `records` a line about its training or "".
    """
    base = next(iter(confused))

    def columns(model: str) -> dict[str, Cell]:
        cells = {model: lambda one: f"{one['accuracy']:.1f} [{one['low']:.1f}, {one['high']:.1f}]"}
        gain = {"gain": lambda one: f"{one['gain']:+.1f} ({p_cell(one['p_value'])})"}
        return cells if model == base else cells | gain

    notes = [f"Accuracy in percent [{INTERVAL}, bootstrap]; the average counts every language the same."]
    if len(different(results, "language")) > 2:
        notes.append(
            "Row by row the languages are translations: for the average, rows are resampled in all of them at once."
            if translations
            else "The languages' rows are not the same examples: for the average, each language is resampled by itself."
        )
    if len(confused) > 1:
        notes.append(
            f"Gains are over {base}, in points; p: McNemar's exact test by language, random sign flips for the "
            "average, not corrected for the number of tests."
        )
    trained = [f"- {model}: {record}" for model, record in records.items() if record]
    matrices = [confusion_table(model, counts[ALL], labels) for model, counts in confused.items()]
    table = table_by_model(results, "language", columns, "examples")
    parts = [table, "\n".join(notes), "\n".join(trained), *matrices]
    return "\n\n".join(part for part in parts if part) + "\n"


def plot(
    results: Sequence[Result], confused: Mapping[str, Mapping[str, np.ndarray]], labels: Sequence[str], folder: Path
) -> None:
    """by-language.png and confusions.png; arguments as for `report`."""
    from ppa_fairseq.evaluation.plots import plot_bars, plot_heatmaps

    percents = series(results, lambda one: one["language"], lambda one: one["accuracy"])
    intervals = series(results, lambda one: one["language"], lambda one: (one["low"], one["high"]))
    plot_bars(folder / "by-language.png", f"Accuracy and its {INTERVAL}", {"accuracy, %": percents}, intervals)
    counts = {model: by_language[ALL] for model, by_language in confused.items()}
    shares = {model: grid / np.maximum(grid.sum(1, keepdims=True), 1) for model, grid in counts.items()}
    plot_heatmaps(
        folder / "confusions.png", "Predictions in all languages", shares, ("true", labels), ("predicted", labels),
        lambda model, row, column: f"{counts[model][row, column]}\n{shares[model][row, column]:.0%}",
    )  # fmt: skip
