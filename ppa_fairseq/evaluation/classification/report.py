"""Results of classifiers in several languages: accuracies with intervals and gains, as numbers, tables and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ppa_fairseq.evaluation.results import AVERAGE, Cell, Result, different, series, table_by_model
from ppa_fairseq.evaluation.significance import (
    INTERVAL,
    independent_samples,
    mcnemar,
    mean_interval,
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
        translations: as in `independent_samples`.
    """
    results = []
    base = next(iter(right.values()))
    for model, by_language in right.items():
        differences = {language: by_language[language] - base[language].astype(float) for language in base}
        for language, rows in by_language.items():
            p_value = None if by_language is base else mcnemar(base[language], rows)
            results.append(result(model, language, len(rows), [rows], [differences[language]], p_value))
        samples = independent_samples(differences, translations)
        p_value = None if by_language is base else sign_flip_test(samples)
        rows = sum(map(len, by_language.values()))
        results.append(
            result(model, AVERAGE, rows, independent_samples(by_language, translations), samples, p_value)
        )
    return results


def result(
    model: str,
    language: str,
    examples: int,
    samples: Sequence[np.ndarray],
    differences: Sequence[np.ndarray],
    p_value: float | None,
) -> Result:
    """`p_value`: that the model is as good as the first one; None for the first one itself, which has no gain."""
    accuracy, low, high = estimate(samples)
    gain, gain_low, gain_high = (None, None, None) if p_value is None else estimate(differences)
    measures = {"examples": examples, "accuracy": accuracy, "low": low, "high": high}
    measures |= {"gain": gain, "gain_low": gain_low, "gain_high": gain_high, "p_value": p_value}
    return Result(model, {"language": language}, measures)


def estimate(samples: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """The mean of the samples' means and its interval, in percent."""
    mean = float(np.mean([sample.mean() for sample in samples]))
    low, high = mean_interval(samples)
    return 100 * mean, 100 * low, 100 * high


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
            f"Gains are over {base}, in points; p: McNemar's exact test by language, random sign flips for the average, "
            "not corrected for the number of tests."
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
    from ppa_fairseq.evaluation.plots import plot_by_language, plot_confusions

    percents = series(results, lambda one: one["language"], lambda one: one["accuracy"])
    intervals = series(results, lambda one: one["language"], lambda one: (one["low"], one["high"]))
    plot_by_language(folder / "by-language.png", f"Accuracy and its {INTERVAL}", percents, intervals)
    counts = {model: by_language[ALL] for model, by_language in confused.items()}
    plot_confusions(folder / "confusions.png", "Predictions in all languages", labels, counts)
