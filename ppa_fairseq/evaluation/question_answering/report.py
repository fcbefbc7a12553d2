"""Scores of answers as Markdown tables and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ppa_fairseq.evaluation.question_answering.results import groups, is_off_diagonal
from ppa_fairseq.evaluation.results import Cell, Result, different, series, table_by_model
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
    """A line for each set on the diagonal and each average: F1, its gain over the first model's, and EM of each model."""

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
    from ppa_fairseq.evaluation.plots import plot_by_language, plot_grid

    for group, here in groups(results):
        sets = [one for one in here if not one["averaged"]]
        if diagonal := [one for one in sets if not is_off_diagonal(one)]:
            labels = {one["name"]: one["context"] or one["name"] for one in diagonal}
            if len(set(labels.values())) < len(labels):  # two sets of one language
                labels = {name: name for name in labels}
            percents = series(diagonal, lambda one: labels[one["name"]], lambda one: one["f1"]["percent"])
            intervals = series(
                diagonal, lambda one: labels[one["name"]], lambda one: one["f1"]["interval"] or [one["f1"]["percent"]] * 2
            )
            title = f"{group}, F1 and its {INTERVAL}"
            plot_by_language(folder / f"{group}-by-language.png", title, percents, intervals, "F1")
        if any(map(is_off_diagonal, sets)):
            for kind, name in MEASURE_NAMES.items():
                panels = series(
                    sets, lambda one: (one["context"], one["asked"]), lambda one, kind=kind: one[kind]["percent"]
                )
                plot_grid(folder / f"{group}-grid-{name.lower()}.png", f"{group}, {name} in percent", panels)
