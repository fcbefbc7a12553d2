"""Results as pictures: bars by language, lines by layer, heatmaps.

Import this module only to plot: matplotlib takes a second.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to files, with or without a display
# A module of fairseq turns on the debug log of every library; matplotlib's lists hundreds of fonts.
logging.getLogger("matplotlib").setLevel(logging.WARNING)

import matplotlib.pyplot as plt  # noqa: E402 (the backend comes first)
import numpy as np  # noqa: E402

from ppa_fairseq.utils.files import atomic_path  # noqa: E402

ByModel = dict[str, dict[str, float]]  # {model: {language or pair: percent}}, the same ones for every model


def plot_bars(
    path: Path,
    title: str,
    panels: dict[str, ByModel],
    intervals: dict[str, dict[str, tuple[float, float]]] | None = None,
) -> None:
    """One panel above another, with a group of bars per language or pair and a bar per model.

    Args:
        path: the PNG to write.
        panels: {label of the axis: percentages}.
        intervals: {model: {language: (low, high)}} of a single panel.
    """
    groups = list(next(iter(next(iter(panels.values())).values())))
    size = max(6.4, 0.75 * len(groups)), 0.6 + 3.2 * len(panels)
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False, layout="constrained")
    for axis, (label, models) in zip(axes[:, 0], panels.items(), strict=True):
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
        axis.set_ylabel(label)
    add_legend(figure, axes[0, 0])
    save(figure, title, path)


def plot_by_layer(
    path: Path, title: str, panels: dict[str, dict[str, dict[int, float]]], measure: str = "top-1 %"
) -> None:
    """One panel beside another, with a line per model.

    Args:
        path: the PNG to write.
        panels: {heading: {model: {layer: percent}}}.
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
    add_legend(figure, axes[0, 0])
    save(figure, title, path)


def plot_heatmaps(
    path: Path,
    title: str,
    panels: dict[str, np.ndarray],
    rows: tuple[str, list[str]],
    columns: tuple[str, list[str]],
    text: Callable[[str, int, int], str],
) -> None:
    """One panel per model, all with the same colours for the same values.

    Args:
        path: the PNG to write.
        panels: {model: (R, C) values}; NaN for a cell without one.
        rows, columns: label of the axis, and the names along it.
        text: what to write into the cell of a model, a row and a column.
    """
    size = (1.6 + 0.8 * len(columns[1])) * len(panels), 1.8 + 0.6 * len(rows[1])
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    low, high = (extreme([extreme(grid) for grid in panels.values()]) for extreme in (np.nanmin, np.nanmax))
    for axis, (model, grid) in zip(axes[0], panels.items(), strict=True):
        axis.imshow(grid, cmap="Blues", vmin=low, vmax=high, aspect="auto")
        for (row, column), value in np.ndenumerate(grid):
            if not np.isnan(value):
                colour = "white" if value > (low + high) / 2 else "black"
                axis.text(column, row, text(model, row, column), ha="center", va="center", color=colour, fontsize=8)
        axis.set_title(model)
        axis.set_xticks(range(len(columns[1])), columns[1])
        axis.set_yticks(range(len(rows[1])), rows[1])
        axis.set_xlabel(columns[0])
    axes[0, 0].set_ylabel(rows[0])
    save(figure, title, path)


def add_legend(figure: plt.Figure, axis: plt.Axes) -> None:
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)


def save(figure: plt.Figure, title: str, path: Path) -> None:
    figure.suptitle(title)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=150)
    plt.close(figure)
