"""Word alignments compared with a gold standard: tables for several models, layers and methods."""

from collections.abc import Sequence

from ppa_fairseq.evaluation.results import Cell, Result, different, table_by_model
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
        if by_layer:
            table = table_by_model(sorted(here, key=lambda one: one["layer"]), "layer", columns)
        else:
            lines = [[one.model, str(one["layer"]), *(cell(one) for cell in columns("").values())] for one in here]
            table = markdown_table([["model", "layer", *MEASURES.values()], *lines])
        about = f"precision, recall and alignment error rate (AER) in percent, {here[0]['pairs']} pairs"
        parts.append(f"Word alignment, {method} intersection, {about}\n\n{table}\n")
    return "\n".join(parts)


def columns(model: str) -> dict[str, Cell]:
    return {
        f"{model} {name}": lambda one, measure=measure: f"{one[measure]:.1f}" for measure, name in MEASURES.items()
    }
