"""Retrieval results, their averages and gains, as Markdown tables and plots."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from ppa_fairseq.evaluation.plots import plot_by_layer, plot_by_pair
from ppa_fairseq.utils.markdown import markdown_table

AVERAGE = "average"


@dataclass
class Result:
    """Top-1 accuracy of one model on one set of pairs, in percent; gains over the first model, in points."""

    model: str
    pair: str  # "de-en", or AVERAGE over all pairs
    layer: int
    pooling: str
    scoring: str
    pairs: int  # sentence pairs measured
    forward: float  # source → target
    backward: float  # target → source
    gain_forward: float | None = None
    gain_backward: float | None = None


def averages(results: Iterable[Result]) -> list[Result]:
    """The mean over language pairs, each counting the same, for every model, layer, pooling and scoring."""
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        measure = result.layer, result.pooling, result.scoring
        groups.setdefault((result.model, AVERAGE, *measure), []).append(result)
    return [
        Result(
            *measure,
            pairs=sum(result.pairs for result in group),
            forward=fmean(result.forward for result in group),
            backward=fmean(result.backward for result in group),
        )
        for measure, group in groups.items()
    ]


def add_gains(results: Iterable[Result], base: str, by_layer: bool) -> None:
    """Fill in the gains over the model `base`: at the same layer if `by_layer`, else at the only one."""

    def place(result: Result) -> tuple:
        return result.pair, result.layer if by_layer else None, result.pooling, result.scoring

    results = list(results)
    based = {place(result): result for result in results if result.model == base}
    for result in results:
        if result.model != base and (first := based.get(place(result))):
            result.gain_forward = result.forward - first.forward
            result.gain_backward = result.backward - first.backward


def directions(pairs: Sequence[str]) -> tuple[str, str]:
    """How the columns are called: "xx→en", "en→xx" where all pairs end in en."""
    targets = {pair.split("-")[1] for pair in pairs}
    target = targets.pop() if len(targets) == 1 else "yy"
    return f"xx→{target}", f"{target}→xx"


def table(results: Sequence[Result], row: str, columns: tuple[str, str]) -> str:
    """Markdown, a line for each `row` ("pair" or "layer"): both directions of each model (and its gain)."""
    models = list(dict.fromkeys(result.model for result in results))
    found = {(result.model, getattr(result, row)): result for result in results}
    lines = [[row, "pairs", *(f"{model} {column}" for model in models for column in columns)]]
    for name in dict.fromkeys(getattr(result, row) for result in results):
        here = [found.get((model, name)) for model in models]
        cells = [cell for result in here for cell in cells_of(result)]
        lines.append([str(name), str(next(result.pairs for result in here if result)), *cells])
    return markdown_table(lines)


def cells_of(result: Result | None) -> tuple[str, str]:
    if result is None:
        return "", ""
    if result.gain_forward is None:
        return f"{result.forward:.1f}", f"{result.backward:.1f}"
    return (
        f"{result.forward:.1f} ({result.gain_forward:+.1f})",
        f"{result.backward:.1f} ({result.gain_backward:+.1f})",
    )


def tables(results: Sequence[Result], layer: str, columns: tuple[str, str]) -> str:
    """One captioned table for each pooling and scoring: by language pair, or by layer if `layer` is "all"."""
    return "\n".join(
        f"{title}, top-1 accuracy in percent\n\n{table(shown, row, columns)}\n"
        for _, title, row, shown in sections(results, layer)
    )


def plot(results: Sequence[Result], layer: str, columns: tuple[str, str], folder: Path) -> None:
    """One PNG for each pooling and scoring: bars by language pair, or lines by layer if `layer` is "all"."""
    for setting, title, row, shown in sections(results, layer):
        panels = {column: {} for column in columns}
        for result in shown:
            for column, percent in zip(columns, (result.forward, result.backward), strict=True):
                panels[column].setdefault(result.model, {})[getattr(result, row)] = percent
        draw = plot_by_layer if row == "layer" else plot_by_pair
        draw(folder / f"by-{row}-{'-'.join(setting)}.png", title, panels)


def sections(
    results: Sequence[Result], layer: str
) -> Iterator[tuple[tuple[str, str], str, str, list[Result]]]:
    """For each pooling and scoring: (both, a title, what a row is, the results to show)."""
    row, where = {"all": ("layer", "Average by layer"), "last": ("pair", "Last layer")}.get(
        layer, ("pair", f"Layer {layer}")
    )
    for setting in dict.fromkeys((result.pooling, result.scoring) for result in results):
        shown = [
            result
            for result in results
            if (result.pooling, result.scoring) == setting and (row == "pair" or result.pair == AVERAGE)
        ]
        pooling = {"cls": "[CLS]", "mean": "mean pooling"}[setting[0]]
        yield setting, f"{where}, {pooling}, {setting[1]}", row, shown
