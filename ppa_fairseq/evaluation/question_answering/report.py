"""Scores of answers as Markdown tables and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ppa_fairseq.evaluation.question_answering.results import groups, is_off_diagonal
from ppa_fairseq.evaluation.results import Cell, Result, different, table_by_model
from ppa_fairseq.evaluation.significance import INTERVAL, p_cell
from ppa_fairseq.utils.markdown import markdown_table

METRIC_NAMES = {"mlqa": "MLQA's metric", "squad": "SQuAD's metric"}
MEASURE_NAMES = {"f1": "F1", "exact_match": "EM"}


def report(results: Sequence[Result], records: Mapping[str, str]) -> str:
    """A table of the diagonal and averages of each group; for a grid also a table of all cells of each model.

    Then how to read them, and facts about the trainings: `records` has a line for each model, or "".
    """
    parts = []
    for group, here in groups(results):
        parts.append(f"{group}, {METRIC_NAMES[here[0]['metric']]}, in percent\n\n{summary(here)}")
        if any(map(is_off_diagonal, here)):
            for model in different(here, "model"):
                cells = [one for one in here if one.model == model and not one["averaged"]]
                parts.append(f"{group}, {model}: F1 / EM by languages\n\n{grid_table(cells)}")
    notes = [
        f"F1 in percent [{INTERVAL}, bootstrap over questions; a question asked in several languages counts as one]; "
        "averages count every set the same."
    ]
    if len(different(results, "model")) > 1:
        notes.append(
            f"Gains are over {results[0].model}, in points; p: random sign flips, question by question, not corrected "
            "for the number of tests."
        )
    trained = [f"- {model}: {record}" for model, record in records.items() if record]
    return "\n\n".join(part for part in (*parts, "\n".join(notes), "\n".join(trained)) if part) + "\n"


def summary(results: Sequence[Result]) -> str:
    """A line for each set on the diagonal and each average: F1 with its gain over the first model, and EM."""

    def f1(one: Result) -> str:
        interval = one["f1"]["interval"]
        return f"{one['f1']['percent']:.1f}" + (" [{:.1f}, {:.1f}]".format(*interval) if interval else "")

    def columns(model: str) -> dict[str, Cell]:
        gain = {"gain": lambda one: f"{one['f1']['gain']:+.1f} ({p_cell(one['f1']['p_value'])})"}
        exact_match = {f"{model} EM": lambda one: f"{one['exact_match']['percent']:.1f}"}
        return {f"{model} F1": f1} | (gain if model != results[0].model else {}) | exact_match

    diagonal = [one for one in results if not is_off_diagonal(one)]
    return table_by_model(diagonal, "name", columns, "questions", label=lambda one: one["context"] or one["name"])


def grid_table(results: Sequence[Result]) -> str:
    """F1 / EM: a line for each language of contexts, a column for each language of questions."""
    found = {(one["context"], one["asked"]): one for one in results}
    contexts, asked = (sorted({key[side] for key in found}) for side in (0, 1))
    lines = [["context", *(f"question {language}" for language in asked)]]
    for context in contexts:
        here = [found.get((context, language)) for language in asked]
        cells = (f"{one['f1']['percent']:.1f} / {one['exact_match']['percent']:.1f}" if one else "" for one in here)
        lines.append([context, *cells])
    return markdown_table(lines)


def plot(results: Sequence[Result], folder: Path) -> None:
    """For each group F1 as bars by language; for a grid also F1 and EM as heatmaps, a panel for each model."""
    from ppa_fairseq.evaluation.plots import plot_bars, plot_heatmaps

    for group, here in groups(results):
        sets = [one for one in here if not one["averaged"]]
        if diagonal := [one for one in sets if not is_off_diagonal(one)]:
            names = {one["name"]: one["context"] or one["name"] for one in diagonal}
            key = names if len(set(names.values())) == len(names) else {name: name for name in names}
            percents, intervals = {}, {}
            for one in diagonal:
                f1, label = one["f1"], key[one["name"]]
                percents.setdefault(one.model, {})[label] = f1["percent"]
                intervals.setdefault(one.model, {})[label] = f1["interval"] or (f1["percent"], f1["percent"])
            title = f"{group}, F1 and its {INTERVAL}"
            plot_bars(folder / f"{group}-by-language.png", title, {"F1, %": percents}, intervals)
        if len(diagonal) < len(sets):
            contexts, asked = (sorted({one[side] for one in sets}) for side in ("context", "asked"))
            for kind, name in MEASURE_NAMES.items():
                grids = {model: np.full((len(contexts), len(asked)), np.nan) for model in different(sets, "model")}
                for one in sets:
                    grids[one.model][contexts.index(one["context"]), asked.index(one["asked"])] = one[kind]["percent"]
                path, title = folder / f"{group}-grid-{name.lower()}.png", f"{group}, {name} in percent"
                cell = grids.__getitem__
                plot_heatmaps(
                    path, title, grids, ("context", contexts), ("question", asked),
                    lambda model, row, column, cell=cell: f"{cell(model)[row, column]:.1f}",
                )  # fmt: skip
