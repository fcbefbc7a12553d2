"""Results of classifiers in several languages: accuracies with intervals and gains, as numbers and as a table."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from ppa_fairseq.evaluation.results import AVERAGE, Cell, Result, table_by_model
from ppa_fairseq.evaluation.significance import (
    INTERVAL,
    Values,
    differences,
    gain_cell,
    interval,
    mean_of_means,
    percent_cell,
    sign_flip_test,
)

ALL = "all"
SCORES = {"accuracy": "Accuracy", "f1": "F1", "macro_f1": "macro-F1"}


def measure(
    right: Mapping[str, Mapping[str, np.ndarray]],
    translations: bool,
    averages: Mapping[str, Sequence[str]] | None = None,
    score: str = "accuracy",
    others: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    **place: str,
) -> list[Result]:
    """The score of each model by language and on average, in percent, with its gain over the first model, in points.

    No p-value is corrected for the number of tests. Rows count as independent, though XNLI has three rows for each
    premise.

    Args:
        right: {model: {language: (N,)}}, whether the model is right on an example, or how often.
        translations: row i of every language is a translation of the same example.
        averages: {name: its languages}; default: AVERAGE, of all.
        score: what the means of `right` are: accuracy, F1.
        others: further scores in percent, {name: {model: {language: score}}}; their averages are means.
        place: of every result, beside its language.
    """
    results = []
    base = next(iter(right.values()))
    averages = {AVERAGE: list(base)} if averages is None else averages
    for model, by_language in right.items():
        for name, languages in ({one: [one] for one in base} | averages).items():
            ids = [[("" if translations else one, i) for i in range(len(base[one]))] for one in languages]
            sets, first = (
                [(rows, 100 * of[one]) for rows, one in zip(ids, languages, strict=True)] for of in (by_language, base)
            )
            measures = {"examples": sum(map(len, ids)), **estimate(score, "", sets)}
            measures |= dict.fromkeys(("gain", "gain_low", "gain_high", "p_value"))
            if by_language is not base:
                gains = differences(sets, first)
                measures |= estimate("gain", "gain_", gains) | {"p_value": sign_flip_test(gains)}
            for other, values in (others or {}).items():
                measures[other] = fmean(values[model][one] for one in languages)
            results.append(Result(model, {**place, "language": name}, measures))
    return results


def estimate(name: str, prefix: str, sets: Sequence[Values]) -> dict[str, float | None]:
    """The average over the sets and its interval."""
    low, high = interval(sets) or (None, None)
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


def macro_f1(
    gold: Mapping[str, np.ndarray], predicted: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, dict[str, float]]:
    """The mean F1 of the classes in percent, {model: {language: F1}}; those of a language's labels or predictions."""
    from sklearn.metrics import f1_score

    return {
        model: {lang: 100 * f1_score(gold[lang], ids, average="macro", zero_division=0) for lang, ids in by.items()}
        for model, by in predicted.items()
    }


def report(results: Sequence[Result], translations: bool, score: str = "accuracy") -> str:
    """The table of scores and how to read it."""
    base = results[0].model
    rows = "and resamples its translations together" if translations else "and resamples each by itself"
    notes = f"{SCORES[score]} in percent [{INTERVAL}, bootstrap]; the average counts every language the same, {rows}."
    if results[-1].model != base:
        notes += f"\nGains are over {base}, in points; p: random sign flips, not corrected for the number of tests."
    return f"{table(results, score)}\n\n{notes}\n"


def table(results: Sequence[Result], score: str = "accuracy") -> str:
    """A line for each language and average: scores, and gains over the first model."""
    others = [name for name in SCORES if name != score and name in results[0].measures]

    def columns(model: str) -> dict[str, Cell]:
        scores = {model: lambda one: percent_cell(one[score], one["low"], one["high"])}
        scores |= {SCORES[name]: lambda one, name=name: f"{one[name]:.1f}" for name in others}
        gain = {"gain": lambda one: gain_cell(one["gain"], one["p_value"])}
        return scores | (gain if model != results[0].model else {})

    return table_by_model(results, "language", columns, "examples")
