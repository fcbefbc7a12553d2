"""Results of classifiers in several languages: accuracies with intervals and gains, as numbers, tables and plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppa_fairseq.evaluation.plots import plot_by_language, plot_confusions
from ppa_fairseq.evaluation.significance import (
    INTERVAL,
    independent_samples,
    mcnemar,
    mean_interval,
    p_cell,
    sign_flip_test,
)
from ppa_fairseq.utils.markdown import markdown_table

AVERAGE = "average"
ALL = "all"


@dataclass(frozen=True)
class Result:
    """Accuracy of one model in one language, in percent; its gain over the first model, in points."""

    model: str
    language: str  # or AVERAGE over the languages, each counting the same
    examples: int
    accuracy: float
    low: float  # the interval of the accuracy
    high: float
    gain: float | None = None
    gain_low: float | None = None  # the interval of the gain
    gain_high: float | None = None
    p_value: float | None = None  # that the model is as good as the first one


def measure(right: Mapping[str, Mapping[str, np.ndarray]], translations: bool) -> list[Result]:
    """Results by language, and their average, of each model.

    By language a gain is tested by McNemar's exact test, on average by flipping signs; no p-value is corrected for
    the number of tests. Rows are taken as independent, though XNLI's come in threes of one premise.

    Args:
        right: {model: {language: (N,) bool}}, whether the model is right on an example.
        translations: as in `independent_samples`.
    """
    results = []
    base = next(iter(right.values()))
    for model, by_language in right.items():
        differences = {language: by_language[language] - base[language].astype(float) for language in base}
        for language, rows in by_language.items():
            gain = ()
            if by_language is not base:
                gain = (*estimate([differences[language]]), mcnemar(base[language], rows))
            results.append(Result(model, language, len(rows), *estimate([rows]), *gain))
        gain = ()
        if by_language is not base:
            samples = independent_samples(differences, translations)
            gain = (*estimate(samples), sign_flip_test(samples))
        samples = independent_samples(by_language, translations)
        results.append(Result(model, AVERAGE, sum(map(len, by_language.values())), *estimate(samples), *gain))
    return results


def estimate(samples: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """The mean of the samples' means and its interval, in percent."""
    mean = float(np.mean([sample.mean() for sample in samples]))
    low, high = mean_interval(samples)
    return 100 * mean, 100 * low, 100 * high


def confusions(
    gold: Mapping[str, np.ndarray], predicted: Mapping[str, np.ndarray], classes: int
) -> dict[str, np.ndarray]:
    """How often each class was taken for each, by language and in ALL: (K, K), a row for each true class.

    `gold` and `predicted` are {language: (N,) ids}.
    """
    counts = {
        language: np.bincount(ids * classes + predicted[language], minlength=classes**2).reshape(classes, classes)
        for language, ids in gold.items()
    }
    return counts | {ALL: sum(counts.values())}


def accuracy_table(results: Sequence[Result]) -> str:
    """Markdown, a line for each language: accuracy and interval of each model, gain and p-value over the first."""
    models = list(dict.fromkeys(result.model for result in results))
    found = {(result.model, result.language): result for result in results}
    head = ["language", "examples", models[0]]
    lines = [head + [column for model in models[1:] for column in (model, "gain")]]
    for language in dict.fromkeys(result.language for result in results):
        here = [found[model, language] for model in models]
        cells = [f"{result.accuracy:.1f} [{result.low:.1f}, {result.high:.1f}]" for result in here]
        gains = [f"{result.gain:+.1f} ({p_cell(result.p_value)})" for result in here[1:]]
        pairs = [cell for pair in zip(cells[1:], gains, strict=True) for cell in pair]
        lines.append([language, str(here[0].examples), cells[0], *pairs])
    return markdown_table(lines)


def confusion_table(model: str, counts: np.ndarray, labels: Sequence[str]) -> str:
    """Markdown, a line for each true class, a column for each prediction."""
    lines = [[label, *map(str, row)] for label, row in zip(labels, counts, strict=True)]
    return markdown_table([[f"{model}: true \\ predicted", *labels], *lines])


def report(
    results: Sequence[Result],
    confused: Mapping[str, Mapping[str, np.ndarray]],
    labels: Sequence[str],
    translations: bool,
    records: Mapping[str, str],
) -> str:
    """The table of accuracies and how to read it, what is known of the models' training, confusions in all languages.

    `confused` has the `confusions` of each model, `records` a line on its training or "".
    """
    notes = [f"Accuracy in percent [{INTERVAL}, bootstrap]; the average counts every language the same."]
    if len({result.language for result in results} - {AVERAGE}) > 1:
        notes.append(
            "Row by row the languages are translations: for the average, rows are resampled in all of them at once."
            if translations
            else "The languages' rows are not the same examples: for the average, each is resampled by itself."
        )
    if len(confused) > 1:
        notes.append(
            f"Gains are over {next(iter(confused))}, in points; p: McNemar's exact test by language, signs flipped at "
            "random for the average, not corrected for the number of tests."
        )
    trained = [f"- {model}: {record}" for model, record in records.items() if record]
    matrices = [confusion_table(model, counts[ALL], labels) for model, counts in confused.items()]
    parts = [accuracy_table(results), "\n".join(notes), "\n".join(trained), *matrices]
    return "\n\n".join(part for part in parts if part) + "\n"


def plot(
    results: Sequence[Result],
    confused: Mapping[str, Mapping[str, np.ndarray]],
    labels: Sequence[str],
    folder: Path,
) -> None:
    """by-language.png and confusions.png; arguments as for `report`."""
    percents: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for result in results:
        percents.setdefault(result.model, {})[result.language] = result.accuracy
        intervals.setdefault(result.model, {})[result.language] = result.low, result.high
    plot_by_language(folder / "by-language.png", f"Accuracy and its {INTERVAL}", percents, intervals)
    counts = {model: by_language[ALL] for model, by_language in confused.items()}
    plot_confusions(folder / "confusions.png", "Predictions in all languages", labels, counts)
