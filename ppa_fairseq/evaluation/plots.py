"""Results as pictures: bars by language pair, lines by layer.

Import this module only to plot: matplotlib takes a second.
"""

import logging
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to files, with or without a display
# A module of fairseq turns on the debug log of every library; matplotlib's lists hundreds of fonts.
logging.getLogger("matplotlib").setLevel(logging.WARNING)

import matplotlib.pyplot as plt  # noqa: E402 (the backend comes first)
import numpy as np  # noqa: E402

from ppa_fairseq.utils.files import atomic_path  # noqa: E402


def plot_bars(path: Path, title: str, panels: dict[str, dict[str, dict[str, float]]]) -> None:
    """One panel above another, with a group of bars per language pair and a bar per model.

    `panels` is {label of the axis: {model: {pair: percent}}}, with the same pairs everywhere.
    """
    pairs = list(next(iter(next(iter(panels.values())).values())))
    size = max(6.4, 0.75 * len(pairs)), 0.6 + 3.2 * len(panels)
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False, layout="constrained")
    for axis, (label, models) in zip(axes[:, 0], panels.items(), strict=True):
        width = 0.8 / len(models)
        for place, (model, percents) in enumerate(models.items()):
            left = np.arange(len(pairs)) + (place - (len(models) - 1) / 2) * width
            bars = axis.bar(left, [percents[pair] for pair in pairs], width, label=model)
            axis.bar_label(bars, fmt="%.0f", fontsize=7)
        axis.set_ylim(0, 108)
        axis.set_xticks(range(len(pairs)), pairs)
        axis.set_ylabel(label)
    add_legend(figure, axes[0, 0])
    save(figure, title, path)


def plot_by_layer(path: Path, title: str, panels: dict[str, dict[str, dict[int, float]]]) -> None:
    """One panel beside another, with a line per model; `panels` is {heading: {model: {layer: percent}}}."""
    size = 4.8 * len(panels), 3.8
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, (heading, models) in zip(axes[0], panels.items(), strict=True):
        for model, percents in models.items():
            axis.plot(list(percents), list(percents.values()), marker="o", label=model)
        axis.set_title(heading)
        axis.set_xlabel("layer (0: the embeddings)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("top-1 %")
    axes[0, 0].set_ylim(bottom=0)
    add_legend(figure, axes[0, 0])
    save(figure, title, path)


def plot_histograms(path: Path, title: str, panels: dict[str, np.ndarray]) -> None:
    """One panel beside another, each the distribution of one score; `panels` is {label of the axis: scores (N,)}."""
    figure, axes = plt.subplots(1, len(panels), figsize=(4.8 * len(panels), 3.2), squeeze=False, layout="constrained")
    for axis, (label, scores) in zip(axes[0], panels.items(), strict=True):
        axis.hist(scores, bins=60)
        axis.set_xlabel(label)
    axes[0, 0].set_ylabel("pairs")
    save(figure, title, path)


def add_legend(figure: plt.Figure, axis: plt.Axes) -> None:
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)


def save(figure: plt.Figure, title: str, path: Path) -> None:
    figure.suptitle(title)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=150)
    plt.close(figure)
