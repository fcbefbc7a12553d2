"""experiments/report.py reports what the result files hold, and marks everything else as not run."""

import numpy as np
import pytest
import report
from helpers.made_up_results import MadeUp, table
from results import NOT_RUN, Results, spread

PPA = "MoCo + TLM (PPA)"


@pytest.fixture
def made(tmp_path):
    return MadeUp(tmp_path / "out")


@pytest.fixture
def read(made):
    """``read("rows")`` writes the report and returns the table of that name, {first cell: {head: cell}}."""

    def read(name: str) -> dict[str, dict[str, str]]:
        report.main(made.out, made.out.parent / "docs")
        return table(made.out.parent / "docs" / f"{name}.csv")

    return read


def goal(goals: dict[str, dict[str, str]], start: str) -> list[str]:
    """Measurement and verdict of the goal that begins so."""
    return next(list(line.values()) for name, line in goals.items() if name.startswith(start))


def test_spread_is_the_mean_and_the_sample_deviation():
    values = list(np.random.default_rng(0).uniform(0, 100, 3))
    assert spread(values, 3) == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    assert spread(values[:2], 3).endswith("(2 of 3 seeds)")
    assert spread(values[:1]) == f"{values[0]:.1f}" and spread([]) == NOT_RUN


def test_report_has_the_numbers_of_the_result_files(made, read):
    base = made.retrieval("unaligned", 1)
    ppa = [made.retrieval("ppa", seed) for seed in (1, 2, 3)]
    moco = [made.retrieval("moco", seed) for seed in (2, 3)]
    lows = {"zero-shot": 45.0, "translate-train": 46.0, "code-switch": 45.5}
    for kind, low in {**lows, "translate-train-few": 41.0, "code-switch-few": 45.0}.items():
        for seed in (1, 2, 3):
            made.xnli(kind, "ppa", seed, low + seed)
            if kind == "zero-shot":
                made.xnli(kind, "unaligned", seed, 38.0 + seed)
    rows = {name: list(line.values()) for name, line in read("rows").items()}
    assert rows["unaligned"][1:3] == [f"{value:.1f}" for value in base]
    for side, name in enumerate(report.DIRECTIONS.values()):
        mean, deviation = np.mean(ppa, axis=0)[side], np.std(ppa, axis=0, ddof=1)[side]
        assert rows[PPA][1 + side] == f"{mean:.1f} ± {deviation:.1f}"
        assert rows["MoCo only"][1 + side].startswith(f"{np.mean(moco, axis=0)[side]:.1f} ± ")
        assert rows["MoCo only"][1 + side].endswith("(2 of 3 seeds)")
        by_pair = read(f"retrieval-{name}")
        assert by_pair["average"][PPA] == rows[PPA][1 + side] and list(by_pair["seeds"].values()) == ["1", "3", "2"]
    assert set(rows["queue of 9"][1:]) == set(rows["MoCo only"][5:]) == {NOT_RUN}
    assert rows[PPA][5:] == ["47.0 ± 1.0", "48.0 ± 1.0", NOT_RUN]
    goals = read("goals")
    assert goal(goals, "XNLI zero-shot") == ["unaligned 40.0 ± 1.0, aligned 47.0 ± 1.0 (+7.0)", "met"]
    mixed = f"XNLI, {PPA}: code-switching above plain translate-train"
    assert goal(goals, f"{mixed},") == ["plain 48.0 ± 1.0, code-switching 47.5 ± 1.0 (-0.5)", "missed"]
    assert goal(goals, f"{mixed} on few") == ["plain 43.0 ± 1.0, code-switching 47.0 ± 1.0 (+4.0)", "met"]
    assert read("xnli-zero-shot")["fr"] == {"unaligned": "39.0 ± 1.0", PPA: "46.0 ± 1.0"}
    few = {f"{PPA}: translate-train": "43.0 ± 1.0", f"{PPA}: code-switch": "47.0 ± 1.0"}
    assert read("xnli-few-translations")["average"] == few
    seeds = (made.out.parent / "docs" / "by-seed.csv").read_text().splitlines()
    assert [f"xnli-zero-shot,{PPA},{seed},en,{46.0 + seed}" in seeds for seed in (1, 2, 3, 4)] == [True] * 3 + [False]
    assert (made.out.parent / "docs" / "retrieval-by-layer.png").stat().st_size > 1000
    assert not (made.out.parent / "docs" / "curves.png").exists()


def test_words_and_masked_tokens_are_reported(made, read):
    made.words("unaligned", 1, {"softmax": [50.4, 21.2], "argmax": [29.8, 10.5]})
    made.words("ppa", 1, {"softmax": [49.4, 16.4, 12.9]})  # an encoder with more layers
    made.perplexity("ppa", 1, 114883.7)
    made.perplexity("ppa", 3, 114883.9)
    made.perplexity("unaligned", 1, 99999.9, head_trained=False)
    with (made.out / "rows.tsv").open("a") as rows:
        rows.write("xlm-tlm\tTLM only, as in XLM\t1 2 3\t--tlm-reset-positions\t\n")
    made.perplexity("xlm-tlm", 1, 4519.8)
    assert read("words-argmax")["1"] == {"unaligned": "10.5"}
    softmax = read("words-softmax")
    assert softmax["0"] == {"unaligned": "50.4", PPA: "49.4"} and softmax["2"] == {"unaligned": "", PPA: "12.9"}
    assert {name: list(line.values()) for name, line in read("perplexity").items()} == {
        PPA: ["114,883.8 ± 0.1", "5.0 ± 0.0"]
    }


def test_gain_within_the_spread_misses_the_goal(made, read):
    verdicts = []
    for seed, (before, after) in enumerate([(40.0, 60.0), (50.0, 61.0), (45.0, 49.0)], 1):
        made.xnli("zero-shot", "unaligned", seed, before)
        made.xnli("zero-shot", "ppa", seed, after)
        verdicts.append(goal(read("goals"), "XNLI zero-shot")[1])
    assert verdicts == ["too few seeds", "too few seeds", "missed"]
    made.xnli("zero-shot", "unaligned", 2, 48.0)
    assert goal(read("goals"), "XNLI zero-shot")[1] == "met"


def test_result_of_an_unfinished_step_does_not_count(made, read):
    made.retrieval("ppa", 1)
    row = next(row for row in Results(made.out).rows if row.name == "ppa")
    assert list(Results(made.out).retrieval(row)) == ["1"]
    (made.out / "steps" / "retrieve.ppa.1.json").unlink()
    assert Results(made.out).retrieval(row) == {}
    with pytest.raises(SystemExit, match="has no finished step"):
        read("rows")
    assert not (made.out.parent / "docs").exists()
