"""F1 and exact match of sets of questions and of averages, with intervals and gains, as results and as tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ppa_fairseq.evaluation.question_answering.metrics import Scores, percent
from ppa_fairseq.evaluation.question_answering.sets import QuestionSet
from ppa_fairseq.evaluation.results import Cell, Result, different, table_by_model
from ppa_fairseq.evaluation.significance import INTERVAL, differences, gain_cell, interval, percent_cell, sign_flip_test
from ppa_fairseq.utils.markdown import markdown_table

MEASURES = ("f1", "exact_match")
METRIC_NAMES = {"mlqa": "MLQA's metric", "squad": "SQuAD's metric"}


@dataclass(frozen=True)
class Measured:
    """One model's scores on one set."""

    model: str
    of: QuestionSet
    scores: Scores


def results_of(measured: Sequence[Measured]) -> list[Result]:
    """A result for every set and average of every model, in the order of `measured`; gains are over its first model."""
    results, base = [], {}
    for model in dict.fromkeys(one.model for one in measured):
        for group in dict.fromkeys(one.of.group for one in measured):
            here = [one for one in measured if (one.model, one.of.group) == (model, group)]
            for one in here:
                first = base.setdefault(one.of.name, one)
                results.append(result(one.of.name, [one], [first], of=one.of))
            for name, members in averages(here):
                results.append(result(name, members, [base[one.of.name] for one in members]))
    return results


def averages(group: Sequence[Measured]) -> Iterator[tuple[str, list[Measured]]]:
    """(name, members) of a group's averages: XLT is a grid's diagonal, G-XLT all of it."""
    diagonal = [one for one in group if one.of.context == one.of.asked]
    if len(diagonal) == len(group) > 1:
        yield "average", diagonal
    elif len(diagonal) < len(group):
        if diagonal:
            yield "XLT average", diagonal
        yield "G-XLT average", list(group)


def result(name: str, members: Sequence[Measured], base: Sequence[Measured], of: QuestionSet | None = None) -> Result:
    """The mean of the members, each counting the same, with gains over `base`, the first model's.

    `of` is given for a set; an average has None, and no languages of its own.
    """
    place = {
        "group": members[0].of.group,
        "name": name,
        "context": of and of.context,
        "asked": of and of.asked,
        "metric": members[0].of.metric,
        "averaged": 0 if of else len(members),  # how many sets
    }
    with_intervals = not of or of.context == of.asked
    measures = {"questions": sum(len(one.scores.ids) for one in members)}
    return Result(
        members[0].model, place, measures | {kind: measure(kind, members, base, with_intervals) for kind in MEASURES}
    )


def measure(kind: str, members: Sequence[Measured], base: Sequence[Measured], with_intervals: bool) -> dict:
    """F1 or exact match in percent, its gain in points, and the p-value that both models are equally good.

    Intervals and the p-value take time: a grid has them only on its diagonal. A single question has no interval.
    """
    found = dict.fromkeys(("percent", "interval", "gain", "gain_interval", "p_value"))
    found["percent"] = fmean(percent(getattr(one.scores, kind)) for one in members)
    sets, first = (
        [(one.scores.ids, 100 * np.array(getattr(one.scores, kind), dtype=float)) for one in side]
        for side in (members, base)
    )
    if with_intervals:
        found["interval"] = interval(sets)
    if members[0].model != base[0].model:
        found["gain"] = found["percent"] - fmean(percent(getattr(one.scores, kind)) for one in base)
        if with_intervals:
            gains = differences(sets, first)
            found |= {"gain_interval": interval(gains), "p_value": sign_flip_test(gains)}
    return found


def report(results: Sequence[Result]) -> str:
    """A table of the diagonal and averages of each group; for a grid also a table of all cells of each model."""
    parts = []
    for group in different(results, "group"):
        here = [one for one in results if one["group"] == group]
        parts.append(f"{group}, {METRIC_NAMES[here[0]['metric']]}, in percent\n\n{summary(here)}")
        if any(one["context"] != one["asked"] for one in here):
            for model in different(here, "model"):
                cells = [one for one in here if one.model == model and not one["averaged"]]
                parts.append(f"{group}, {model}: F1 / EM by languages\n\n{grid_table(cells)}")
    parts.append(
        f"F1 in percent [{INTERVAL}, bootstrap over questions; a question asked in several languages counts as one]; "
        "averages count every set the same."
    )
    if len(different(results, "model")) > 1:
        parts[-1] += (
            f"\nGains are over {results[0].model}, in points; p: random sign flips, question by question, not "
            "corrected for the number of tests."
        )
    return "\n\n".join(parts) + "\n"


def summary(results: Sequence[Result]) -> str:
    """A line for each set on the diagonal and each average: F1 with its gain over the first model, and EM."""

    def columns(model: str) -> dict[str, Cell]:
        f1 = {f"{model} F1": lambda one: percent_cell(one["f1"]["percent"], *(one["f1"]["interval"] or (None, None)))}
        gain = {"gain": lambda one: gain_cell(one["f1"]["gain"], one["f1"]["p_value"])}
        exact_match = {f"{model} EM": lambda one: f"{one['exact_match']['percent']:.1f}"}
        return f1 | (gain if model != results[0].model else {}) | exact_match

    diagonal = [one for one in results if one["context"] == one["asked"]]
    return table_by_model(diagonal, "name", columns, "questions")


def grid_table(results: Sequence[Result]) -> str:
    """F1 / EM: a line for each language of contexts, a column for each language of questions."""
    cells = {
        (one["context"], one["asked"]): f"{one['f1']['percent']:.1f} / {one['exact_match']['percent']:.1f}"
        for one in results
    }
    contexts, asked = (sorted({key[side] for key in cells}) for side in (0, 1))
    head = ["context", *(f"question {language}" for language in asked)]
    return markdown_table(
        [head, *([context, *(cells.get((context, language), "") for language in asked)] for context in contexts)]
    )
