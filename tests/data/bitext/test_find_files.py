"""Files under the names of OPUS, WMT and sentence-transformers are found, and all others are listed."""

import pytest

from ppa_fairseq.data.bitext.find_files import find_bitexts
from ppa_fairseq.utils.errors import InputError


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        pytest.param("de-en.tsv", "de-en", id="plain"),
        pytest.param("eng-deu.tsv.gz", "eng-deu", id="three letters"),
        pytest.param("TED2020-en-fr-train.tsv.gz", "en-fr", id="sentence-transformers"),
        pytest.param("ted-en-fr.tsv", "en-fr", id="a short word before"),
        pytest.param("WikiMatrix.v1.es-en.langid.tsv", "es-en", id="WMT WikiMatrix"),
        pytest.param("news-commentary-v14.de-en.tsv.gz", "de-en", id="WMT news commentary"),
        pytest.param("zh-CN-en.tsv", "zh_CN-en", id="region with a hyphen"),
        pytest.param("en-zh_TW.tsv", "en-zh_TW", id="region"),
        pytest.param("TED2020-en-zh-cn-train.tsv", "en-zh_cn", id="sentence-transformers with a region"),
        pytest.param("pt-br.tsv", "pt-br", id="Portuguese and Breton"),
        pytest.param("tr-en.txt", "tr-en", id="text with tabs"),
        pytest.param("Europarl-ru-en.ru Europarl-ru-en.en", "ru-en", id="two files"),
        pytest.param("Europarl.ru-en.ru Europarl.ru-en.en", "ru-en", id="OPUS"),
        pytest.param("europarl-v7.de-en.de.gz europarl-v7.de-en.en", "de-en", id="WMT, one packed"),
        pytest.param("OpenSubtitles.en-pt_br.en OpenSubtitles.en-pt_br.pt_br", "en-pt_br", id="OPUS region"),
        pytest.param("x.zh-CN-en.zh-CN x.zh-CN-en.en", "zh_CN-en", id="two files with a region"),
    ],
)
def test_published_names_are_found(tmp_path, names, pair):
    for name in names.split():
        (tmp_path / name).write_bytes(b"a\tb\n")
    (bitext,), passed_over = find_bitexts(tmp_path)
    assert bitext.name == pair and passed_over == []
    assert bitext.parts == [tuple(tmp_path / name for name in names.split())]


def test_files_that_are_not_taken_are_listed_with_the_reason(tmp_path):
    (tmp_path / "de-en.tsv").write_text("eins\tone\n")
    reasons = {
        "README.md": "not a file named like",
        "a.de-en.xml": "not a file named like",
        "train.de": "not a file named like",
        "sub.de-en": "not a file named like",
        "de-en-dev.tsv": "its name says dev; to take it, name the file itself",
        "b.de-en.tsv.tar": "cannot read .tar; unpack it",
        "de-en.txt.7z": "cannot read .7z; unpack it",
        "eng-deu-fra.tsv": "its name fits several language pairs (eng-deu, deu-fra)",
        "notes.de-en.txt": "no tab in its first line",
    }
    (tmp_path / "sub.de-en").mkdir()
    for name in reasons.keys() - {"sub.de-en"}:
        (tmp_path / name).write_text("text\n")
    (bitext,), passed_over = find_bitexts(tmp_path)
    assert bitext.parts == [(tmp_path / "de-en.tsv",)]
    for name, reason in reasons.items():
        assert sum(line.startswith(f"{tmp_path / name}: {reason}") for line in passed_over) == 1
    assert len(passed_over) == len(reasons)


def test_pairs_of_both_directions_become_one(tmp_path):
    (tmp_path / "a.de-en.tsv").write_text("eins\tone\n")
    (tmp_path / "b.en-de.tsv").write_text("two\tzwei\n")
    (tmp_path / "c.en-de.en").write_text("three\n")
    (tmp_path / "c.en-de.de").write_text("drei\n")
    (bitext,), _ = find_bitexts(tmp_path)
    assert bitext.name == "de-en"
    assert [row[:2] for row in bitext.rows()] == [("eins", "one"), ("zwei", "two"), ("drei", "three")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vi-en.en", r"vi-en\.en: no vi-en\.vi beside it; add its translation"),
        ("corpus.tsv", "no parallel text found.*corpus.tsv: not a file named like"),
    ],
    ids=["missing translation", "no pair"],
)
def test_what_cannot_be_paired_is_an_input_error(tmp_path, name, message):
    (tmp_path / name).write_text("eins\tone\n")
    with pytest.raises(InputError, match=message):
        find_bitexts(tmp_path)
