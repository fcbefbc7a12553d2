"""The record that every evaluation fills, and what all reports do with a list of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ppa_fairseq.utils.markdown import markdown_table

AVERAGE = "average"
Cell = Callable[["Result"], str]


@dataclass
class Result:
    """What was measured of one model in one place; `result["pair"]` reads from either dict."""

    model: str
    place: dict  # as {"pair": "de-en", "layer": 8}
    measures: dict  # as {"pairs": 300, "forward": 71.3}; percentages and counts

    def __getitem__(self, name: str):
        return self.place[name] if name in self.place else self.measures[name]

    def record(self) -> dict:
        """One flat dict, as the JSON files hold it."""
        return {"model": self.model, **self.place, **self.measures}


def averages(results: Iterable[Result], over: str, means: Sequence[str], sums: Sequence[str]) -> list[Result]:
    """The average over all places that differ in `over` alone, each counting the same, for every model.

    `means` names the measures to average, `sums` the counts to add.
    """
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        groups.setdefault((result.model, *(result.place | {over: AVERAGE}).items()), []).append(result)
    return [
        Result(
            group[0].model,
            group[0].place | {over: AVERAGE},
            {name: sum(result[name] for result in group) for name in sums}
            | {name: fmean(result[name] for result in group) for name in means},
        )
        for group in groups.values()
    ]


def different(results: Iterable[Result], name: str) -> list:
    """The different values of `name` in `results`, in their order; "model" names the models."""
    return list(dict.fromkeys(result.model if name == "model" else result[name] for result in results))


def table_by_model(
    results: Sequence[Result],
    row: str,
    columns: Callable[[str], Mapping[str, Cell]],
    count: str | None = None,
) -> str:
    """A Markdown table with a line for each value of `row`, and in it the columns of each model, side by side.

    Args:
        columns: the columns of a model: {heading: function that writes a result's cell}. A model without a result in a
            line has empty cells there.
        count: a measure for the second column, the same for all models.
    """
    models = {model: columns(model) for model in different(results, "model")}
    found = {(result.model, result[row]): result for result in results}
    counts = {result[row]: [str(result[count])] if count else [] for result in results}
    lines = [[row, *([count] if count else []), *(heading for cells in models.values() for heading in cells)]]
    for value in counts:
        line = [str(value), *counts[value]]
        for model, cells in models.items():
            result = found.get((model, value))
            line += [cell(result) if result else "" for cell in cells.values()]
        lines.append(line)
    return markdown_table(lines)
