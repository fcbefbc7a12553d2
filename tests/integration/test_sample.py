"""The bundled sample matches its NOTICE; its extraction keeps sentences and drops the rest."""

import lzma
import re
import unicodedata
from pathlib import Path

import make_sample
import pytest
import sample_sources

SAMPLE = Path(__file__).resolve().parents[2] / "sample"
XNLI = set("ar bg de el es fr hi ru sw th tr ur vi zh".split())


@pytest.fixture(scope="module")
def sample():
    """{(language, part): [(xx, English), ...]}"""
    found = {}
    for path in SAMPLE.glob("*.tsv.xz"):
        language, part = re.fullmatch(r"(\w+)-en\.(train|test)\.tsv\.xz", path.name).groups()
        text = lzma.decompress(path.read_bytes()).decode("utf-8")
        assert text.endswith("\n")
        found[language, part] = [tuple(line.split("\t")) for line in text.removesuffix("\n").split("\n")]
    return found


def test_sample_has_all_languages_and_is_small(sample):
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) <= 3_000_000
    assert set(sample) == {(language, part) for language in XNLI for part in ("train", "test")}


def test_sample_has_clean_pairs(sample):
    for (language, part), pairs in sample.items():
        for pair in pairs:
            assert len(pair) == 2, (language, part, pair)
            for side in pair:
                assert side == " ".join(side.split()) == unicodedata.normalize("NFC", side) != ""
            assert pair[0].casefold() != pair[1].casefold()
            assert make_sample.natural(pair[1], pair[0], language), (language, part, pair)


def test_sample_trains_on_no_held_out_english_sentence(sample):
    english = {"train": set(), "test": set()}
    for (_, part), pairs in sample.items():
        english[part] |= {make_sample.key(pair[1]) for pair in pairs}
    assert english["test"] and not english["test"] & english["train"]


def test_sample_repeats_no_sentence(sample):
    for language in XNLI:
        for side in (0, 1):
            keys = [make_sample.key(pair[side]) for part in ("train", "test") for pair in sample[language, part]]
            assert len(keys) == len(set(keys)), language


def test_notice_counts_pairs_and_names_licences(sample):
    notice = (SAMPLE / "NOTICE").read_text(encoding="utf-8")
    table = re.findall(r"^(\w\w) +(\d+) +(\d+) ", notice, re.MULTILINE)
    assert {language: (int(train), int(test)) for language, train, test in table} == {
        language: (len(sample[language, "train"]), len(sample[language, "test"])) for language in XNLI
    }
    by_source = re.findall(r"(\d+) training pairs, (\d+) held-out pairs", notice)
    for column, part in enumerate(("train", "test")):
        assert sum(int(row[column]) for row in by_source) == sum(len(sample[x, part]) for x in XNLI)
    for source in sample_sources.SOURCES:
        assert f"{source.name} ({source.wheel.requirement}), {source.licence}\n" in notice
        assert source.licence_file in notice and (SAMPLE / source.licence_file).stat().st_size > 500


@pytest.mark.parametrize(
    "english, other, language",
    [
        ("Turn on the {name}", "Schalte {name} ein", "de"),
        ("Turn on the %s", "Schalte %s ein", "de"),
        ("Read the [manual](url) first", "Lies erst das [Handbuch](url)", "de"),
        ("See https://example.org for more", "Siehe https://example.org für mehr", "de"),
        ("Turn on", "Schalte ein", "de"),  # short
        ("Turn on the small lamp", "Turn on the small lamp", "de"),  # not translated
        ("Turn on the small lamp", "Turn on the small Lampe", "de"),
        ("Turn on the small lamp", "Включи lamp please now", "ru"),  # mostly the wrong script
        ("Turn on the small lamp", "Schalte bitte die kleine Lampe ein, die dort hinten in der Ecke steht.", "de"),
        ("Turn on the small lamp", "灯", "zh"),
    ],
)
def test_natural_drops(english, other, language):
    assert not make_sample.natural(english, other, language)


def test_natural_keeps_translations():
    lamps = {"de": "Schalte die kleine Lampe ein", "ru": "Включи маленькую лампу", "zh": "打开小灯"}
    lamps["th"] = "เปิดโคมไฟดวงเล็ก"
    assert all(make_sample.natural("Turn on the small lamp", lamp, language) for language, lamp in lamps.items())
