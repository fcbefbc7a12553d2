"""Write the tables and plots of docs/results/ from what experiments/reproduce.sh has measured so far.

    python experiments/report.py OUT docs/results

tables.md has the summary for a reader, {retrieval,xnli,words}.csv the means by language or layer, by-seed.csv every
number of every seed, steps.json the commands with their times. All numbers come from result files in OUT; a row without
results is listed as not run.
"""

import csv
import json
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import figures
from goals import BEYOND, goals
from results import AVERAGE, NOT_RUN, Results, spread

from ppa_fairseq.data.code_switching import ENGLISH
from ppa_fairseq.utils.files import atomic_path
from ppa_fairseq.utils.markdown import markdown_table

DIRECTIONS = ("xx→en", "en→xx")
XNLI = ("zero-shot", "translate-train", "code-switch", "translate-train-few", "code-switch-few")


class Number(NamedTuple):
    """One measured number. *place*: a language pair, a language, a layer, AVERAGE, or nothing."""

    row: str
    seed: str
    measure: str
    place: str
    value: float


def main(out: Path, folder: Path) -> None:
    results = Results(out)
    if not results.steps:
        sys.exit(f"report: error: {out}/steps has no finished step; run experiments/reproduce.sh first")
    folder.mkdir(parents=True, exist_ok=True)
    numbers = list(all_numbers(results))
    write_csv(folder / "by-seed.csv", [Number._fields, *numbers])
    for name in ("retrieval", "xnli", "words"):
        if chosen := [number for number in numbers if number.measure.startswith(name)]:
            write_csv(folder / f"{name}.csv", by_place(chosen))
    root = f"{Path(__file__).resolve().parents[1]}/"
    steps = [
        step | {"command": [part.replace(root, "") for part in step["command"]]} for step in results.steps.values()
    ]
    write(folder / "steps.json", json.dumps(steps, indent=1, ensure_ascii=False) + "\n")
    plots = figures.draw(results, folder)
    sections = [
        f"# Tables\n\n{introduction(results)}",
        f"## Goals\n\n{markdown_table(goals(results))}\n\n{paragraph(BEYOND)}",
        f"## All rows\n\n{overview(results, numbers)}",
        f"## Masked tokens\n\n{masked_tokens(results)}",
        "## Plots\n\n" + ("\n\n".join(f"![{title}]({name})" for name, title in plots.items()) or NOT_RUN),
    ]
    write(folder / "tables.md", "\n\n".join(sections) + "\n")
    print(f"{folder}: {len(results.steps)} steps reported")


def write(path: Path, text: str) -> None:
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_csv(path: Path, lines: list) -> None:
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


def paragraph(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def all_numbers(results: Results) -> Iterator[Number]:
    for row in results.rows:
        for pooling in ("mean", "cls"):
            for seed, by_pair in results.retrieval(row, pooling).items():
                for pair, both in by_pair.items():
                    for direction, value in zip(DIRECTIONS, both, strict=True):
                        yield Number(row.label, seed, f"retrieval, {pooling} pooling, {direction}", pair, value)
        for kind in XNLI:
            for seed, by_language in results.xnli(row, kind).items():
                for language, value in by_language.items():
                    yield Number(row.label, seed, f"xnli, {kind}", language, value)
        for method in ("argmax", "softmax"):
            for seed, by_layer in results.word_alignment(row, method).items():
                for layer, value in by_layer.items():
                    yield Number(row.label, seed, f"words, {method}", str(layer), value)
        for seed, costs in results.perplexity(row).items():
            for measure, value in zip(("perplexity", "masked accuracy"), costs, strict=True):
                yield Number(row.label, seed, measure, "", value)


def by_place(numbers: list[Number]) -> list[list[str]]:
    """Lines of a table: a line for each measure and place, a column for each row."""
    cells = defaultdict(list)
    for number in numbers:
        cells[number.measure, number.place, number.row].append(number.value)
    rows = list(dict.fromkeys(number.row for number in numbers))
    lines = dict.fromkeys((number.measure, number.place) for number in numbers)
    body = []
    for line in lines:
        values = [cells[(*line, row)] for row in rows]
        body.append([*line, *(spread(some) if some else "" for some in values)])
    return [["measure", "place", *rows], *body]


def introduction(results: Results) -> str:
    machines = dict.fromkeys(record["machine"] for record in results.steps.values())
    seconds = [sum(record[kind] for record in results.steps.values()) for kind in ("seconds", "cpu_seconds")]
    return "\n\n".join(
        map(
            paragraph,
            [
                f"`experiments/reproduce.sh` wrote this page with the setting `{results.setting}`. Numbers are mean ± "
                "standard deviation over the seeds. A row of one seed has no deviation; a difference as small as the "
                f'deviation of the others means nothing. "{NOT_RUN}" marks what has not been run. By language and '
                "layer: [retrieval.csv](retrieval.csv), [xnli.csv](xnli.csv), [words.csv](words.csv); by seed: "
                "[by-seed.csv](by-seed.csv); commands and times: [steps.json](steps.json).",
                f"Machine: {'; '.join(machines)}. {len(results.steps)} steps took {seconds[0] / 60:.0f} minutes, "
                f"{seconds[1] / 60:.0f} CPU minutes.",
                *results.data_counts(),
            ],
        )
    )


def overview(results: Results, numbers: list[Number]) -> str:
    """A line for each row: retrieval, XNLI and training time."""
    found = defaultdict(list)
    for number in numbers:
        found[number.row, number.measure, number.place].append(number.value)
    columns = {
        f"{name} {direction}": (f"retrieval, {pooling} pooling, {direction}", AVERAGE)
        for name, pooling in (("mean-pooled", "mean"), ("[CLS]", "cls"))
        for direction in DIRECTIONS
    }
    columns |= {"XNLI zero-shot": ("xnli, zero-shot", AVERAGE), "English": ("xnli, zero-shot", ENGLISH)}
    lines, absent = [["row", "seeds", *columns, "training, CPU s"]], []
    for row in results.rows:
        cells = []
        for measure, place in columns.values():
            once = row.given and measure.startswith("retrieval")  # the same encoder for every seed
            cells.append(spread(found[row.label, measure, place], 1 if once else len(row.seeds)))
        trained = [results.steps.get(f"align.{row.name}.{seed}") for seed in row.seeds]
        seconds = [record["cpu_seconds"] for record in trained if record]
        cells.append("–" if row.given else f"{fmean(seconds):,.0f}" if seconds else NOT_RUN)
        if set(cells) <= {NOT_RUN, "–"}:
            absent.append(row.label)
        else:
            lines.append([row.label, ", ".join(row.seeds), *cells])
    note = (
        "Retrieval: top-1 accuracy in percent, last layer, cosine, average over the languages. XNLI: accuracy in "
        "percent on the held-out rows, average over the languages, and English."
    )
    missing = [paragraph(f"Not run: {'; '.join(absent)}.")] if absent else []
    return "\n\n".join([markdown_table(lines), *missing, paragraph(note)])


def masked_tokens(results: Results) -> str:
    """How well the MLM heads read Tatoeba's pairs, for heads that were trained on this layout of a pair."""
    lines = [["row", "seeds", "perplexity of a masked token", "accuracy, %"]]
    for row in results.rows:
        costs = results.perplexity(row)
        if costs and "--tlm-reset-positions" not in row.flags:
            lines.append([row.label, ", ".join(costs), *(spread([cost[n] for cost in costs.values()]) for n in (0, 1))])
    note = (
        "Tatoeba's pairs in TLM's layout, 15 % masked. Rows without a trained head are left out, and XLM's TLM, which "
        "was trained on another layout."
    )
    return f"{markdown_table(lines) if len(lines) > 1 else NOT_RUN}\n\n{paragraph(note)}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
