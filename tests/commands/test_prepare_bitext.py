"""Every line is kept, or dropped and counted by reason; the text that is written is the tokenizer's own."""

import codecs
import gzip
import lzma
import os
import re
import signal
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.bitext_data import LETTERS, TOKENIZER, VOCABULARY, lines_of, tree, words, write_tsv
from hypothesis import given, settings
from hypothesis import strategies as st

from ppa_fairseq.checkpoints import tokenizer
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data import text_files
from ppa_fairseq.data.bitext import prepare as preparation
from ppa_fairseq.data.bitext.filters import PairEncoder, SeenPairs, is_valid, read_batches
from ppa_fairseq.data.bitext.find_files import parse_bitext
from ppa_fairseq.data.bitext.writer import PairWriter
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.text_files import MAX_LINE
from ppa_fairseq.utils.errors import InputError


def text_of(line):
    return line.replace(" ##", "")


LONG = "a" * 64
REASONS = [
    (b"nur eine spalte hier", "columns"),
    (b"drei\tspalten sind\tzu viel", "columns"),
    (b"\xffein guter satz\ta good sentence", "encoding"),
    (b"ein guter satz\ta good sentence\xc3", "encoding"),
    (b"ein guter\x00 satz\ta good sentence", "control"),
    (b"ein guter satz\ta good\rsentence", "control"),
    (b"ein guter satz\ta good [SEP] sentence", "control"),
    ("ein guter satz\ta good \ufffd sentence".encode(), "control"),
    (b"\ta good sentence", "empty"),
    (b"ein guter satz\t  ", "empty"),
    (b"the same text\t the same text", "identical"),
    (b"ein guter satz\ta good sentence", "duplicate"),
    (b" ein guter satz \ta good sentence\r", "duplicate"),
    (b"neun lang\ta good sentence", "short"),
    (b"noch ein guter satz\tnine long", "short"),
    (f"{LONG}a\t{LONG}".encode(), "long"),
    (b"ein guter satz\t" + b"a" * MAX_LINE, "long"),
]


def test_every_reason_is_counted(prepare, tmp_path):
    kept = [b"ein guter satz\ta good sentence", f"{LONG}\t{LONG[1:]}b".encode(), b"zehn lang x.\tten long xyz\r"]
    path = tmp_path / "corpus.tsv"
    path.write_bytes(b"\n".join([*kept, *(line for line, _ in REASONS), b"der letzte satz\tthe last one .."]))
    folder, statistics, printed = prepare(f"de-en={path}", "--valid-share", 0)
    counts = statistics["de-en"]
    assert counts["dropped"] == dict(Counter(reason for _, reason in REASONS))
    assert (counts["read"], counts["train"], counts["valid"]) == (4 + len(REASONS), 4, 0)
    assert set(lines_of(folder)) == {"train.de-en.de", "train.de-en.en"}
    lines = list(map(text_of, lines_of(folder)["train.de-en.de"]))
    assert lines == ["ein guter satz", "a" * 64, "zehn lang x .", "der letzte satz"]
    assert counts["broken_lines"]["columns"] == [f"{path}:4: 1 columns, not 2", f"{path}:5: 3 columns, not 2"]
    assert counts["broken_lines"]["encoding"] == [f"{path}:6: not UTF-8", f"{path}:7: not UTF-8"]
    head, _, row, *_ = (line.replace("|", " ").split() for line in printed.splitlines())
    assert row[:4] == ["de-en", "21", "4", "0"]
    assert dict(zip(head[4:-1], map(int, row[4:-1]), strict=True)) == counts["dropped"]
    assert f"{path}:4: 1 columns, not 2" in printed


def test_columns_name_the_languages_and_numbers_are_skipped(prepare, tmp_path):
    german, english, numbers = words(1, 50), words(2, 50), [f"1.{i:04}" for i in range(50)]
    expected = lines_of(prepare(f"de-en={write_tsv(tmp_path / 'a.tsv', german, english)}")[0])
    assert text_of(expected["train.de-en.de"][0]) in german
    five = write_tsv(tmp_path / "b.tsv", numbers, german, english, ["de"] * 50, ["en"] * 50)  # WMT's WikiMatrix
    assert lines_of(prepare(f"de-en={five}", out="five")[0]) == expected
    swapped = write_tsv(tmp_path / "c.tsv", english, german, ["source"] * 50)
    assert lines_of(prepare(f"de-en={swapped}", "--columns", "2,1", out="swapped")[0]) == expected


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_files_of_any_form_give_what_one_plain_tsv_gives(prepare, tmp_path, suffix, pack):
    german, english = words(1, 90), words(2, 90)
    expected = lines_of(prepare(f"de-en={write_tsv(tmp_path / 'whole.tsv', german, english)}")[0])
    first = write_tsv(tmp_path / "first.tsv", german[:30], english[:30])
    (tmp_path / "b.de").write_bytes("\ufeff".encode() + "\r\n".join(german[30:60]).encode())
    (tmp_path / f"b.en{suffix}").write_bytes(pack("\n".join(english[30:60]).encode()))
    last = write_tsv(tmp_path / "last.tsv", german[60:], english[60:])
    packed = tmp_path / f"last.tsv{suffix}"
    packed.write_bytes(pack(last.read_bytes()))
    parts = f"de-en={first},{tmp_path / 'b.de'},{tmp_path / 'b.en'}{suffix},{packed}"
    assert lines_of(prepare(parts, out="parts")[0]) == expected


def test_two_workers_write_what_one_writes(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "BATCH", 20)
    german, english = words(1, 500) + words(1, 100), words(2, 500) + words(2, 100)
    path = write_tsv(tmp_path / "a.tsv", german, english)
    pairs = [f"de-en={path}", f"fr-en={path}"]
    one, _, _ = prepare(*pairs)
    two, statistics, _ = prepare(*pairs, "--workers", "2", out="two")
    assert statistics["de-en"]["dropped"]["duplicate"] == 100
    assert tree(one) == tree(two)


def test_the_first_n_training_pairs_are_kept_and_no_more_is_read(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "BATCH", 20)
    path = write_tsv(tmp_path / "a.tsv", words(1, 400), words(2, 400))
    everything = lines_of(prepare(f"de-en={path}")[0])
    for workers in (1, 2):
        some, statistics, _ = prepare(f"de-en={path}", "--max-train", 50, "--workers", workers, out=f"by{workers}")
        assert lines_of(some)["train.de-en.en"] == everything["train.de-en.en"][:50]
        counts = statistics["de-en"]
        assert counts["dropped"]["spare train"] > 0
        assert counts["read"] == 80 == counts["train"] + counts["valid"] + sum(counts["dropped"].values())
    assert tree(tmp_path / "by1") == tree(tmp_path / "by2")


def test_validation_is_bounded_and_its_rest_not_trained_on(prepare, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", words(1, 400), words(2, 400))
    before = lines_of(prepare(f"de-en={path}")[0])
    few, statistics, _ = prepare(f"de-en={path}", "--max-valid", 7, out="few")
    assert lines_of(few, "de-en") == before | {n: before[n][:7] for n in ("valid.de-en.de", "valid.de-en.en")}
    assert statistics["de-en"]["dropped"] == {"spare valid": len(before["valid.de-en.de"]) - 7}


def test_a_sentence_is_on_one_side_of_the_split_in_every_pair_and_run(prepare, tmp_path):
    english = words(2, 400)
    variants = [sentence.upper() + " ." for sentence in english]
    first = write_tsv(tmp_path / "a.tsv", words(1, 400), english)
    second = write_tsv(tmp_path / "b.tsv", variants[::-1], words(3, 400))
    alone, _, _ = prepare(f"de-en={first}")
    both, _, _ = prepare(f"en-fr={second}", f"de-en={first}", out="both")
    assert lines_of(both, "de-en") == lines_of(alone)

    def sentences(folder, name):
        return {re.sub(r"[^a-z]", "", line.lower()) for line in (folder / name).read_text().splitlines()}

    held_out = sentences(both, "valid.de-en.en")
    assert 40 < len(held_out) < 120
    assert sentences(both, "valid.en-fr.en") == held_out
    assert not held_out & (sentences(both, "train.de-en.en") | sentences(both, "train.en-fr.en"))


def test_pairs_without_the_pivot_are_held_out_by_their_first_language(prepare, tmp_path):
    paths = [write_tsv(tmp_path / f"{i}.tsv", words(1, 300), words(i, 300)) for i in (2, 3)]
    found = lines_of(prepare(f"de-fr={paths[0]}", f"de-es={paths[1]}")[0])
    assert found["valid.de-fr.de"] == found["valid.de-es.de"]


def test_the_split_is_stable_and_of_the_size_asked_for():
    sentences = words(5, 20_000)
    assert abs(sum(is_valid(sentence, 0.1) for sentence in sentences) / len(sentences) - 0.1) < 0.01
    assert not any(is_valid(sentence, 0.0) for sentence in sentences)
    # These may never change: prepared validation sets rely on them.
    held_out = [is_valid(sentence, 0.5) for sentence in ("Hello, world!", "hello world", "Ein Satz.", "你好。", "नमस्ते")]
    assert held_out == [True, True, True, False, True]


def test_shards_hold_the_same_pairs(prepare, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", words(1, 300), words(2, 300))
    whole = lines_of(prepare(f"de-en={path}")[0])
    folder, _, _ = prepare(f"de-en={path}", "--shards", "3", out="shards")
    for i in range(3):
        part = {n: lines[i::3] if n.startswith("train") else lines for n, lines in whole.items()}
        assert lines_of(folder / f"shard{i}") == {n: part[n] for n in part if n.startswith("train") or i == 0}


def test_statistics_count_the_text_written_and_the_vocabulary_lies_beside_it(prepare, letters, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", [f"{sentence} ?" for sentence in words(1, 100)], words(2, 100))
    folder, statistics, printed = prepare(f"de-en={path}")
    counts = statistics["de-en"]
    for language, unknown in (("de", 100), ("en", 0)):
        files = (folder / f"{split}.de-en.{language}" for split in ("train", "valid"))
        symbols = [symbol for path in files for symbol in path.read_text().split()]
        assert counts["tokens"][language] == len(symbols)
        assert counts["unknown"][language] == symbols.count("[UNK]") == unknown
    assert printed.splitlines()[2].endswith(f" {100 / sum(counts['tokens'].values()):.2%} |")
    assert (folder / "dict.txt").read_text() == "".join(f"{symbol} 1\n" for symbol in VOCABULARY)
    assert tokenizer.read_files(folder) == tokenizer.read_files(letters)


def test_ids_are_the_tokenizers_in_fifteen_languages(shared_data, tmp_path):
    folder, limits = tmp_path / "mbert", "--min-tokens 1 --max-tokens 100000 --valid-share 0".split()
    folder.mkdir()
    tokenizer.write_files(TOKENIZER | {"vocab.txt": shared_data("mbert-vocab").read_text()}, folder)
    sets = {path.stem[-2:]: path.read_text().split("\n")[:300] for path in shared_data("xnli-dev").glob("dev-*.tsv")}
    premises = {language: [line.split("\t")[1] for line in lines] for language, lines in sets.items()}
    english = premises.pop("en")
    assert len(premises) == 14
    arguments = [f"{code}-en={write_tsv(tmp_path / f'{code}.tsv', other, english)}" for code, other in premises.items()]
    out = tmp_path / "text"
    assert cli.main(["prepare-bitext", "--tokenizer", str(folder), "--out", str(out), *limits, *arguments]) == 0
    dictionary = WordPieceDictionary.load(str(out / "dict.txt"))
    oracle = tokenizer.ModelTokenizer(tokenizer.read_files(folder), "mbert").backend
    for language, other in premises.items():
        rows = dict.fromkeys(zip(other, english, strict=True))
        rows = [row for row in rows if row[0] != row[1] and "\ufffd" not in "".join(row)]
        for side, code in enumerate((language, "en")):
            lines = (out / f"train.{language}-en.{code}").read_text().split("\n")[:-1]
            assert len(lines) == len(rows) > 280
            for line, row in zip(lines, rows, strict=True):
                assert dictionary.encode_line(line).tolist() == oracle.encode(row[side]).ids[1:]  # without [CLS]


# Bytes, whole lines among them: what is read must always be kept or dropped.
LINES = st.lists(
    st.binary(max_size=30)
    | st.sampled_from([b"ein guter satz\ta good sentence", b"", b"a\tb", b"\t", b"abc\tabd\r", b"\r", b"\xef\xbb\xbf"])
    | st.builds(lambda a, b: f"{a}\t{b}".encode(), st.text(LETTERS[:4], max_size=9), st.text(max_size=9)),
    max_size=40,
)


def process(bitext, folder, size):
    """The command's work for one pair without processes."""
    encoder = PairEncoder(TOKENIZER, "tokenizer", min_tokens=2, max_tokens=12, valid_share=0.3)
    settings = Namespace(max_train=None, max_valid=3, valid_share=0.3)
    with PairWriter([folder], bitext.name, settings, "[UNK]") as writer:
        for batch in read_batches(bitext.rows((0, 1)), size, pivot_side=1):
            writer.write(batch, *encoder(batch))
    return writer.counts


def number_of_lines(lines: list[bytes]) -> int:
    content = b"\n".join(lines).removeprefix(codecs.BOM_UTF8)
    return content.count(b"\n") + (content != b"" and not content.endswith(b"\n"))


@given(LINES, st.sampled_from([1, 3, 1000]), st.sampled_from([5, 1 << 20]))
@settings(deadline=None)
def test_any_tsv_is_read_to_its_last_line(tmp_path_factory, lines, size, block):
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.tsv").write_bytes(b"\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "BLOCK", block)
        try:
            counts = process(parse_bitext(f"de-en={folder / 'a.tsv'}"), folder, size)
        except InputError as error:
            assert re.search("is UTF-16|CR alone|its lines have 1 columns, no column 2", str(error))
            return
    assert counts.read == number_of_lines(lines) == counts.train + counts.valid + sum(counts.dropped.values())
    for split, count in (("train", counts.train), ("valid", counts.valid)):
        for language in ("de", "en"):
            assert (folder / f"{split}.de-en.{language}").read_bytes().count(b"\n") == count


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=12))
def test_duplicates_are_found_as_a_set_finds_them(batches):
    seen, oracle = SeenPairs(), set()
    for batch in batches:
        expected = []
        for value in batch:
            expected.append(value not in oracle)
            oracle.add(value)
        assert seen.add(np.array(batch, dtype=np.uint64)).tolist() == expected
    assert sum(len(run) for run in seen.runs) == len(oracle)
    assert len(seen.runs) <= 7  # each at least twice as long as the next


def test_ctrl_c_ends_the_command_at_once(letters, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", words(1, 200) * 2000, words(2, 200) * 2000)
    command = [sys.executable, "-m", "ppa_fairseq.commands.main", "prepare-bitext", f"de-en={path}"]
    process = subprocess.Popen(
        [*command, "--tokenizer", letters, "--out", tmp_path / "text"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
        # Where the tests run in the background, SIGINT is ignored, and the command would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(3):
        process.stderr.read(40)  # the progress bar is there
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[1].endswith("ppa prepare-bitext: interrupted\n")
    assert process.returncode == 130
    assert [found.name for found in tmp_path.iterdir()] == ["a.tsv"]


BAD_INPUT = {
    "missing": ("de-en=none.tsv", "none.tsv: no such file; de-en needs a text file"),
    "a folder as file": ("de-en=folder.tsv", "folder.tsv: is a folder"),
    "no pair": ("deen=good.tsv", "deen=good.tsv: expected LANGUAGES=FILE"),
    "one language": ("en-en=good.tsv", "en-en=good.tsv: expected LANGUAGES=FILE[,FILE…] with two different languages"),
    "a path as language": ("../x-en=good.tsv", "../x-en=good.tsv: expected LANGUAGES=FILE"),
    "7z": ("de-en=a.tsv.7z", "a.tsv.7z: cannot read .7z"),
    "no translation": ("de-en=a.de", "a.de: de-en lacks its translation"),
    "unequal": ("de-en=a.de,a.en", "a.de has 3 lines but a.en has 2"),
    "unequal, the other way": ("en-de=a.en,a.de", "a.en has 2 lines but a.de has 3"),
    "a pair twice": ("de-en=good.tsv en-de=short.tsv", "de-en, en-de: two of these are one language pair"),
    "one column": ("de-en=one.tsv", "one.tsv: its lines have 1 columns, no column 2"),
    "no such column": ("de-en=good.tsv --columns 2,3", "good.tsv: its lines have 2 columns, no column 3"),
    "empty": ("de-en=empty.tsv", "de-en: only 0 of 0 read pairs are left for training (dropped: none)"),
    "short": ("de-en=short.tsv", "de-en: only 0 of 2 read pairs are left for training (dropped: short 2)"),
    "no valid split": ("de-en=good.tsv --valid-share 0.0001", "the validation split got none of 200 pairs"),
    "shards": ("de-en=good.tsv --shards 300", "of 200 read pairs are left for training"),
    "truncated gzip": ("de-en=cut.tsv.gz", "cut.tsv.gz: truncated or damaged"),
    "truncated xz": ("de-en=cut.tsv.xz", "cut.tsv.xz: truncated or damaged"),
    "CR": ("de-en=cr.tsv", "cr.tsv: its lines end in CR alone"),
    "Latin-1": ("de-en=latin-1.tsv", "latin-1.tsv:1: not UTF-8"),
    "limits": ("de-en=good.tsv --min-tokens 70", "--min-tokens 70 a side and --max-tokens 128 in all leave no pair"),
    "tokenizer": ("de-en=good.tsv --tokenizer folder.tsv", "folder.tsv: has no tokenizer"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_an_input_error(prepare, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    good = write_tsv(tmp_path / "good.tsv", words(1, 200), words(2, 200)).read_bytes()
    (tmp_path / "folder.tsv").mkdir()
    contents = {"empty.tsv": b"", "one.tsv": b"no tab here\n", "a.de": b"eins\nzwei\ndrei\n", "a.en": b"one\ntwo\n"}
    contents |= {"short.tsv": b"a\tb\nc\td\n", "a.tsv.7z": b""}
    contents |= {"cut.tsv.gz": gzip.compress(good)[:-9], "cut.tsv.xz": lzma.compress(good)[:-9]}
    contents |= {"cr.tsv": good.replace(b"\n", b"\r"), "latin-1.tsv": good.replace(b"\t", b"\t\xe9")}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert message in prepare(*arguments.split(), status=1)
    assert not (tmp_path / "text").exists() and not list(tmp_path.glob(".text*"))


USAGE = "--min-tokens 0;--workers 0;--columns 2;--columns 0,1;--columns 1,1;--valid-share 1;--valid-share nan"


@pytest.mark.parametrize("flags", USAGE.split(";"))
def test_flags_out_of_range_are_a_usage_error(prepare, capsys, flags):
    with pytest.raises(SystemExit) as stopped:
        prepare("de-en=good.tsv", *flags.split())
    assert stopped.value.code == 2 and f"argument {flags.split()[0]}: " in capsys.readouterr().err


def test_a_folder_gives_all_its_pairs_and_lists_the_rest(prepare, tmp_path):
    (tmp_path / "raw").mkdir()
    german = write_tsv(tmp_path / "raw" / "de-en.tsv", words(1, 60), words(2, 60))
    french = write_tsv(tmp_path / "raw" / "TED2020-en-fr-train.tsv", words(2, 60), words(3, 60))
    (tmp_path / "raw" / "README").write_text("text")
    folder, statistics, printed = prepare(tmp_path / "raw")
    assert f"not taken: {tmp_path / 'raw' / 'README'}: not a file named like" in printed
    assert set(statistics) == {"de-en", "en-fr"}
    single, _, _ = prepare(f"de-en={german}", f"en-fr={french}", out="single")
    assert lines_of(folder) == lines_of(single)


def test_a_warning_is_printed_and_kept_and_unquote_follows_it(prepare, tmp_path):
    english = [f'"x ""y"" {text}"' for text in words(2, 100)]
    path = write_tsv(tmp_path / "a.tsv", [text[3:] for text in words(2, 100)], english)
    _, statistics, printed = prepare(f"de-en={path}")
    (warning,) = statistics["de-en"]["warnings"]
    assert "--unquote" in warning and printed.count(f"warning: {warning}") == 1
    folder, statistics, _ = prepare(f"de-en={path}", "--unquote", out="unquoted")
    assert statistics["de-en"]["warnings"] == []
    assert lines_of(folder)["train.de-en.en"][0].startswith("x [UNK] y [UNK] ")
