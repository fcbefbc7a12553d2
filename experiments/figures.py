"""Draw the plots of the report from the results so far."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from results import AVERAGE, Results

from ppa_fairseq.evaluation.plots import plot_by_layer, save

CURVES = {
    "contrastive": "contrastive loss, bits",
    "contrastive_acc": "contrastive accuracy, %",
    "tlm": "TLM loss, bits",
}
HEATMAPS = ("ar", "de", "hi", "zh")  # languages of the heatmaps, if the data have them


def draw(results: Results, folder: Path) -> dict[str, str]:
    """Write the plots that have data; returns {file name: title}."""
    after = results.mapped if results.sentence_map() else ""
    plots: dict[str, tuple[Callable, str]] = {
        "retrieval-by-layer.png": (by_layer, "Retrieval by layer, mean pooling, mean of the seeds"),
        "curves.png": (curves, "Training curves, first seed"),
        "heatmaps.png": (heatmaps, f"Cosine similarity of sentences and their English translations; after: {after}"),
        "map.png": (sentence_map, f"The same sentences in every language, in two dimensions (t-SNE); after: {after}"),
    }
    return {name: title for name, (plot, title) in plots.items() if plot(results, title, folder / name)}


def by_layer(results: Results, title: str, path: Path) -> bool:
    panels = {"xx→en": {}, "en→xx": {}}
    for row in results.rows:
        if len(row.seeds) > 1 and results.retrieval(row):
            for layer in range(results.layers(row) + 1):
                found = [by_pair[AVERAGE] for by_pair in results.retrieval(row, "mean", layer).values()]
                for side, percents in enumerate(panels.values()):
                    percents.setdefault(row.label, {})[layer] = float(np.mean([both[side] for both in found]))
    if panels["xx→en"]:
        plot_by_layer(path, title, panels)
    return bool(panels["xx→en"])


def curves(results: Results, title: str, path: Path) -> bool:
    rows = [row for row in results.rows if len(row.seeds) > 1 and not row.given]
    found = {name: {row.label: results.curve(row, row.seeds[0], name) for row in rows} for name in CURVES}
    if not any(points for by_row in found.values() for points in by_row.values()):
        return False
    figure, axes = plt.subplots(1, len(CURVES), figsize=(4 * len(CURVES), 3.4), layout="constrained")
    for axis, (name, by_row) in zip(axes, found.items(), strict=True):
        for place, (label, points) in enumerate(by_row.items()):
            if points:
                axis.plot(list(points), list(points.values()), label=label, color=f"C{place}")
        axis.set_xscale("log")  # some rows have 40 updates, some 1,000
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.set_xlabel("updates")
        axis.set_ylabel(CURVES[name])
        axis.grid(alpha=0.3)
    lines = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4, frameon=False)
    save(figure, title, path)
    return True


def heatmaps(results: Results, title: str, path: Path) -> bool:
    vectors = results.sentence_map()
    if vectors is None:
        return False
    languages = list(vectors["languages"])
    chosen = [language for language in HEATMAPS if language in languages] or languages[:4]
    size = 2.2 * len(chosen) + 0.8, 4.6
    figure, axes = plt.subplots(2, len(chosen), figsize=size, squeeze=False, layout="constrained")
    similarity = {model: vectors[f"{model}-similarity"] for model in ("before", "after")}  # (L, M, M) each
    lowest = min(cosines.min() for cosines in similarity.values())  # one scale for both
    for (model, cosines), line in zip(similarity.items(), axes, strict=True):
        for axis, language in zip(line, chosen, strict=True):
            image = axis.imshow(cosines[languages.index(language)], cmap="viridis", vmin=lowest, vmax=1)
            axis.set_title(f"{language}–en, {model}", fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
    figure.colorbar(image, ax=axes, shrink=0.8)
    save(figure, title, path)
    return True


def sentence_map(results: Results, title: str, path: Path) -> bool:
    vectors = results.sentence_map()
    if vectors is None:
        return False
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
    colours = plt.get_cmap("tab20")
    for axis, model in zip(axes, ("before", "after"), strict=True):
        for place, (language, points) in enumerate(
            zip(vectors["languages"], vectors[f"{model}-coordinates"], strict=True)
        ):
            axis.scatter(*points.T, s=2, color=colours(place), label=language, linewidths=0)
        axis.set_title(model)
        axis.set_xticks([])
        axis.set_yticks([])
    handles, labels = axes[0].get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": 8}
    figure.legend(handles, labels, **place, markerscale=4, frameon=False)
    save(figure, title, path)
    return True
