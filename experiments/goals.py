"""What was hoped for, beside what came out."""

from statistics import fmean

from results import AVERAGE, NOT_RUN, UNALIGNED, Results, Row, spread

RETRIEVAL, XNLI_GAIN = 75, 4.7
SEEDS = 3  # fewer have no spread to speak of
BEYOND = "Beyond the spread: every seed of the one is above every seed of the other, three seeds or more of each."


def goals(results: Results) -> list[list[str]]:
    """Lines of a table: the goal, what was measured, and whether that meets it."""
    rows = {row.name: row for row in results.rows}
    told = [["goal", "measured", "verdict"], retrieval(results, rows[UNALIGNED])]
    unaligned = results.xnli_averages(rows[UNALIGNED])
    for row in results.rows:
        aligned = results.xnli_averages(row)
        if row is results.method or aligned and row.name != UNALIGNED and len(row.seeds) > 1:
            goal = f"{row.label} over unaligned + {XNLI_GAIN}, beyond the spread of the seeds"
            measured = gain("unaligned", unaligned, "aligned", aligned, XNLI_GAIN)
            told.append([f"XNLI zero-shot, all languages: {goal}", *measured])
        for few, on in (("", ""), ("-few", " on few translations")):
            plain, mixed = (results.xnli_averages(row, kind + few) for kind in ("translate-train", "code-switch"))
            if plain or mixed or row is results.method and not few:
                goal = f"code-switching above plain translate-train{on}, beyond the spread of the seeds"
                told.append([f"XNLI, {row.label}: {goal}", *gain("plain", plain, "code-switching", mixed)])
    return told


def retrieval(results: Results, unaligned: Row) -> list[str]:
    """The verdict is the method's. The best of all rows was chosen on what it is measured on, so it is only told."""
    method = results.method
    means = {row: [fmean(by_pair[AVERAGE]) for by_pair in results.retrieval(row).values()] for row in results.rows}
    best = max(results.rows, key=lambda row: fmean(means[row] or [0]))
    told = {row: f"{row.label}: {spread(means[row])}" for row in (unaligned, method, best)}
    if best not in (unaligned, method):
        told[best] = f"best row, {told[best]}"
    return [
        f"retrieval, all languages, both directions: ≥ {RETRIEVAL}",
        "; ".join(told.values()),
        verdict(fmean(means[method]) >= RETRIEVAL) if means[method] else NOT_RUN,
    ]


def gain(one: str, ones: list[float], other: str, others: list[float], least: float = 0) -> tuple[str, str]:
    """What was measured of both, and whether the others are above by *least*, beyond the spread."""
    text = f"{one} {spread(ones)}, {other} {spread(others)}"
    if not (ones and others):
        return text, NOT_RUN
    difference = fmean(others) - fmean(ones)
    if min(len(ones), len(others)) < SEEDS:
        return f"{text} ({difference:+.1f})", "too few seeds"
    return f"{text} ({difference:+.1f})", verdict(min(others) > max(ones) and difference >= least)


def verdict(met: bool) -> str:
    return "met" if met else "missed"
