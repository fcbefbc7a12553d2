"""Results as pictures: by language pair, by layer, by language, as confusions and as a grid of languages.

Import this module only to plot: matplotlib takes a second.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to files, with or without a display
# A module of fairseq turns on the debug log of every library; matplotlib's lists hundreds of fonts.
logging.getLogger("matplotlib").setLevel(logging.WARNING)

import matplotlib.pyplot as plt  # noqa: E402 (the backend comes first)
import numpy as np  # noqa: E402

from ppa_fairseq.utils.files import atomic_path  # noqa: E402


def plot_by_pair(path: Path, title: str, panels: dict[str, dict[str, dict[str, float]]]) -> None:
    """One panel per direction, with a group of bars per language pair and a bar per model.

    Args:
        path: the PNG to write.
        panels: {direction: {model: {pair: percent}}}, the same pairs for every model.
    """
    pairs = len(next(iter(next(iter(panels.values())).values())))
    size = max(6.4, 0.75 * pairs), 3.2 * len(panels)
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False, layout="constrained")
    for axis, (direction, models) in zip(axes[:, 0], panels.items(), strict=True):
        draw_bars(axis, models)
        axis.set_ylabel(f"{direction}, top-1 %")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    save(figure, title, path)


def plot_by_layer(
    path: Path, title: str, panels: dict[str, dict[str, dict[int, float]]], measure: str = "top-1 %"
) -> None:
    """One panel per direction (or measure), with a line per model.

    Args:
        path: the PNG to write.
        panels: {direction: {model: {layer: percent}}}.
        measure: label of the axis that all panels share.
    """
    size = 4.8 * len(panels), 3.8
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, (heading, models) in zip(axes[0], panels.items(), strict=True):
        for model, percents in models.items():
            axis.plot(list(percents), list(percents.values()), marker="o", label=model)
        axis.set_title(heading)
        axis.set_xlabel("layer (0: the embeddings)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(measure)
    axes[0, 0].set_ylim(bottom=0)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    save(figure, title, path)


def plot_by_language(
    path: Path,
    title: str,
    models: dict[str, dict[str, float]],
    intervals: dict[str, dict[str, tuple[float, float]]],
    measure: str = "accuracy",
) -> None:
    """A group of bars per language, a bar per model, each with its interval.

    Args:
        path: the PNG to write.
        models: {model: {language: percent}}, the same languages for every model.
        intervals: {model: {language: (low, high)}}, in percent.
        measure: label of the axis.
    """
    languages = len(next(iter(models.values())))
    figure, axis = plt.subplots(figsize=(max(6.4, 0.75 * languages), 3.8), layout="constrained")
    draw_bars(axis, models, intervals)
    axis.set_ylabel(f"{measure}, %")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    save(figure, title, path)


def plot_confusions(path: Path, title: str, labels: Sequence[str], models: dict[str, np.ndarray]) -> None:
    """One panel per model: how often each class was predicted for each, shaded by the share of the true class.

    Args:
        path: the PNG to write.
        labels: K names of classes.
        models: {model: (K, K) counts, a row for each true class}.
    """
    figure, axes = plt.subplots(1, len(models), figsize=(4.2 * len(models), 4.2), squeeze=False, layout="constrained")
    for axis, (model, counts) in zip(axes[0], models.items(), strict=True):
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            colour = "white" if share > 0.5 else "black"
            axis.text(column, row, f"{count}\n{share:.0%}", ha="center", va="center", color=colour)
        axis.set_title(model)
        axis.set_xticks(range(len(labels)), labels)
        axis.set_yticks(range(len(labels)), labels, rotation=90, va="center")
        axis.set_xlabel("predicted")
    axes[0, 0].set_ylabel("true")
    save(figure, title, path)


def plot_grid(path: Path, title: str, panels: dict[str, dict[tuple[str, str], float]]) -> None:
    """One panel per model, a heatmap: a row for each language of contexts, a column for each language of questions.

    Args:
        path: the PNG to write.
        panels: {model: {(context language, question language): percent}}; a pair may be missing.
    """
    pairs = [pair for percents in panels.values() for pair in percents]
    contexts, asked = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    grids = {
        model: np.array([[percents.get((context, language), np.nan) for language in asked] for context in contexts])
        for model, percents in panels.items()
    }
    size = (1.6 + 0.62 * len(asked)) * len(panels), 1.8 + 0.5 * len(contexts)
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    low, high = (extreme([extreme(grid) for grid in grids.values()]) for extreme in (np.nanmin, np.nanmax))
    for axis, (model, grid) in zip(axes[0], grids.items(), strict=True):
        axis.imshow(grid, cmap="viridis", vmin=low, vmax=high, aspect="auto")  # one scale for all models
        for (row, column), percent in np.ndenumerate(grid):
            if not np.isnan(percent):
                colour = "black" if percent > (low + high) / 2 else "white"
                axis.text(column, row, f"{percent:.1f}", ha="center", va="center", color=colour, fontsize=8)
        axis.set_title(model)
        axis.set_xticks(range(len(asked)), asked)
        axis.set_yticks(range(len(contexts)), contexts)
        axis.set_xlabel("question")
    axes[0, 0].set_ylabel("context")
    save(figure, title, path)


def draw_bars(
    axis: plt.Axes,
    models: dict[str, dict[str, float]],
    intervals: dict[str, dict[str, tuple[float, float]]] | None = None,
) -> None:
    """Percentages as groups of bars, {model: {group: percent}}, with {model: {group: (low, high)}} if given."""
    groups = list(next(iter(models.values())))
    width = 0.8 / len(models)
    for place, (model, percents) in enumerate(models.items()):
        left = np.arange(len(groups)) + (place - (len(models) - 1) / 2) * width
        heights = np.array([percents[group] for group in groups])
        errors = None
        if intervals:
            errors = np.abs(np.array([intervals[model][group] for group in groups]).T - heights)  # (2, groups)
        bars = axis.bar(left, heights, width, label=model, yerr=errors, error_kw={"elinewidth": 0.8})
        axis.bar_label(bars, fmt="%.0f", fontsize=7)
    axis.set_ylim(0, 108)
    axis.set_xticks(range(len(groups)), groups)


def save(figure: plt.Figure, title: str, path: Path) -> None:
    figure.suptitle(title)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=150)
    plt.close(figure)
