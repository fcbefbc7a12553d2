"""Scores of answers as Markdown tables and plots."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path

from ppa_fairseq.evaluation.plots import plot_by_language
from ppa_fairseq.evaluation.question_answering.plots import plot_grid
from ppa_fairseq.evaluation.question_answering.results import Result
from ppa_fairseq.evaluation.significance import INTERVAL, p_cell
from ppa_fairseq.utils.markdown import markdown_table

METRIC_NAMES = {"mlqa": "MLQA's metric", "squad": "SQuAD's metric"}
MEASURE_NAMES = {"f1": "F1", "exact_match": "EM"}


def report(results: Sequence[Result], records: Mapping[str, str]) -> str:
    """For each group a table of its diagonal and averages, for a grid also one of all cells of each model.

    Then how to read them, and what is known of the models' training: `records` has a line for each model, or "".
    """
    parts = []
    for group, here in groups(results):
        parts.append(f"{group}, {METRIC_NAMES[here[0].metric]}, in percent\n\n{summary(here)}")
        if any(result.off_diagonal for result in here):
            for model in dict.fromkeys(result.model for result in here):
                cells = [result for result in here if result.model == model and not result.averaged]
                parts.append(f"{group}, {model}: F1 / EM by languages\n\n{grid_table(cells)}")
    notes = [
        f"F1 in percent [{INTERVAL}, bootstrap over questions: one asked in several languages is one]; averages count "
        "every set the same."
    ]
    if len({result.model for result in results}) > 1:
        notes.append(
            f"Gains are over {results[0].model}, in points; p: signs flipped at random, question by question, not "
            "corrected for the number of tests."
        )
    trained = [f"- {model}: {record}" for model, record in records.items() if record]
    return "\n\n".join(part for part in (*parts, "\n".join(notes), "\n".join(trained)) if part) + "\n"


def groups(results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    for group in dict.fromkeys(result.group for result in results):
        yield group, [result for result in results if result.group == group]


def summary(results: Sequence[Result]) -> str:
    """A line for each set on the diagonal and each average; of each model F1, its gain over the first one's, and EM."""
    models = list(dict.fromkeys(result.model for result in results))
    found = {(result.model, result.name): result for result in results if not result.off_diagonal}
    head = ["", "questions"]
    for model in models:
        head += [f"{model} F1", *(["gain"] if model != models[0] else []), f"{model} EM"]
    lines = [head]
    for name in dict.fromkeys(name for _, name in found):
        here = [found[model, name] for model in models]
        line = [here[0].label, str(here[0].questions)]
        for result in here:
            line.append(f"{result.f1.percent:.1f}{interval_cell(result.f1.interval)}")
            if result.f1.gain is not None:
                line.append(f"{result.f1.gain:+.1f} ({p_cell(result.f1.p_value)})")
            line.append(f"{result.exact_match.percent:.1f}")
        lines.append(line)
    return markdown_table(lines)


def interval_cell(interval: tuple[float, float] | None) -> str:
    return " [{:.1f}, {:.1f}]".format(*interval) if interval else ""


def grid_table(results: Sequence[Result]) -> str:
    """F1 / EM: a line for each language of contexts, a column for each language of questions."""
    found = {(result.context, result.asked): result for result in results}
    contexts, asked = (sorted({key[side] for key in found}) for side in (0, 1))
    lines = [["context", *(f"question {language}" for language in asked)]]
    for context in contexts:
        here = [found.get((context, language)) for language in asked]
        lines.append([context, *(f"{r.f1.percent:.1f} / {r.exact_match.percent:.1f}" if r else "" for r in here)])
    return markdown_table(lines)


def plot(results: Sequence[Result], folder: Path) -> None:
    """For each group F1 as bars by language; for a grid also F1 and EM as heatmaps, a panel a model."""
    for group, here in groups(results):
        if diagonal := [result for result in here if not result.averaged and not result.off_diagonal]:
            alike = len({r.label for r in diagonal}) < len({r.name for r in diagonal})  # two sets of one language
            key = attrgetter("name" if alike else "label")
            bars = by_model(diagonal, lambda r, key=key: (key(r), r.f1.percent))
            intervals = by_model(diagonal, lambda r, key=key: (key(r), r.f1.interval or (r.f1.percent, r.f1.percent)))
            title = f"{group}, F1 and its {INTERVAL}"
            plot_by_language(folder / f"{group}-by-language.png", title, bars, intervals, "F1")
        if any(result.off_diagonal for result in here):
            cells = [result for result in here if not result.averaged]
            for kind, name in MEASURE_NAMES.items():
                panels = by_model(cells, lambda r, kind=kind: ((r.context, r.asked), getattr(r, kind).percent))
                plot_grid(folder / f"{group}-grid-{name.lower()}.png", f"{group}, {name} in percent", panels)


def by_model(results: Sequence[Result], entry: Callable[[Result], tuple]) -> dict[str, dict]:
    """{model: {key: value}} of the (key, value) that `entry` gives for each result."""
    found: dict[str, dict] = {}
    for result in results:
        key, value = entry(result)
        found.setdefault(result.model, {})[key] = value
    return found
