"""What `ppa prepare-bitext` drops when asked: low scores, other languages, odd lengths, untranslated sides."""

import json
import sys
import zipfile

import pytest
from helpers.bitext_data import lines_of, words, write_tsv

from ppa_fairseq.data.bitext.filters import word_overlap

GERMAN, ENGLISH = words(1, 90), words(2, 90)
SCORES = [f"{0.5 + place / 100:.2f}" for place in range(90)]  # 0.50 to 1.39


def kept(folder):
    return sum(len(lines) for name, lines in lines_of(folder).items() if name.endswith(".en"))


def as_tsv(folder):
    return f"de-en={write_tsv(folder / 'a.tsv', GERMAN, ENGLISH, SCORES)}", "3"


def as_jsonl(folder):
    rows = zip(GERMAN, ENGLISH, SCORES, strict=True)
    text = "".join(json.dumps({"de": a, "en": b, "laser": float(score)}) + "\n" for a, b, score in rows)
    (folder / "a.jsonl").write_text(text)
    return f"de-en={folder / 'a.jsonl'}", "laser"


def as_zip_of_nllb(folder):
    with zipfile.ZipFile(folder / "de-en.txt.zip", "w") as archive:
        for ending, column in (("de", GERMAN), ("en", ENGLISH), ("scores", [f"{score}\tx" for score in SCORES])):
            archive.writestr(f"NLLB.de-en.{ending}", "\n".join(column) + "\n")
    return f"de-en={folder / 'de-en.txt.zip'}", "1"


@pytest.mark.parametrize("make", [as_tsv, as_jsonl, as_zip_of_nllb], ids=["TSV", "JSON lines", "zip"])
def test_pairs_below_a_score_are_dropped_and_shown(prepare, tmp_path, make):
    text, column = make(tmp_path)
    folder, statistics, printed = prepare(text, "--score-column", column, "--min-score", "1.1")
    assert statistics["de-en"]["dropped"] == {"score": 60} and kept(folder) == 30
    lines = [line.split() for line in printed.partition("de-en: pairs by score\n")[2].splitlines() if " to " in line]
    assert sum(int(line[3]) for line in lines) == 90
    assert sum(int(line[3]) for line in lines if line[-1] == "dropped" and line[-2] != "partly") == 60
    assert "score: the score is below --min-score" in printed


def test_a_repeated_pair_is_kept_for_its_better_score(prepare, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", GERMAN * 2, ENGLISH * 2, ["0.1"] * 90 + ["0.9"] * 90)
    folder, _, _ = prepare(f"de-en={path}", "--score-column", "3", "--min-score", "0.5")
    assert kept(folder) == 90


@pytest.mark.parametrize("score", ["", "nan", "inf", "much"])
def test_a_few_scores_that_are_no_numbers_are_counted(prepare, tmp_path, score):
    path = write_tsv(tmp_path / "a.tsv", GERMAN, ENGLISH, [score, *SCORES[1:]])
    _, statistics, _ = prepare(f"de-en={path}", "--score-column", "3", "--min-score", "0")
    assert statistics["de-en"]["dropped"] == {"no score": 1}


BAD = {
    "no numbers": ("--columns 1,3 --score-column 2 --min-score 1", "a.tsv: the score of pair 1 is "),
    "no such column": ("--score-column 4 --min-score 1", "a.tsv: its lines have 3 columns, no column 4; "),
    "a name": ("--score-column laser --min-score 1", "a.tsv: no column laser: the columns of a TSV have numbers"),
    "no limit": ("--score-column 3", "--score-column and --min-score belong together"),
    "no column": ("--min-score 3", "--score-column and --min-score belong together"),
    "all dropped": (
        "--score-column 3 --min-score 9",
        "only 0 of 90 read pairs are left for training (dropped: score 90)",
    ),
}


@pytest.mark.parametrize(("flags", "message"), BAD.values(), ids=BAD.keys())
def test_bad_scores_are_one_line_and_leave_nothing(prepare, tmp_path, flags, message):
    text, _ = as_tsv(tmp_path)
    found = prepare(text, *flags.split(), status=1)
    assert message in found
    assert not (tmp_path / "text").exists()


def test_two_files_without_a_file_of_scores_are_named(prepare, tmp_path):
    for language, column in (("de", GERMAN), ("en", ENGLISH)):
        (tmp_path / f"a.{language}").write_text("\n".join(column))
    text = f"de-en={tmp_path}/a.de,{tmp_path}/a.en"
    assert "no a.scores beside it" in prepare(text, "--score-column", "1", "--min-score", "1", status=1)
    (tmp_path / "a.scores").write_text("1\n" * 89)
    found = prepare(text, "--score-column", "1", "--min-score", "1", status=1)
    assert "a.de has 90 lines but " in found and "a.scores has 89 lines" in found


def test_ratio_and_overlap_are_off_unless_asked(prepare, tmp_path):
    german = [*GERMAN, "a" * 60, "ein guter satz in drei teilen"]
    english = [*ENGLISH, "b" * 12, "ein guter satz in three parts"]
    text = f"de-en={write_tsv(tmp_path / 'a.tsv', german, english)}"
    assert not prepare(text)[1]["de-en"]["dropped"]
    _, statistics, printed = prepare(text, "--max-ratio", "--max-overlap", out="filtered")
    assert statistics["de-en"]["dropped"] == {"ratio": 1, "overlap": 1}
    assert "ratio: " in printed and "overlap: " in printed
    loose = prepare(text, "--max-ratio", "5", "--max-overlap", "0.7", out="loose")[1]["de-en"]["dropped"]
    assert not loose


def test_word_overlap_counts_different_words_of_the_shorter_side():
    assert word_overlap("Der Hund, der Hund!", "der hund bellt laut") == 1
    assert word_overlap("eins zwei drei vier", "eins two three") == 1 / 3
    assert word_overlap("?!", "eins") == 0


def test_other_languages_are_dropped_and_unknown_ones_refused(prepare, tmp_path):
    pytest.importorskip("py3langid", reason="needs the extra sources")
    german = [f"Das ist der Satz {place}, den wir heute auf Deutsch geschrieben haben." for place in range(50)]
    english = [f"This is the sentence {place} that we have written in English today." for place in range(50)]
    flags = "--check-language", "--max-tokens", "500"
    path = write_tsv(tmp_path / "a.tsv", [*german, english[0]], [*english, german[0]])
    _, statistics, _ = prepare(f"de_DE-en={path}", *flags)
    assert statistics["de_DE-en"]["dropped"] == {"language": 1}
    assert "--check-language: xx is not a language of py3langid" in prepare(f"xx-en={path}", *flags, out="b", status=1)


def test_language_check_without_its_library_names_the_extra(prepare, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    found = prepare(as_tsv(tmp_path)[0], "--check-language", status=1)
    assert "--check-language: needs py3langid.langid; pip install 'ppa_fairseq[sources]'" in found
