"""F1 and exact match of sets of questions and of averages, with intervals and gains."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ppa_fairseq.evaluation.question_answering.metrics import Scores
from ppa_fairseq.evaluation.question_answering.sets import QuestionSet
from ppa_fairseq.evaluation.results import Result, different
from ppa_fairseq.evaluation.significance import Values, differences, interval, sign_flip_test

MEASURES = ("f1", "exact_match")


@dataclass(frozen=True)
class Measured:
    """One model's scores on one set."""

    model: str
    of: QuestionSet
    scores: Scores

    def values(self, kind: str) -> Values:
        """F1 or exact match of each question in percent."""
        return self.scores.ids, 100 * np.array(getattr(self.scores, kind), dtype=np.float64)


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


def is_off_diagonal(one: Result) -> bool:
    return one["context"] != one["asked"]


def groups(results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    for group in different(results, "group"):
        yield group, [one for one in results if one["group"] == group]


def measure(kind: str, members: Sequence[Measured], base: Sequence[Measured], with_intervals: bool) -> dict:
    """F1 or exact match in percent, its gain in points, and the p-value that both models are equally good.

    Intervals and the p-value take time: a grid has them only on its diagonal. A single question has no interval.
    """
    found = dict.fromkeys(("percent", "interval", "gain", "gain_interval", "p_value"))
    found["percent"] = fmean(one.scores.percent[kind] for one in members)
    sets = [one.values(kind) for one in members]
    if with_intervals:
        found["interval"] = interval(sets)
    if members[0].model != base[0].model:
        found["gain"] = found["percent"] - fmean(one.scores.percent[kind] for one in base)
        if with_intervals:
            gains = differences(sets, [one.values(kind) for one in base])
            found["gain_interval"] = interval(gains)
            found["p_value"] = sign_flip_test(gains)
    return found
