"""The report of experiments/reproduce.sh says what the result files say, and of all else that it was not run."""


import figures  # noqa: E402
import numpy as np
import pytest
import report  # noqa: E402
from helpers.made_up_results import MadeUp, cells
from results import NOT_RUN, Results, spread  # noqa: E402


def section(text: str, name: str) -> str:
    return text.split(f"## {name}\n")[1].split("\n## ")[0]


def test_spread_is_the_mean_and_the_sample_deviation():
    values = list(np.random.default_rng(0).uniform(0, 100, 3))
    assert spread(values, 3) == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    assert spread(values[:2], 3).endswith("(2 of 3 seeds)")
    assert spread(values[:1]) == f"{values[0]:.1f}" and spread([]) == NOT_RUN


def test_the_report_has_the_result_files_numbers_and_nothing_else(tmp_path):
    made = MadeUp(tmp_path / "out")
    base = made.retrieval("unaligned", 1)
    ppa = [made.retrieval("ppa", seed) for seed in (1, 2, 3)]
    moco = [made.retrieval("moco", seed) for seed in (2, 3)]
    lows = {"zero-shot": 45.0, "translate-train": 46.0, "code-switch": 45.5}
    for kind, low in {**lows, "translate-train-few": 41.0, "code-switch-few": 45.0}.items():
        for seed in (1, 2, 3):
            made.xnli(kind, "ppa", seed, low + seed)
            if kind == "zero-shot":
                made.xnli(kind, "unaligned", seed, 38.0 + seed)
    page = tmp_path / "docs" / "results.md"
    report.main(made.out, page)
    text = page.read_text()
    assert cells(text, "unaligned")[2:4] == [f"{value:.1f}" for value in base]
    for side in (0, 1):
        mean, deviation = np.mean(ppa, axis=0)[side], np.std(ppa, axis=0, ddof=1)[side]
        assert cells(text, "MoCo + TLM")[2 + side] == f"{mean:.1f} ± {deviation:.1f}"
        assert cells(text, "MoCo only")[2 + side].startswith(f"{np.mean(moco, axis=0)[side]:.1f} ± ")
        assert cells(text, "MoCo only")[2 + side].endswith("(2 of 3 seeds)")
    assert "| queue of 9" not in text and "Not run: queue of 9.\n" in section(text, "All rows")
    assert cells(text, "MoCo only")[6:] == [NOT_RUN] * 3
    assert cells(text, "MoCo + TLM")[6:] == ["47.0 ± 1.0", "48.0 ± 1.0", NOT_RUN]
    assert cells(text, "XNLI zero-shot")[1:] == ["unaligned 40.0 ± 1.0, aligned 47.0 ± 1.0 (+7.0)", "met"]
    mixed = cells(text, "XNLI, MoCo + TLM (PPA): code")
    assert mixed[1:] == ["plain 48.0 ± 1.0, code-switching 47.5 ± 1.0 (-0.5)", "missed"]
    few = cells(text, "XNLI, MoCo + TLM (PPA): code-switching above plain translate-train on few")
    assert few[1:] == ["plain 43.0 ± 1.0, code-switching 47.0 ± 1.0 (+4.0)", "met"]
    by_language, translated_few = section(text, "XNLI by language").split("Then on few translations")
    assert cells(translated_few, "average")[1:] == ["43.0 ± 1.0", "47.0 ± 1.0"]
    zero_shot, translated = by_language.split("Then on translations")
    assert cells(zero_shot, "language") == ["language", "unaligned", "MoCo + TLM (PPA)"]
    assert cells(zero_shot, "fr") == ["fr", "39.0 ± 1.0", "46.0 ± 1.0"]
    both = [f"MoCo + TLM (PPA): {kind}" for kind in ("translate-train", "code-switch")]
    assert cells(translated, "language")[1:] == both and cells(translated, "seeds")[1:] == ["3", "3"]
    assert cells(translated, "average")[1:] == ["48.0 ± 1.0", "47.5 ± 1.0"]
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("|"))
    assert (page.parent / "results" / "retrieval-by-layer.png").stat().st_size > 1000
    assert not (page.parent / "results" / "curves.png").exists()


def test_rows_of_one_seed_stand_apart_and_are_no_goals(tmp_path):
    made = MadeUp(tmp_path / "out")
    for row in ("ppa", "queue-9"):
        made.xnli("zero-shot", row, 1, 44.0)
    page = tmp_path / "results.md"
    report.main(made.out, page)
    main, ablations = section(page.read_text(), "XNLI by language").split("Then on")[0].split("rows of one seed:")
    assert cells(main, "language") == ["language", "MoCo + TLM (PPA)"]
    assert cells(ablations, "language") == ["language", "queue of 9"] and cells(ablations, "en") == ["en", "45.0"]
    assert "queue of 9" not in section(page.read_text(), "What was found")


def test_words_are_told_by_method_and_layer_with_their_seeds(tmp_path):
    made = MadeUp(tmp_path / "out")
    made.words("unaligned", 1, {"softmax": [50.4, 21.2], "argmax": [29.8, 10.5]})
    made.words("ppa", 1, {"softmax": [49.4, 16.4, 12.9]})  # deeper, and as before both methods were measured
    made.perplexity("ppa", 1, 114883.7)
    made.perplexity("ppa", 3, 114883.9)
    made.perplexity("unaligned", 1, 99999.9, head_trained=False)
    with (made.out / "rows.tsv").open("a") as rows:
        rows.write("xlm-tlm\tTLM only, as in XLM\t1 2 3\t--tlm-reset-positions\t\n")
    made.perplexity("xlm-tlm", 1, 4519.8)
    report.main(made.out, tmp_path / "results.md")
    nearest, rest = section((tmp_path / "results.md").read_text(), "Words").split("Words linked by softmax")
    softmax, masked = rest.split("Tatoeba's pairs")
    assert cells(nearest, "layer")[1:] == ["unaligned"] and cells(nearest, "1")[1:] == ["10.5"]
    assert cells(softmax, "layer")[1:] == ["unaligned", "MoCo + TLM (PPA)"]
    assert cells(softmax, "0")[1:] == ["50.4", "49.4"] and cells(softmax, "2")[1:] == ["–", "12.9"]
    assert "\nSeed 1 alone." in nearest and "\nSeed 1 alone." in softmax and "\nSeeds 1, 3. " in masked
    assert cells(masked, "MoCo + TLM")[1:] == ["114,883.8 ± 0.1", "5.0 ± 0.0"] and "unaligned" not in masked
    assert "| TLM only" not in masked


def test_the_verdict_on_retrieval_is_the_methods_and_not_the_best_rows(tmp_path):
    made = MadeUp(tmp_path / "out")
    made.retrieval("ppa", 1, 74)
    made.retrieval("queue-9", 1, 80)
    report.main(made.out, tmp_path / "results.md")
    told = cells((tmp_path / "results.md").read_text(), "retrieval")
    assert told[1:] == ["unaligned: not run; MoCo + TLM (PPA): 74.0; best row, queue of 9: 80.0", "missed"]
    made.retrieval("ppa", 1, 81)
    report.main(made.out, tmp_path / "results.md")
    told = cells((tmp_path / "results.md").read_text(), "retrieval")
    assert told[1:] == ["unaligned: not run; MoCo + TLM (PPA): 81.0", "met"]


def test_a_gain_within_the_spread_is_no_gain_and_notes_stay(tmp_path):
    made, page = MadeUp(tmp_path / "out"), tmp_path / "results.md"
    verdicts = []
    for seed, (before, after) in enumerate([(40.0, 60.0), (50.0, 61.0), (45.0, 49.0)], 1):
        made.xnli("zero-shot", "unaligned", seed, before)
        made.xnli("zero-shot", "ppa", seed, after)
        report.main(made.out, page)
        verdicts.append(cells(page.read_text(), "XNLI zero-shot")[2])
    assert verdicts == ["too few seeds", "too few seeds", "missed"]
    assert cells(page.read_text(), "retrieval")[2] == NOT_RUN
    first, last = report.NOTES
    page.write_text(page.read_text().replace(f"{first}\n", f"{first}\n\nWe see why.\n"))
    made.xnli("zero-shot", "unaligned", 2, 48.0)
    report.main(made.out, page)
    text = page.read_text()
    assert text.count("We see why.") == text.count(first) == text.count(last) == 1
    assert cells(text, "XNLI zero-shot")[2] == "met"


def test_a_result_without_its_finished_step_does_not_count(tmp_path):
    made = MadeUp(tmp_path / "out")
    made.retrieval("ppa", 1)
    row = next(row for row in Results(made.out).rows if row.name == "ppa")
    assert list(Results(made.out).retrieval(row)) == ["1"]
    (made.out / "steps" / "retrieve.ppa.1.json").unlink()
    assert Results(made.out).retrieval(row) == {}


def test_where_nothing_was_run_an_earlier_report_stays(tmp_path):
    page = tmp_path / "results.md"
    page.write_text("what was found\n")
    with pytest.raises(SystemExit, match="has no finished step"):
        report.main(MadeUp(tmp_path / "out").out, page)
    assert page.read_text() == "what was found\n" and not (tmp_path / "results").exists()


@pytest.mark.parametrize("setting, flags", [("full", ""), ("quick", " --quick"), ("tiny", " --setting tiny.sh")])
def test_the_report_names_the_command_that_makes_it(tmp_path, setting, flags):
    made = MadeUp(tmp_path / "out", setting)
    rows = made.out / "rows.tsv"
    rows.write_text(f"{rows.read_text()}mine\tmine (trained elsewhere)\t1\t\tmine.pt\n")
    told = report.introduction(Results(made.out), tmp_path / "results.md").replace("\n", " ")
    assert f"`experiments/reproduce.sh{flags} --data DIR --also mine=CHECKPOINT`" in told


def test_the_map_is_named_by_the_encoder_it_was_made_of(tmp_path):
    made = MadeUp(tmp_path / "out")
    with (made.out / "rows.tsv").open("a") as rows:
        rows.write("mine\tmine (trained elsewhere)\t1\t\tmine.pt\n")
    trained = "out/align/ppa.1/checkpoint_last.pt"
    for path, label in {trained: "MoCo + TLM (PPA)", "mine.pt": "mine (trained elsewhere)", "x.pt": "x.pt"}.items():
        made.step("sentence-map", ("python", "--model", "before=imported", "--model", f"after={path}"))
        assert Results(made.out).mapped == label


def test_the_heatmaps_before_and_after_have_one_scale(tmp_path, monkeypatch):
    made = MadeUp(tmp_path / "out")
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
