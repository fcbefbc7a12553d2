"""What is reported of answers: F1 and exact match of sets and averages, with intervals and gains."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ppa_fairseq.evaluation.question_answering.metrics import Scores
from ppa_fairseq.evaluation.question_answering.sets import QuestionSet
from ppa_fairseq.evaluation.significance import mean_interval, sign_flip_test

MEASURES = ("f1", "exact_match")
Values = tuple[Sequence[str], np.ndarray]  # ids of a set's N questions, and a value of each, (N,)


@dataclass(frozen=True)
class Measured:
    """One model's scores of one set."""

    model: str
    of: QuestionSet
    scores: Scores

    def values(self, kind: str) -> np.ndarray:
        """F1 or exact match of each question in percent, (N,)."""
        return 100 * np.array(getattr(self.scores, kind), dtype=np.float64)


@dataclass(frozen=True)
class Measure:
    """F1 or exact match, in percent; gains are over the first model, in points.

    Cells off a grid's diagonal have no intervals and no p-value, nor has a single question an interval.
    """

    percent: float
    interval: tuple[float, float] | None = None
    gain: float | None = None
    gain_interval: tuple[float, float] | None = None
    p_value: float | None = None  # that the model is as good as the first one


@dataclass(frozen=True)
class Result:
    """A model on one set, or its average over several sets, each counting the same."""

    model: str
    group: str
    name: str  # of the set, or of the average
    context: str | None  # languages of a set
    asked: str | None
    metric: str
    averaged: int  # how many sets this is the average of; 0: none, it is a set
    questions: int
    f1: Measure
    exact_match: Measure

    @property
    def label(self) -> str:
        return self.context or self.name

    @property
    def off_diagonal(self) -> bool:
        return self.context != self.asked


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


def result(
    name: str, members: Sequence[Measured], base: Sequence[Measured], of: QuestionSet | None = None
) -> Result:
    """The mean of the members, with gains over `base`, unless that is they; `of` is given for a set, not an average."""
    return Result(
        model=members[0].model,
        group=members[0].of.group,
        name=name,
        context=of.context if of else None,
        asked=of.asked if of else None,
        metric=members[0].of.metric,
        averaged=0 if of else len(members),
        questions=sum(len(one.scores.ids) for one in members),
        **{kind: measure(kind, members, base, sure=not of or of.context == of.asked) for kind in MEASURES},
    )


def measure(kind: str, members: Sequence[Measured], base: Sequence[Measured], sure: bool) -> Measure:
    """`sure`: with how sure it is, which costs time."""
    percent = fmean(one.scores.percent[kind] for one in members)
    sets = [(one.scores.ids, one.values(kind)) for one in members]
    between = interval(sets) if sure else None
    if members[0].model == base[0].model:
        return Measure(percent, between)
    gain = percent - fmean(one.scores.percent[kind] for one in base)
    if not sure:
        return Measure(percent, between, gain)
    differences = [(ids, values - one.values(kind)) for (ids, values), one in zip(sets, base, strict=True)]
    return Measure(percent, between, gain, interval(differences), sign_flip_test([by_question(differences)]))


def interval(sets: Sequence[Values]) -> tuple[float, float] | None:
    """Bootstrap interval of the mean of the sets' means; None for a single question.

    What is resampled are the ids: a question that stands in several sets, in translation, is one question.
    """
    centred = by_question([(ids, values - values.mean()) for ids, values in sets])
    if len(centred) < 2:
        return None
    centre = fmean(values.mean() for _, values in sets)
    low, high = mean_interval([centred])
    return centre + low, centre + high


def by_question(sets: Sequence[Values]) -> np.ndarray:
    """A value for each of the N different ids, (N,): its share in every set, added. Their mean is the sets' means'.

    For an interval the sets must be centred, or it would also cover how many sets a question happens to be in.
    """
    places = {name: place for place, name in enumerate(dict.fromkeys(name for ids, _ in sets for name in ids))}
    total = np.zeros(len(places))
    for ids, values in sets:
        total[[places[name] for name in ids]] += values * len(places) / (len(values) * len(sets))
    return total


