"""Write the tables (CSV) and plots of docs/results/ from what experiments/reproduce.sh has measured so far.

    python experiments/report.py OUT docs/results

Cells are mean ± standard deviation over the seeds. by-seed.csv has every number of every seed, steps.csv the command
and time of every step. All numbers come from result files in OUT; a cell without any says "not run", or is empty.
"""

import csv
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean

import figures
from goals import goals
from results import AVERAGE, NOT_RUN, Results, Row, spread

from ppa_fairseq.data.code_switching import ENGLISH
from ppa_fairseq.utils.files import atomic_path

DIRECTIONS = {"xx→en": "xx-en", "en→xx": "en-xx"}
Columns = dict[str, dict[str, dict]]  # {column: {seed: {language, pair or layer: value}}}


def main(out: Path, folder: Path) -> None:
    results = Results(out)
    if not results.steps:
        sys.exit(f"report: error: {out}/steps has no finished step; run experiments/reproduce.sh first")
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [["table", "column", "seed", "place", "value"]]
    for name, (head, columns) in by_place(results).items():
        seeds += [
            [name, column, seed, place, value]
            for column, by_seed in columns.items()
            for seed, values in by_seed.items()
            for place, value in values.items()
        ]
        if columns:
            write(folder / f"{name}.csv", means(head, columns))
    for name, lines in {
        "by-seed": seeds,
        "goals": goals(results),
        "rows": overview(results),
        "perplexity": perplexities(results),
        "steps": steps(results),
    }.items():
        write(folder / f"{name}.csv", lines)
    figures.draw(results, folder)
    print(*results.data_counts(), f"{folder}: {len(results.steps)} steps reported", sep="\n")


def write(path: Path, lines: Iterable[list]) -> None:
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


def by_place(results: Results) -> dict[str, tuple[str, Columns]]:
    """{table: (head of its first column, its columns)} by language, pair or layer; only columns with results."""
    main_rows = [row for row in results.rows if len(row.seeds) > 1]
    tables = {}
    for side, name in enumerate(DIRECTIONS.values()):
        tables[f"retrieval-{name}"] = "pair", {
            row.label: {seed: {pair: both[side] for pair, both in found.items()} for seed, found in by_seed.items()}
            for row in main_rows
            if (by_seed := results.retrieval(row))
        }
    zero_shot = {row: found for row in results.rows if (found := results.xnli(row))}
    tables["xnli-zero-shot"] = "language", {row.label: zero_shot[row] for row in zero_shot if row in main_rows}
    one_seed = {row.label: found for row, found in zero_shot.items() if row not in main_rows}
    tables["xnli-zero-shot-one-seed"] = "language", one_seed
    for few in ("", "-few"):
        tables[f"xnli{few}-translations"] = "language", {
            f"{row.label}: {kind}": found
            for row in results.rows
            for kind in ("translate-train", "code-switch")
            if (found := results.xnli(row, kind + few))
        }
    for method in ("argmax", "softmax"):
        errors = {row.label: found for row in main_rows if (found := results.word_alignment(row, method))}
        tables[f"words-{method}"] = "layer", errors
    return tables


def means(head: str, columns: Columns) -> list[list[str]]:
    places = dict.fromkeys(place for by_seed in columns.values() for values in by_seed.values() for place in values)
    lines = [[head, *columns]]
    for place in places:
        found = ([values[place] for values in by_seed.values() if place in values] for by_seed in columns.values())
        lines.append([str(place), *(spread(values) if values else "" for values in found)])
    return [*lines, ["seeds", *(str(len(by_seed)) for by_seed in columns.values())]]


def overview(results: Results) -> list[list[str]]:
    """A line for each row: average retrieval at the last layer, XNLI zero-shot, training time."""
    head = [f"{name} {direction}" for name in ("mean-pooled", "[CLS]") for direction in DIRECTIONS]
    lines = [["row", "seeds", *head, "XNLI zero-shot", "English", "training, CPU s"]]
    for row in results.rows:
        expected = 1 if row.given else len(row.seeds)  # a given encoder is the same for every seed
        cells = []
        for pooling in ("mean", "cls"):
            found = results.retrieval(row, pooling).values()
            cells += [spread([by_pair[AVERAGE][side] for by_pair in found], expected) for side in (0, 1)]
        for lang in (AVERAGE, ENGLISH):
            found = [by_language[lang] for by_language in results.xnli(row).values() if lang in by_language]
            cells.append(spread(found, len(row.seeds)))
        lines.append([row.label, ", ".join(row.seeds), *cells, training_time(results, row)])
    return lines


def training_time(results: Results, row: Row) -> str:
    trained = [results.steps.get(f"align.{row.name}.{seed}") for seed in row.seeds]
    seconds = [record["cpu_seconds"] for record in trained if record]
    return "–" if row.given else f"{fmean(seconds):,.0f}" if seconds else NOT_RUN


def perplexities(results: Results) -> list[list[str]]:
    """How trained heads predict masked tokens of Tatoeba's pairs in TLM's layout; XLM's TLM has another layout."""
    lines = [["row", "perplexity of a masked token", "accuracy, %"]]
    for row in results.rows:
        costs = results.perplexity(row).values()
        if costs and "--tlm-reset-positions" not in row.flags:
            lines.append([row.label, *(spread([cost[place] for cost in costs]) for place in (0, 1))])
    return lines


def steps(results: Results) -> Iterator[list]:
    root = f"{Path(__file__).resolve().parents[1]}/"  # commands as from the repository's folder
    yield ["step", "seconds", "CPU seconds", "machine", "command"]
    for name, record in results.steps.items():
        command = shlex.join(record["command"]).replace(root, "")
        yield [name, f"{record['seconds']:.0f}", f"{record['cpu_seconds']:.0f}", record["machine"], command]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
