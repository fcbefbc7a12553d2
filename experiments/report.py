"""docs/results.md from what experiments/reproduce.sh has measured so far.

    python experiments/report.py OUT docs/results.md

Every number comes from a result file in OUT; what has none is said not to have been run. The plots go into results/
beside the report. What stands between the two lines of NOTES in an earlier report is kept: the words of a person.
"""

import os
import shlex
import sys
import textwrap
from pathlib import Path
from statistics import fmean

import figures
from goals import BEYOND, goals
from results import AVERAGE, NOT_RUN, UNALIGNED, Results, Row, spread

from ppa_fairseq.data.code_switching import ENGLISH
from ppa_fairseq.utils.files import atomic_path
from ppa_fairseq.utils.markdown import markdown_table

NOTES = "<!-- notes -->", "<!-- end of notes -->"
DIRECTIONS = ("xx→en", "en→xx")
LINKS = {
    "argmax": "Words linked by argmax (each is the other's nearest)",
    "softmax": "Words linked by softmax (above awesome-align's threshold on both sides)",
}


def main(out: Path, report: Path) -> None:
    results = Results(out)
    if not results.steps:
        sys.exit(f"report: error: {out} has no finished step in steps/: nothing to report, {report} is left as it was")
    plots = figures.draw(results, report.parent / "results")
    sections = [
        f"# Results\n\n{introduction(results, report)}",
        f"## What was found\n\n{markdown_table(goals(results))}\n\n{paragraph(BEYOND)}\n\n{notes(report)}",
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


def paragraph(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def introduction(results: Results, report: Path) -> str:
    """What wrote the report, from what, and how to read it."""
    setting = {"full": "", "quick": " --quick"}.get(results.setting, f" --setting {results.setting}.sh")
    also = (f" --also {row.name}=CHECKPOINT" for row in results.rows if row.given and row.name != UNALIGNED)
    scripts = os.path.relpath(Path(__file__).parents[1], report.parent)
    made = (
        f"Written by `experiments/reproduce.sh{setting} --data DIR{''.join(also)}`: setting `{results.setting}` "
        f"([its files]({scripts}/experiments/)). What DIR holds, and where that comes from, is at the head of "
        f"[reproduce.sh]({scripts}/experiments/reproduce.sh)."
    )
    read = (
        "Mean ± standard deviation where several seeds were run; a row of one seed has no spread, and a difference as "
        f'small as the spread of the others says nothing. What has not been run says "{NOT_RUN}".'
    )
    return f"{paragraph(made)}\n\n{paragraph(read)}"


def notes(report: Path) -> str:
    """What a person wrote between the marks of an earlier report, with its marks."""
    first, last = NOTES
    kept = ""
    if report.exists():
        _, _, rest = report.read_text(encoding="utf-8").partition(first)
        kept = rest.partition(last)[0].strip()
    return f"{first}\n\n{kept}\n\n{last}" if kept else f"{first}\n\n{last}"


def overview(results: Results) -> str:
    """A line a row: what it does to retrieval, XNLI and the clock."""
    head = ["row", "seeds", "mean-pooled xx→en", "en→xx", "[CLS] xx→en", "en→xx"]
    head += ["XNLI zero-shot", "English", "training, CPU s"]
    lines, absent = [head], []
    for row in results.rows:
        expected = 1 if row.given else len(row.seeds)  # an encoder that no seed has touched
        cells = []
        for pooling in ("mean", "cls"):
            found = results.retrieval(row, pooling).values()
            cells += [spread([by_pair[AVERAGE][side] for by_pair in found], expected) for side in (0, 1)]
        for lang in (AVERAGE, ENGLISH):
            found = [by_language[lang] for by_language in results.xnli(row).values() if lang in by_language]
            cells.append(spread(found, len(row.seeds)))
        trained = [results.steps.get(f"align.{row.name}.{seed}") for seed in row.seeds]
        seconds = [record["cpu_seconds"] for record in trained if record]
        cells.append("–" if row.given else f"{fmean(seconds):,.0f}" if seconds else NOT_RUN)
        if set(cells) <= {NOT_RUN, "–"}:
            absent.append(row.label)
        else:
            lines.append([row.label, ", ".join(row.seeds), *cells])
    told = (
        "Retrieval: top-1 accuracy in percent, last layer, cosine, average over the languages. XNLI: accuracy in "
        "percent, average over the languages and English alone, on the held-out rows."
    )
    missing = [paragraph(f"Not run: {'; '.join(absent)}.")] if absent else []
    return "\n\n".join([markdown_table(lines), *missing, paragraph(told)])


def main_rows(results: Results) -> list[Row]:
    return [row for row in results.rows if len(row.seeds) > 1]


def by_key(head: str, columns: dict[str, dict[str, dict]]) -> list[list[str]]:
    """Lines of a table from {column: {seed: {language or layer: value}}}; none from no column."""
    if not columns:
        return []
    keys = dict.fromkeys(key for by_seed in columns.values() for values in by_seed.values() for key in values)
    body = []
    for key in keys:
        found = ([values[key] for values in by_seed.values() if key in values] for by_seed in columns.values())
        body.append([str(key), *(spread(values) if values else "–" for values in found)])  # an encoder of fewer layers
    return [[head, *columns], *body]


def captioned(caption: str, lines: list[list[str]]) -> str:
    return f"{caption}:\n\n{markdown_table(lines)}" if lines else f"{caption}: {NOT_RUN}."


def retrieval_by_language(results: Results) -> str:
    parts = ["Top-1 accuracy in percent, mean pooling, last layer."]
    for side, direction in enumerate(DIRECTIONS):
        columns = {
            row.label: {seed: {pair: both[side] for pair, both in by_pair.items()} for seed, by_pair in found.items()}
            for row in main_rows(results)
            if (found := results.retrieval(row))
        }
        parts.append(captioned(direction, by_key("pair", columns)))
    return "\n\n".join(parts)


def xnli_by_language(results: Results) -> str:
    """Tables of their own for the stages, as one would be too wide."""
    main = main_rows(results)
    zero_shot = "Zero-shot, fine-tuned on English"
    stages = {
        zero_shot: {row.label: results.xnli(row) for row in main},
        f"{zero_shot}, rows of one seed": {row.label: results.xnli(row) for row in results.rows if row not in main},
    }
    for few, on in (("", "translations"), ("-few", "few translations")):
        stages[f"Then on {on}, plain (translate-train) or with code-switching"] = {
            f"{row.label}: {kind}": results.xnli(row, kind + few)
            for row in results.rows
            for kind in ("translate-train", "code-switch")
        }
    parts = ["Accuracy in percent, on the held-out rows."]
    for caption, columns in stages.items():
        found = {column: by_seed for column, by_seed in columns.items() if by_seed}
        lines = by_key("language", found)
        if lines:
            lines.append(["seeds", *(str(len(by_seed)) for by_seed in found.values())])
        parts.append(captioned(caption, lines))
    return "\n\n".join(parts)


def words(results: Results) -> str:
    """Word alignment by layer, and what masked words cost."""
    parts = ["Error rate of word alignment en–fr in percent (lower is better), by layer."]
    for method, caption in LINKS.items():
        found = {row.label: errors for row in main_rows(results) if (errors := results.word_alignment(row, method))}
        parts += [captioned(caption, by_key("layer", found)), *seeds_told(found)]
    found = {
        row.label: costs
        for row in results.rows
        if "--tlm-reset-positions" not in row.flags and (costs := results.perplexity(row))
    }
    lines = [
        [label, *(spread([cost[place] for cost in by_seed.values()]) for place in (0, 1))]
        for label, by_seed in found.items()
    ]
    head = [["row", "perplexity of a masked WordPiece", "accuracy, %"]]
    parts.append(captioned("Tatoeba's pairs as TLM sees them, 15 % masked", lines and head + lines))
    left_out = (
        "A head that was never trained guesses (of an encoder without one, and of MoCo alone from there), and XLM's "
        "own TLM was trained on another layout of a pair: they are left out."
    )
    return "\n\n".join([*parts, paragraph(" ".join([*seeds_told(found), left_out]))])


def seeds_told(columns: dict[str, dict[str, object]]) -> list[str]:
    """Which seeds {column: {seed: …}} has, in a sentence; none of no column."""
    seeds = sorted({seed for by_seed in columns.values() for seed in by_seed})
    return [f"Seed {seeds[0]} alone." if len(seeds) == 1 else f"Seeds {', '.join(seeds)}."] if seeds else []


def how(results: Results) -> str:
    machines = list(dict.fromkeys(record["machine"] for record in results.steps.values()))
    wall = sum(record["seconds"] for record in results.steps.values())
    used = sum(record["cpu_seconds"] for record in results.steps.values())
    steps = [["step", "seconds", "CPU seconds"]]
    for name, record in results.steps.items():
        steps.append([name, f"{record['seconds']:,.0f}", f"{record['cpu_seconds']:,.0f}"])
    root = f"{Path(__file__).resolve().parents[1]}/"  # the commands are shown as from there
    commands = "\n".join(shlex.join(record["command"]).replace(root, "") for record in results.steps.values())
    told = [
        f"Machine: {'; '.join(machines)}.",
        f"{len(results.steps)} steps took {wall / 60:.0f} minutes by the clock, {used / 60:.0f} of a processor (the "
        "clock counts what else ran on the machine, too).",
        *results.data_counts(),
    ]
    return "\n\n".join(
        [
            *map(paragraph, told),
            f"<details><summary>Time of every step</summary>\n\n{markdown_table(steps)}\n\n</details>",
            f"<details><summary>Command of every step</summary>\n\n```\n{commands}\n```\n\n</details>",
        ]
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
