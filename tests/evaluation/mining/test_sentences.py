"""Sentences on the disk: each text once, in any order, with its id; what cannot be used is counted."""

from collections import Counter

import pytest

from ppa_fairseq.data.text_files import MAX_LINE
from ppa_fairseq.evaluation.mining import sentences
from ppa_fairseq.evaluation.mining.sentences import Sentences, places_of, read_sentences, write_sentences
from ppa_fairseq.utils.errors import InputError


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_each_text_is_kept_once_and_found_at_its_place(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(sentences, "BATCH", batch)
    texts = ["b ß", "a", "b ß", "日本語", "a", "c"]
    hashes = write_sentences(tmp_path / "x", [(f"id{number}", text) for number, text in enumerate(texts)])
    kept = Sentences(tmp_path / "x")
    assert kept.between(0, 9) == [("id0", "b ß"), ("id1", "a"), ("id3", "日本語"), ("id5", "c")]
    assert kept.between(1, 3) == [("id1", "a"), ("id3", "日本語")] and kept[3] == ("id5", "c")
    assert [kept[place][1] for place in places_of(hashes)] == texts


def test_no_sentences_are_an_empty_corpus(tmp_path):
    assert len(write_sentences(tmp_path / "x", [])) == 0 == len(Sentences(tmp_path / "x"))


def test_lines_that_cannot_be_used_are_counted(tmp_path):
    lines = [b"eins", b"", b"  ", b"\xff", b"a" * (MAX_LINE + 1), b"a\x00b", b" zwei\tb ", b"a [MASK] b"]
    (tmp_path / "x").write_bytes(b"\n".join(lines))
    dropped = Counter()
    assert list(read_sentences(tmp_path / "x", dropped)) == [("", "eins"), ("", "zwei b")]
    assert dropped == {"empty": 2, "encoding": 1, "long": 1, "control": 2}


def test_ids_are_taken_where_all_lines_have_them(tmp_path):
    (tmp_path / "x").write_text("de-1\tein Satz\n\nde-2\t\nde-3\tzwei\n")
    assert list(read_sentences(tmp_path / "x")) == [("de-1", "ein Satz"), ("de-3", "zwei")]
    (tmp_path / "x").write_text("de-1\tein Satz\n" * 1000 + "ohne\n")
    with pytest.raises(InputError, match="x:1001: no id, a tab and a sentence"):
        list(read_sentences(tmp_path / "x"))
