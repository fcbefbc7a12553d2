"""docs/results.md from what scripts/reproduce.sh has measured so far.

    python scripts/reproduce/report.py OUT docs/results.md

Every number comes from a result file in OUT; what has none is said not to have been run. The plots go into results/
beside the report. What stands between the two lines of NOTES in an earlier report is kept: the words of a person.
"""

import os
import shlex
import sys
from pathlib import Path
from statistics import fmean

import figures
from results import AVERAGE, NOT_RUN, UNALIGNED, Results, Row, spread

from ppa_fairseq.files import atomic_path
from ppa_fairseq.markdown import markdown_table

NOTES = "<!-- notes -->", "<!-- end of notes -->"
DIRECTIONS = ("xx→en", "en→xx")
XNLI_KINDS = {
    "zero-shot": "zero-shot, fine-tuned on English",
    "translate-train": "then translate-train",
    "code-switch": "then translate-train with code-switching",
}


def main(out: Path, report: Path) -> None:
    results = Results(out)
    plots = figures.draw(results, report.parent / "results")
    sections = [
        f"# Results\n\n{introduction(results, report)}",
        f"## What was found\n\n{goals(results)}\n\n{notes(report)}",
        f"## All rows\n\n{overview(results)}",
        f"## Retrieval by language\n\n{retrieval_by_language(results)}",
        f"## XNLI by language\n\n{xnli_by_language(results)}",
        f"## Words\n\n{words(results)}",
        "## Figures\n\n" + ("\n\n".join(f"![{title}](results/{name})" for name, title in plots.items()) or NOT_RUN),
        f"## How\n\n{how(results)}",
    ]
    with atomic_path(report) as part:
        part.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    print(f"{report}: {len(results.steps)} steps reported")


def introduction(results: Results, report: Path) -> str:
    files = os.path.relpath(Path(__file__).parent, report.parent)
    return (
        f"Written by `scripts/reproduce.sh`, setting `{results.setting}` ([its files]({files}/)). Mean ± "
        "standard deviation where several seeds were run; a row of one seed has no spread, and a difference as small "
        f'as the spread of the others says nothing. What has not been run says "{NOT_RUN}".'
    )


def notes(report: Path) -> str:
    """What a person wrote between the marks of an earlier report, with its marks."""
    first, last = NOTES
    kept = ""
    if report.exists():
        _, _, rest = report.read_text(encoding="utf-8").partition(first)
        kept = rest.partition(last)[0].strip()
    return f"{first}\n\n{kept}\n\n{last}" if kept else f"{first}\n\n{last}"


def retrieval_mean(results: Results, row: Row) -> list[float]:
    """Both directions together, over all languages; a number a seed."""
    return [fmean(by_pair[AVERAGE]) for by_pair in results.retrieval(row).values()]


def goals(results: Results) -> str:
    """What was hoped for, beside what came out."""
    rows = {row.name: row for row in results.rows}
    before = retrieval_mean(results, rows[UNALIGNED])
    method = rows.get("long", rows["ppa"])  # where a setting cannot afford the length that it needs for all rows
    found = retrieval_mean(results, method)
    best = max((row for row in results.rows if retrieval_mean(results, row)), default=None,
               key=lambda row: fmean(retrieval_mean(results, row)))  # fmt: skip
    told = [["goal", "measured", "verdict"]]
    told.append(
        [
            "retrieval, all languages, both directions: from about 41 to ≥ 75",
            f"unaligned {spread(before)}, {method.label} {spread(found)}"
            + (f"; best row ({best.label}): {spread(retrieval_mean(results, best))}" if best else ""),
            verdict(fmean(retrieval_mean(results, best)) >= 75) if found else NOT_RUN,
        ]
    )
    unaligned = averages(results, rows[UNALIGNED], "zero-shot")
    for row in results.rows:
        aligned = averages(results, row, "zero-shot")
        if row is method or aligned and row.name != UNALIGNED:
            goal = f"XNLI zero-shot, all languages: {row.label} over unaligned + 4.7, beyond the spread of the seeds"
            told.append([goal, *gain("unaligned", unaligned, "aligned", aligned, 4.7)])
        plain, mixed = (averages(results, row, kind) for kind in ("translate-train", "code-switch"))
        if row is method or plain or mixed:
            goal = f"XNLI, {row.label}: code-switching above plain translate-train, beyond the spread of the seeds"
            told.append([goal, *gain("plain", plain, "code-switching", mixed)])
    return (
        f"{markdown_table(told)}\n\nBeyond the spread: every seed of the one is above every seed of the other, three "
        "seeds or more of each."
    )


def averages(results: Results, row: Row, kind: str) -> list[float]:
    return [by_language[AVERAGE] for by_language in results.xnli(row, kind).values()]


def gain(one: str, ones: list[float], other: str, others: list[float], least: float = 0) -> tuple[str, str]:
    """What was measured of both, and whether the others are above by *least*, beyond the spread."""
    text = f"{one} {spread(ones)}, {other} {spread(others)}"
    if not (ones and others):
        return text, NOT_RUN
    difference = fmean(others) - fmean(ones)
    return f"{text} ({difference:+.1f})", verdict(beyond(ones, others) and difference >= least)


def beyond(lower: list[float], higher: list[float]) -> bool:
    return min(len(lower), len(higher)) >= 3 and min(higher) > max(lower)


def verdict(met: bool) -> str:
    return "met" if met else "missed"


def overview(results: Results) -> str:
    """A line a row: what it does to retrieval, XNLI, words and the clock."""
    head = ["row", "seeds", "mean-pooled xx→en", "en→xx", "[CLS] xx→en", "en→xx", "XNLI zero-shot", "training, CPU s"]
    lines = [head]
    for row in results.rows:
        expected = 1 if row.given else len(row.seeds)  # an encoder that no seed has touched
        cells = []
        for pooling in ("mean", "cls"):
            found = results.retrieval(row, pooling).values()
            cells += [spread([by_pair[AVERAGE][side] for by_pair in found], expected) for side in (0, 1)]
        cells.append(spread(averages(results, row, "zero-shot"), len(row.seeds)))
        trained = [results.steps.get(f"align.{row.name}.{seed}") for seed in row.seeds]
        seconds = [record["cpu_seconds"] for record in trained if record]
        cells.append("–" if row.given else f"{fmean(seconds):.0f}" if seconds else NOT_RUN)
        lines.append([row.label, ", ".join(row.seeds), *cells])
    return (
        f"{markdown_table(lines)}\n\nRetrieval: top-1 accuracy in percent, last layer, cosine, average over the "
        "languages. XNLI: accuracy in percent, average over the languages, on the held-out rows."
    )


def main_rows(results: Results) -> list[Row]:
    return [row for row in results.rows if len(row.seeds) > 1]


def retrieval_by_language(results: Results) -> str:
    tables = []
    for side, direction in enumerate(DIRECTIONS):
        found = {row: results.retrieval(row) for row in main_rows(results)}
        found = {row: by_seed for row, by_seed in found.items() if by_seed}
        pairs = [pair for pair in next(iter(next(iter(found.values())).values()))] if found else []
        lines = [[direction, *(row.label for row in found)]]
        for pair in pairs:
            cells = (spread([by_pair[pair][side] for by_pair in by_seed.values()]) for by_seed in found.values())
            lines.append([pair, *cells])
        tables.append(markdown_table(lines) if found else f"{direction}: {NOT_RUN}")
    return "\n\n".join([*tables, "Mean pooling, last layer, top-1 accuracy in percent."])


def xnli_by_language(results: Results) -> str:
    columns = {
        f"{row.label}: {what}": by_seed
        for row in results.rows
        for kind, what in XNLI_KINDS.items()
        if (by_seed := results.xnli(row, kind))
    }
    if not columns:
        return NOT_RUN
    languages = next(iter(next(iter(columns.values())).values()))
    lines = [["language", *columns]]
    for language in languages:
        lines.append([language, *(spread([one[language] for one in by_seed.values()]) for by_seed in columns.values())])
    lines.append(["seeds", *(str(len(by_seed)) for by_seed in columns.values())])
    return markdown_table(lines)


def words(results: Results) -> str:
    """Word alignment by layer, and what masked words cost."""
    aligned = {row: results.word_alignment(row) for row in main_rows(results)}
    aligned = {row: by_seed for row, by_seed in aligned.items() if by_seed}
    if aligned:
        layers = next(iter(next(iter(aligned.values())).values()))
        lines = [["layer", *(row.label for row in aligned)]]
        for layer in layers:
            cells = (spread([rates[layer] for rates in by_seed.values()]) for by_seed in aligned.values())
            lines.append([str(layer), *cells])
        first = f"{markdown_table(lines)}\n\nAlignment error rate en–fr in percent (lower is better), by layer."
    else:
        first = f"Word alignment: {NOT_RUN}."
    lines = [["row", "perplexity of a masked WordPiece", "accuracy"]]
    for row in main_rows(results):
        found = [by_kind["TLM"] for by_kind in results.perplexity(row).values() if "TLM" in by_kind]
        lines.append([row.label, spread([one for one, _ in found]), spread([share for _, share in found])])
    return (
        f"{first}\n\n{markdown_table(lines)}\n\nOf Tatoeba's pairs as TLM sees them, 15 % masked. A head that was "
        "never trained (an encoder without one, and MoCo alone) guesses."
    )


def how(results: Results) -> str:
    machines = list(dict.fromkeys(record["machine"] for record in results.steps.values()))
    wall = sum(record["seconds"] for record in results.steps.values())
    used = sum(record["cpu_seconds"] for record in results.steps.values())
    steps = [["step", "seconds", "CPU seconds"]]
    for name, record in results.steps.items():
        steps.append([name, f"{record['seconds']:.0f}", f"{record['cpu_seconds']:.0f}"])
    root = f"{Path(__file__).resolve().parents[2]}/"  # the commands are shown as from there
    commands = "\n".join(shlex.join(record["command"]).replace(root, "") for record in results.steps.values())
    return "\n\n".join(
        [
            "Machine: " + "; ".join(machines or [NOT_RUN]) + ".",
            f"{len(results.steps)} steps took {wall / 60:.0f} minutes by the clock, {used / 60:.0f} of a processor "
            "(the clock counts what else ran on the machine, too).",
            *results.data_counts(),
            f"<details><summary>Time of every step</summary>\n\n{markdown_table(steps)}\n\n</details>",
            f"<details><summary>Command of every step</summary>\n\n```\n{commands}\n```\n\n</details>",
        ]
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
