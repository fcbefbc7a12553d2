"""Scores of questions in one language over contexts in another as heatmaps."""

from pathlib import Path

import numpy as np

from ppa_fairseq.evaluation.plots import plt, save


def plot_grid(path: Path, title: str, panels: dict[str, dict[tuple[str, str], float]]) -> None:
    """One panel a model: a row for each language of contexts, a column for each language of questions.

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
