"""Word alignments compared with a gold standard: tables and plots for several models, layers and methods."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ppa_fairseq.evaluation.results import Cell, Result, different, series, table_by_model
from ppa_fairseq.evaluation.word_alignment.error_rate import Tally
from ppa_fairseq.utils.markdown import markdown_table

MEASURES = {"precision": "precision", "recall": "recall", "aer": "AER"}


def result(model: str, layer: int, method: str, pairs: int, links: int, tally: Tally | None) -> Result:
    """The links of one model, layer and method; the measures, in percent, are None without a gold standard."""
    measured = (tally.precision, tally.recall, tally.error_rate) if tally else (None, None, None)
    measures = {"pairs": pairs, "links": links, **dict(zip(MEASURES, measured, strict=True))}
    return Result(model, {"layer": layer, "method": method}, measures)


def tables(results: Sequence[Result], by_layer: bool) -> str:
    """A captioned table for each method: a line for each layer if `by_layer`, else for each model."""
    parts = []
    for method in different(results, "method"):
        here = [one for one in results if one["method"] == method]
        about = f"precision, recall and alignment error rate (AER) in percent, {here[0]['pairs']} pairs"
        if by_layer:
            here.sort(key=lambda one: one["layer"])
            table = table_by_model(here, "layer", lambda model: cells(f"{model} "))
        else:
            lines = [["model", "layer", "links", *MEASURES.values()]]
            for one in here:
                lines.append([one.model, str(one["layer"]), str(one["links"]), *(f(one) for f in cells().values())])
            table = markdown_table(lines)
        parts.append(f"{title(method)}, {about}\n\n{table}\n")
    return "\n".join(parts)


def cells(prefix: str = "") -> dict[str, Cell]:
    def cell(measure: str) -> Callable[[Result], str]:
        return lambda one: f"{one[measure]:.1f}"

    return {prefix + name: cell(measure) for measure, name in MEASURES.items()}


def plot(results: Sequence[Result], folder: Path) -> None:
    """by-layer-METHOD.png: a panel for each measure, a line for each model."""
    from ppa_fairseq.evaluation.plots import plot_by_layer

    for method in different(results, "method"):
        here = [one for one in results if one["method"] == method]
        panels = {
            name: series(here, lambda one: one["layer"], lambda one, measure=measure: one[measure])
            for measure, name in MEASURES.items()
        }
        plot_by_layer(folder / f"by-layer-{method}.png", title(method), panels, "%")


def title(method: str) -> str:
    return f"Word alignment, {method} intersection"
