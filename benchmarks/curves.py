"""Measured curves: rows as a TSV, a Markdown table and a picture, in one folder."""

import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from ppa_fairseq.evaluation.plots import plt, save
from ppa_fairseq.utils.markdown import markdown_table


def write_curve(folder: Path, name: str, rows: list[dict[str, float]], x: str, panels: dict[str, list[str]]) -> None:
    """Write NAME.tsv, NAME.md and NAME.png, and print the table.

    *panels*: {axis label: columns of *rows* drawn in it}, over column *x*, both axes logarithmic. Upright a panel is a
    decade or more, so that noise looks like noise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.tsv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    table = markdown_table([list(rows[0]), *([_readable(value) for value in row.values()] for row in rows)])
    (folder / f"{name}.md").write_text(table + "\n", encoding="utf-8")
    print(f"{name}\n\n{table}\n", flush=True)
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.6), squeeze=False, layout="constrained")
    for axis, (label, columns) in zip(axes[0], panels.items(), strict=True):
        for column in columns:
            axis.plot([row[x] for row in rows], [row[column] for row in rows], marker="o", label=column)
        axis.set(xlabel=x, ylabel=label, xscale="log", yscale="log")
        _plain_ticks(axis, [row[x] for row in rows])
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    save(figure, name, folder / f"{name}.png")


def _plain_ticks(axis: Axes, values: list[float]) -> None:
    low, high = axis.get_ylim()
    if high < 10 * low:
        middle = (low * high) ** 0.5
        axis.set_ylim(middle / 10**0.5, middle * 10**0.5)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.set_xticks(values, [f"{value:,}" for value in values], fontsize=8)
    axis.minorticks_off()


def _readable(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
