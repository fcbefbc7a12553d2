"""Measured curves: rows as a TSV, a Markdown table and a picture, in one folder."""

import csv
from pathlib import Path

from ppa_fairseq.evaluation.plots import plt, save
from ppa_fairseq.markdown import markdown_table


def write_curve(folder: Path, name: str, rows: list[dict[str, float]], x: str, panels: dict[str, list[str]]) -> None:
    """Write NAME.tsv, NAME.md and NAME.png, and print the table.

    *panels*: {axis label: columns of *rows* drawn in it}, over column *x*, both axes logarithmic.
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
        axis.grid(alpha=0.3, which="both")
        axis.legend(frameon=False)
    save(figure, name, folder / f"{name}.png")


def _readable(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
