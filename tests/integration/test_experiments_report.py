"""experiments/report.py reports what the result files hold, and marks everything else as not run."""

import csv
import json

import figures
import numpy as np
import pytest
import report
from helpers.made_up_results import MadeUp, cells
from results import NOT_RUN, Results, spread


def write_report(made: MadeUp) -> str:
    """Write the report beside OUT; returns tables.md."""
    report.main(made.out, made.out.parent / "docs")
    return (made.out.parent / "docs" / "tables.md").read_text()


def table(made: MadeUp, name: str) -> dict[tuple[str, str], dict[str, str]]:
    """{(measure, place): {row: cell}} of a CSV file of the report."""
    with (made.out.parent / "docs" / f"{name}.csv").open(newline="") as file:
        return {(line.pop("measure"), line.pop("place")): line for line in csv.DictReader(file)}


@pytest.fixture
def made(tmp_path):
    return MadeUp(tmp_path / "out")


def test_spread_is_the_mean_and_the_sample_deviation():
    values = list(np.random.default_rng(0).uniform(0, 100, 3))
    assert spread(values, 3) == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    assert spread(values[:2], 3).endswith("(2 of 3 seeds)")
    assert spread(values[:1]) == f"{values[0]:.1f}" and spread([]) == NOT_RUN


def test_report_has_the_numbers_of_the_result_files(made):
    base = made.retrieval("unaligned", 1)
    ppa = [made.retrieval("ppa", seed) for seed in (1, 2, 3)]
    moco = [made.retrieval("moco", seed) for seed in (2, 3)]
    lows = {"zero-shot": 45.0, "translate-train": 46.0, "code-switch": 45.5}
    for kind, low in {**lows, "translate-train-few": 41.0, "code-switch-few": 45.0}.items():
        for seed in (1, 2, 3):
            made.xnli(kind, "ppa", seed, low + seed)
            if kind == "zero-shot":
                made.xnli(kind, "unaligned", seed, 38.0 + seed)
    text = write_report(made)
    assert cells(text, "unaligned")[2:4] == [f"{value:.1f}" for value in base]
    for side, direction in enumerate(report.DIRECTIONS):
        mean, deviation = np.mean(ppa, axis=0)[side], np.std(ppa, axis=0, ddof=1)[side]
        assert cells(text, "MoCo + TLM")[2 + side] == f"{mean:.1f} ± {deviation:.1f}"
        assert cells(text, "MoCo only")[2 + side].startswith(f"{np.mean(moco, axis=0)[side]:.1f} ± ")
        assert cells(text, "MoCo only")[2 + side].endswith("(2 of 3 seeds)")
        by_pair = table(made, "retrieval")[f"retrieval, mean pooling, {direction}", "average"]
        assert by_pair["MoCo + TLM (PPA)"] == f"{mean:.1f} ± {deviation:.1f}" and "queue of 9" not in by_pair
    assert "| queue of 9" not in text and "Not run: queue of 9.\n" in text
    assert cells(text, "MoCo only")[6:] == [NOT_RUN] * 3
    assert cells(text, "MoCo + TLM")[6:] == ["47.0 ± 1.0", "48.0 ± 1.0", NOT_RUN]
    assert cells(text, "XNLI zero-shot")[1:] == ["unaligned 40.0 ± 1.0, aligned 47.0 ± 1.0 (+7.0)", "met"]
    mixed = cells(text, "XNLI, MoCo + TLM (PPA): code")
    assert mixed[1:] == ["plain 48.0 ± 1.0, code-switching 47.5 ± 1.0 (-0.5)", "missed"]
    few = cells(text, "XNLI, MoCo + TLM (PPA): code-switching above plain translate-train on few")
    assert few[1:] == ["plain 43.0 ± 1.0, code-switching 47.0 ± 1.0 (+4.0)", "met"]
    xnli = table(made, "xnli")
    assert xnli["xnli, zero-shot", "fr"] == {"unaligned": "39.0 ± 1.0", "MoCo + TLM (PPA)": "46.0 ± 1.0"}
    assert xnli["xnli, code-switch-few", "average"] == {"unaligned": "", "MoCo + TLM (PPA)": "47.0 ± 1.0"}
    with (made.out.parent / "docs" / "by-seed.csv").open(newline="") as file:
        seeds = [line for line in csv.DictReader(file) if (line["measure"], line["place"]) == ("xnli, zero-shot", "en")]
    found = [(line["row"], line["seed"], float(line["value"])) for line in seeds]
    assert found[3:] == [("MoCo + TLM (PPA)", str(seed), 46.0 + seed) for seed in (1, 2, 3)]
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("|"))
    assert (made.out.parent / "docs" / "retrieval-by-layer.png").stat().st_size > 1000
    assert not (made.out.parent / "docs" / "curves.png").exists()


def test_words_and_masked_tokens_are_reported(made):
    made.words("unaligned", 1, {"softmax": [50.4, 21.2], "argmax": [29.8, 10.5]})
    made.words("ppa", 1, {"softmax": [49.4, 16.4, 12.9]})  # an encoder with more layers
    made.perplexity("ppa", 1, 114883.7)
    made.perplexity("ppa", 3, 114883.9)
    made.perplexity("unaligned", 1, 99999.9, head_trained=False)
    with (made.out / "rows.tsv").open("a") as rows:
        rows.write("xlm-tlm\tTLM only, as in XLM\t1 2 3\t--tlm-reset-positions\t\n")
    made.perplexity("xlm-tlm", 1, 4519.8)
    masked = write_report(made).split("## Masked tokens")[1]
    words = table(made, "words")
    assert words["words, argmax", "1"] == {"unaligned": "10.5", "MoCo + TLM (PPA)": ""}
    assert words["words, softmax", "0"] == {"unaligned": "50.4", "MoCo + TLM (PPA)": "49.4"}
    assert words["words, softmax", "2"] == {"unaligned": "", "MoCo + TLM (PPA)": "12.9"}
    assert cells(masked, "MoCo + TLM")[1:] == ["1, 3", "114,883.8 ± 0.1", "5.0 ± 0.0"]
    assert "| unaligned" not in masked and "| TLM only" not in masked


def test_retrieval_verdict_is_the_methods(made):
    made.retrieval("ppa", 1, 74)
    made.retrieval("queue-9", 1, 80)
    goal = cells(write_report(made), "retrieval")
    assert goal[1:] == ["unaligned: not run; MoCo + TLM (PPA): 74.0; best row, queue of 9: 80.0", "missed"]
    made.retrieval("ppa", 1, 81)
    assert cells(write_report(made), "retrieval")[1:] == ["unaligned: not run; MoCo + TLM (PPA): 81.0", "met"]


def test_gain_within_the_spread_misses_the_goal(made):
    verdicts = []
    for seed, (before, after) in enumerate([(40.0, 60.0), (50.0, 61.0), (45.0, 49.0)], 1):
        made.xnli("zero-shot", "unaligned", seed, before)
        made.xnli("zero-shot", "ppa", seed, after)
        verdicts.append(cells(write_report(made), "XNLI zero-shot")[2])
    assert verdicts == ["too few seeds", "too few seeds", "missed"]
    made.xnli("zero-shot", "unaligned", 2, 48.0)
    assert cells(write_report(made), "XNLI zero-shot")[2] == "met"


def test_result_of_an_unfinished_step_does_not_count(made):
    made.retrieval("ppa", 1)
    row = next(row for row in Results(made.out).rows if row.name == "ppa")
    assert list(Results(made.out).retrieval(row)) == ["1"]
    (made.out / "steps" / "retrieve.ppa.1.json").unlink()
    assert Results(made.out).retrieval(row) == {}
    with pytest.raises(SystemExit, match="has no finished step"):
        write_report(made)
    assert not (made.out.parent / "docs").exists()


def test_steps_have_commands_without_this_folder(made):
    made.step("import", ("python", f"{report.Path(report.__file__).resolve().parents[1]}/experiments/step.py"))
    write_report(made)
    (step,) = json.loads((made.out.parent / "docs" / "steps.json").read_text())
    assert step["command"] == ["python", "experiments/step.py"]


def test_map_names_its_encoder(made):
    with (made.out / "rows.tsv").open("a") as rows:
        rows.write("mine\tmine (trained elsewhere)\t1\t\tmine.pt\n")
    trained = "out/align/ppa.1/checkpoint_last.pt"
    for path, label in {trained: "MoCo + TLM (PPA)", "mine.pt": "mine (trained elsewhere)", "x.pt": "x.pt"}.items():
        made.step("sentence-map", ("python", "--model", "before=imported", "--model", f"after={path}"))
        assert Results(made.out).mapped == label


def test_heatmaps_have_one_scale(made, tmp_path, monkeypatch):
    made.step("sentence-map")
    rng = np.random.default_rng(0)
    similarity = {"before": rng.uniform(0.5, 1, (2, 3, 3)), "after": rng.uniform(-0.5, 1, (2, 3, 3))}
    arrays = {f"{model}-similarity": values for model, values in similarity.items()}
    np.savez(made.out / "sentence-map.npz", languages=np.array(["de", "en"]), **arrays)
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, title, path: drawn.append(figure))
    assert figures.heatmaps(Results(made.out), "any", tmp_path / "any.png")
    scales = [image.get_clim() for axis in drawn[0].axes for image in axis.images]
    assert scales == [(similarity["after"].min(), 1)] * 2
