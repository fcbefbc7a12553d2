"""Retrieval results with averages and gains, as Markdown tables and plots."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ppa_fairseq.evaluation.results import AVERAGE, Result, averages, different, table_by_model

SIDES = ("forward", "backward")  # source → target, target → source


def add_averages_and_gains(results: list[Result], by_layer: bool) -> list[Result]:
    """`results` with their averages over the pairs, and with gains over the first model, in points.

    Gains compare the same layer if `by_layer`, and the same pooling where both were measured; else the only layer, and
    the only pooling, of each model.
    """
    results = results + averages(results, "pair", SIDES, ["pairs"])
    by_pooling = has_both_poolings(results)

    def key(one: Result) -> tuple:
        return one["pair"], one["layer"] if by_layer else None, one["pooling"] if by_pooling else None, one["scoring"]

    base = {key(one): one for one in results if one.model == results[0].model}
    for one in results:
        first = base.get(key(one), one)
        for side in SIDES:
            one.measures[f"gain_{side}"] = None if first.model == one.model else one[side] - first[side]
    return results


def has_both_poolings(results: Sequence[Result]) -> bool:
    """Whether each model was measured with both poolings; else each was measured with one, perhaps its own."""
    first = results[0].model
    return len({one["pooling"] for one in results if one.model == first}) > 1


def directions(pairs: Sequence[str]) -> tuple[str, str]:
    """The names of the two columns: "xx→en" and "en→xx" if all pairs end in en."""
    targets = {pair.split("-")[1] for pair in pairs}
    target = targets.pop() if len(targets) == 1 else "yy"
    return f"xx→{target}", f"{target}→xx"


def tables(results: Sequence[Result], layer: str, columns: tuple[str, str]) -> str:
    """A captioned table for each pooling and scoring: by language pair, or by layer if `layer` is "all"."""

    def cell(one: Result, side: str) -> str:
        gain = one[f"gain_{side}"]
        return f"{one[side]:.1f}" + ("" if gain is None else f" ({gain:+.1f})")

    def columns_of(model: str) -> dict:
        return {
            f"{model} {column}": lambda one, side=side: cell(one, side)
            for column, side in zip(columns, SIDES, strict=True)
        }

    return "\n".join(
        f"{title}, top-1 accuracy in percent\n\n{table_by_model(here, row, columns_of, 'pairs')}\n"
        for _, title, row, here in sections(results, layer)
    )


def plot(results: Sequence[Result], layer: str, columns: tuple[str, str], folder: Path) -> None:
    """One PNG for each pooling and scoring: bars by language pair, or lines by layer if `layer` is "all"."""
    from ppa_fairseq.evaluation.plots import plot_bars, plot_by_layer

    for setting, title, row, here in sections(results, layer):
        panels: dict[str, dict] = {column: {} for column in columns}
        for one in here:
            for column, side in zip(columns, SIDES, strict=True):
                panels[column].setdefault(one.model, {})[one[row]] = one[side]
        path = folder / f"by-{row}-{'-'.join(setting)}.png"
        if row == "layer":
            plot_by_layer(path, title, panels)
        else:
            plot_bars(path, title, {f"{column}, top-1 %": models for column, models in panels.items()})


def sections(results: Sequence[Result], layer: str) -> Iterator[tuple[tuple[str, str], str, str, list[Result]]]:
    """For each pooling and scoring: both, a title, what a line of the table is, the results to report.

    Models that were measured with one pooling each share a section; it is called "own" where these differ.
    """
    row = "layer" if layer == "all" else "pair"
    where = {"all": "Average by layer", "last": "Last layer"}.get(layer, f"Layer {layer}")
    names = {"cls": "[CLS]", "mean": "mean pooling"}
    for pooling in different(results, "pooling") if has_both_poolings(results) else [None]:
        for scoring in different(results, "scoring"):
            here = [one for one in results if one["scoring"] == scoring and pooling in (None, one["pooling"])]
            here = [one for one in here if row == "pair" or one["pair"] == AVERAGE]
            used = {one.model: one["pooling"] for one in here}
            name, title = "own", ", ".join(f"{names[kind]} for {model}" for model, kind in used.items())
            if len(set(used.values())) == 1:
                name, title = here[0]["pooling"], names[here[0]["pooling"]]
            yield (name, scoring), f"{where}, {title}, {scoring}", row, here
