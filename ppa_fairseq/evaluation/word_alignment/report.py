"""Word alignments of several models, layers and methods against a gold standard: tables and plots."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ppa_fairseq.evaluation.plots import plot_by_layer
from ppa_fairseq.evaluation.word_alignment.error_rate import Tally
from ppa_fairseq.utils.markdown import markdown_table

MEASURES = {"precision": "precision", "recall": "recall", "aer": "AER"}


@dataclass(frozen=True)
class Result:
    """Word links of one model, layer and method; the measures in percent, None without a gold standard."""

    model: str
    layer: int
    method: str
    pairs: int
    links: int
    precision: float | None = None
    recall: float | None = None
    aer: float | None = None

    @classmethod
    def of(cls, model: str, layer: int, method: str, pairs: int, links: int, tally: Tally | None) -> "Result":
        measures = () if tally is None else (tally.precision, tally.recall, tally.error_rate)
        return cls(model, layer, method, pairs, links, *measures)


def tables(results: Sequence[Result], by_layer: bool) -> str:
    """A captioned table for each method: a line a layer, else a line a model."""
    return "\n".join(
        f"{title(method)}, precision, recall and alignment error rate (AER) in percent, {shown[0].pairs} pairs\n\n"
        f"{(table_by_layer if by_layer else table_by_model)(shown)}\n"
        for method, shown in by_method(results).items()
    )


def table_by_model(results: Sequence[Result]) -> str:
    lines = [["model", "layer", "links", *MEASURES.values()]]
    lines += [[result.model, str(result.layer), str(result.links), *cells_of(result)] for result in results]
    return markdown_table(lines)


def table_by_layer(results: Sequence[Result]) -> str:
    models = list(dict.fromkeys(result.model for result in results))
    found = {(result.model, result.layer): result for result in results}
    lines = [["layer", *(f"{model} {measure}" for model in models for measure in MEASURES.values())]]
    for layer in sorted({result.layer for result in results}):
        cells = [cell for model in models for cell in cells_of(found.get((model, layer)))]
        lines.append([str(layer), *cells])
    return markdown_table(lines)


def cells_of(result: Result | None) -> list[str]:
    return [f"{getattr(result, measure):.1f}" if result else "" for measure in MEASURES]


def plot(results: Sequence[Result], folder: Path) -> None:
    """by-layer-METHOD.png: a panel a measure, a line a model."""
    for method, shown in by_method(results).items():
        panels = {name: {} for name in MEASURES.values()}
        for result in shown:
            for measure, name in MEASURES.items():
                panels[name].setdefault(result.model, {})[result.layer] = getattr(result, measure)
        plot_by_layer(folder / f"by-layer-{method}.png", title(method), panels, "%")


def by_method(results: Sequence[Result]) -> dict[str, list[Result]]:
    methods = dict.fromkeys(result.method for result in results)
    return {method: [result for result in results if result.method == method] for method in methods}


def title(method: str) -> str:
    return f"Word alignment, {method} intersection"
