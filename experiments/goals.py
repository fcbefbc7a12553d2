"""Compare the goals with the results."""

from statistics import fmean

from results import AVERAGE, NOT_RUN, UNALIGNED, Results, Row, spread

RETRIEVAL, XNLI_GAIN = 75, 4.7
SEEDS = 3  # fewer say nothing about the spread


def goals(results: Results) -> list[list[str]]:
    """Lines of a table: the goal, the measurement, the verdict."""
    rows = {row.name: row for row in results.rows}
    lines = [["goal", "measured", "verdict"], retrieval(results, rows[UNALIGNED])]
    unaligned = results.xnli_averages(rows[UNALIGNED])
    for row in results.rows:
        aligned = results.xnli_averages(row)
        if row is results.method or aligned and row.name != UNALIGNED and len(row.seeds) > 1:
            goal = f"{row.label} over unaligned + {XNLI_GAIN}, beyond the spread of the seeds"
            measured = gain("unaligned", unaligned, "aligned", aligned, XNLI_GAIN)
            lines.append([f"XNLI zero-shot, all languages: {goal}", *measured])
        for few, on in (("", ""), ("-few", " on few translations")):
            plain, mixed = (results.xnli_averages(row, kind + few) for kind in ("translate-train", "code-switch"))
            if plain or mixed or row is results.method and not few:
                goal = f"code-switching above plain translate-train{on}, beyond the spread of the seeds"
                lines.append([f"XNLI, {row.label}: {goal}", *gain("plain", plain, "code-switching", mixed)])
    return lines


def retrieval(results: Results, unaligned: Row) -> list[str]:
    """Judge the method's row. Also report the best row, without a verdict: it was selected on the same numbers."""
    method = results.method
    means = {row: [fmean(by_pair[AVERAGE]) for by_pair in results.retrieval(row).values()] for row in results.rows}
    best = max(results.rows, key=lambda row: fmean(means[row] or [0]))
    texts = {row: f"{row.label}: {spread(means[row])}" for row in (unaligned, method, best)}
    if best not in (unaligned, method):
        texts[best] = f"best row, {texts[best]}"
    return [
        f"retrieval, all languages, both directions: ≥ {RETRIEVAL}",
        "; ".join(texts.values()),
        verdict(fmean(means[method]) >= RETRIEVAL) if means[method] else NOT_RUN,
    ]


def gain(one: str, ones: list[float], other: str, others: list[float], least: float = 0) -> tuple[str, str]:
    """Describe both, and judge whether *others* are above *ones* by *least* and beyond the spread.

    Beyond the spread: every seed of the others is above every seed of the ones, with at least three seeds each.
    """
    text = f"{one} {spread(ones)}, {other} {spread(others)}"
    if not (ones and others):
        return text, NOT_RUN
    difference = fmean(others) - fmean(ones)
    if min(len(ones), len(others)) < SEEDS:
        return f"{text} ({difference:+.1f})", "too few seeds"
    return f"{text} ({difference:+.1f})", verdict(min(others) > max(ones) and difference >= least)


def verdict(met: bool) -> str:
    return "met" if met else "missed"
