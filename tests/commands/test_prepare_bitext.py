"""Every line read is kept or dropped for a counted reason; the text written is the tokenizer's own."""

import errno
import gzip
import json
import lzma
import os
import random
import re
import signal
import string
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppa_fairseq.checkpoints import tokenizer
from ppa_fairseq.commands import main as cli
from ppa_fairseq.commands import prepare_bitext
from ppa_fairseq.data.bitext import reader as bitext_reader
from ppa_fairseq.data.bitext import writer as bitext_writer
from ppa_fairseq.data.bitext.encoder import PairEncoder
from ppa_fairseq.data.bitext.filters import LengthLimits, SeenPairs, is_valid, read_batches
from ppa_fairseq.data.bitext.reader import BYTE_ORDER_MARK, MAX_LINE, UTF16_MARKS, parse_bitext
from ppa_fairseq.data.bitext.writer import PairWriter
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.utils.errors import InputError

# One WordPiece a letter, so that a text's length in WordPieces is its number of letters.
LETTERS = string.ascii_letters + string.digits + ".,"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
TOKENIZER = {"vocab.txt": "\n".join(VOCABULARY) + "\n", "tokenizer_config.json": '{"do_lower_case": false}'}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tokenizer.write_files(TOKENIZER, folder)
    return folder


@pytest.fixture
def prepare(base, tmp_path, capsys):
    """``prepare("de-en=…", "--shards", "2")``: run the command; its output folder, statistics and table."""

    def run(*arguments, out="text", status=0):
        folder = tmp_path / out
        command = ["prepare-bitext", "--tokenizer", str(base), "--out", str(folder)]
        command += ["--workers", "1", "--valid-share", "0.2"]
        found = cli.main([*command, *map(str, arguments)])
        printed = capsys.readouterr()
        assert found == status, printed.err
        if status:
            return printed.err.splitlines()[-1]
        return folder, json.loads((folder / "statistics.json").read_text()), printed.out

    return run


def words(seed, count):
    """*count* sentences of 10 to 40 letters in words."""
    draw = random.Random(seed)
    return [" ".join("".join(draw.choices("abcdefgh", k=draw.randint(2, 8))) for _ in range(5)) for _ in range(count)]


def write_tsv(path, *columns):
    path.write_text("".join("\t".join(row) + "\n" for row in zip(*columns, strict=True)))
    return path


def lines_of(folder, name="*"):
    return {path.name: path.read_text().splitlines() for path in sorted(folder.glob(f"*.{name}.*"))}


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    kept = [
        b"ein guter satz\ta good sentence",
        f"{LONG}\t{LONG[1:]}b".encode(),
        b"zehn lang x.\tten long xyz\r",
    ]
    path = tmp_path / "corpus.tsv"
    path.write_bytes(b"\n".join([*kept, *(line for line, _ in REASONS), b"der letzte satz\tthe last one .."]))
    folder, statistics, printed = prepare(f"de-en={path}", "--valid-share", 0)
    counts = statistics["de-en"]
    assert counts["dropped"] == dict(Counter(reason for _, reason in REASONS))
    assert (counts["read"], counts["train"], counts["valid"]) == (4 + len(REASONS), 4, 0)
    assert set(lines_of(folder)) == {"train.de-en.de", "train.de-en.en"}
    assert [line.replace(" ##", "") for line in lines_of(folder)["train.de-en.de"]] == [
        "ein guter satz",
        "a" * 64,
        "zehn lang x .",
        "der letzte satz",
    ]
    assert counts["broken_lines"]["columns"] == [
        f"{path}:4: 1 columns, not 2",
        f"{path}:5: 3 columns, not 2",
    ]
    assert counts["broken_lines"]["encoding"] == [f"{path}:6: not UTF-8", f"{path}:7: not UTF-8"]
    head, row, *_ = printed.splitlines()
    assert row.split()[:4] == ["de-en", "21", "4", "0"]
    table = dict(zip(head.split()[4:-1], map(int, row.split()[4:-1]), strict=True))
    assert table == counts["dropped"]
    assert f"{path}:4: 1 columns, not 2" in printed


def test_limits_are_flags_and_count_word_pieces_alone(prepare, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", ["abc", "ab", "abcd"], ["xyz", "xyz", "xyz"])
    for limits, kept in ((("3", "6"), ["a ##b ##c"]), (("2", "7"), ["a ##b ##c", "a ##b", "a ##b ##c ##d"])):
        folder, _, _ = prepare(
            f"de-en={path}", "--min-tokens", limits[0], "--max-tokens", limits[1], "--valid-share", 0
        )
        assert lines_of(folder)["train.de-en.de"] == kept


def test_columns_name_the_languages(prepare, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", words(1, 50), words(2, 50), ["source"] * 50)
    two = write_tsv(tmp_path / "b.tsv", words(2, 50), words(1, 50))
    folder, _, _ = prepare(f"de-en={path}", "--columns", "2,1")
    swapped, _, _ = prepare(f"de-en={two}", out="other")
    assert lines_of(folder) == lines_of(swapped)
    assert [line.replace(" ##", "") for line in lines_of(folder)["train.de-en.de"]][0] in words(2, 50)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_packed_files_and_two_files_give_what_a_plain_tsv_gives(prepare, tmp_path, suffix):
    german, english = words(1, 300), words(2, 300)
    plain = write_tsv(tmp_path / "a.tsv", german, english)
    expected = lines_of(prepare(f"de-en={plain}")[0])
    pack = {".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    packed = tmp_path / f"b.tsv{suffix}"
    packed.write_bytes(pack(plain.read_bytes()))
    (tmp_path / "c.de").write_bytes("\ufeff".encode() + "\r\n".join(german).encode())
    (tmp_path / f"c.en{suffix}").write_bytes(pack("\n".join(english).encode()))
    assert lines_of(prepare(f"de-en={packed}", out="packed")[0]) == expected
    assert lines_of(prepare(f"de-en={tmp_path / 'c.de'},{tmp_path / 'c.en'}{suffix}", out="two")[0]) == expected


def test_files_of_a_pair_follow_one_another(prepare, tmp_path):
    german, english = words(1, 90), words(2, 90)
    parts = [write_tsv(tmp_path / f"{i}.tsv", german[i : i + 30], english[i : i + 30]) for i in (0, 30, 60)]
    for language, side in (("de", german), ("en", english)):
        (tmp_path / f"middle.{language}").write_text("\n".join(side[30:60]))
    whole = write_tsv(tmp_path / "whole.tsv", german, english)
    mixed = f"de-en={parts[0]},{tmp_path / 'middle.de'},{tmp_path / 'middle.en'},{parts[2]}"
    assert lines_of(prepare(mixed, out="mixed")[0]) == lines_of(prepare(f"de-en={whole}")[0])


def test_two_workers_write_what_one_writes(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_bitext, "BATCH", 20)
    german, english = words(1, 500) + words(1, 100), words(2, 500) + words(2, 100)
    path = write_tsv(tmp_path / "a.tsv", german, english)
    pairs = [f"de-en={path}", f"fr-en={path}"]
    one, _, _ = prepare(*pairs)
    two, statistics, _ = prepare(*pairs, "--workers", "2", out="two")
    assert statistics["de-en"]["dropped"]["duplicate"] == 100
    assert tree(one) == tree(two)


def test_the_first_n_training_pairs_are_kept_and_no_more_is_read(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_bitext, "BATCH", 20)
    path = write_tsv(tmp_path / "a.tsv", words(1, 400), words(2, 400))
    everything, _, _ = prepare(f"de-en={path}")
    for workers in (1, 2):
        some, statistics, _ = prepare(
            *(f"de-en={path}", "--max-train", 50, "--workers", workers),
            out=f"by{workers}",
        )
        assert lines_of(some)["train.de-en.en"] == lines_of(everything)["train.de-en.en"][:50]
        counts = statistics["de-en"]
        assert counts["dropped"]["spare train"] > 0
        assert counts["read"] == 80 == counts["train"] + counts["valid"] + sum(counts["dropped"].values())
    assert tree(tmp_path / "by1") == tree(tmp_path / "by2")


def test_validation_is_bounded_and_its_rest_not_trained_on(prepare, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", words(1, 400), words(2, 400))
    everything, _, _ = prepare(f"de-en={path}")
    few, statistics, _ = prepare(f"de-en={path}", "--max-valid", 7, out="few")
    before, after = lines_of(everything), lines_of(few)
    assert after["valid.de-en.de"] == before["valid.de-en.de"][:7]
    assert after["train.de-en.de"] == before["train.de-en.de"]
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
    german = words(1, 300)
    one = write_tsv(tmp_path / "a.tsv", german, words(2, 300))
    other = write_tsv(tmp_path / "b.tsv", german, words(3, 300))
    folder, _, _ = prepare(f"de-fr={one}", f"de-es={other}")
    found = lines_of(folder)
    assert found["valid.de-fr.de"] == found["valid.de-es.de"]


def test_the_split_is_stable_and_of_the_size_asked_for():
    sentences = words(5, 20_000)
    share = sum(is_valid(sentence, 0.1) for sentence in sentences) / len(sentences)
    assert abs(share - 0.1) < 0.01
    # These may never change: prepared validation sets rely on them.
    held_out = [is_valid(sentence, 0.5) for sentence in ("Hello, world!", "hello world", "Ein Satz.", "你好。", "नमस्ते")]
    assert held_out == [True, True, True, False, True]
    assert not any(is_valid(sentence, 0.0) for sentence in sentences)


def test_shards_hold_the_same_pairs(prepare, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", words(1, 300), words(2, 300))
    whole = lines_of(prepare(f"de-en={path}")[0])
    folder, _, _ = prepare(f"de-en={path}", "--shards", "3", out="shards")
    shards = [lines_of(folder / f"shard{i}") for i in range(3)]
    for language in ("de", "en"):
        name = f"train.de-en.{language}"
        assert all(whole[name][i::3] == shards[i][name] for i in range(3))
        assert shards[0][f"valid.de-en.{language}"] == whole[f"valid.de-en.{language}"]
        assert f"valid.de-en.{language}" not in shards[1]


def test_statistics_count_the_text_written(prepare, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", [f"{sentence} ?" for sentence in words(1, 100)], words(2, 100))
    folder, statistics, printed = prepare(f"de-en={path}")
    found = lines_of(folder)
    for language in ("de", "en"):
        symbols = [
            s for split in ("train", "valid") for line in found[f"{split}.de-en.{language}"] for s in line.split()
        ]
        assert statistics["de-en"]["tokens"][language] == len(symbols)
        assert statistics["de-en"]["unknown"][language] == symbols.count("[UNK]") == (100 if language == "de" else 0)
    assert printed.splitlines()[1].endswith(f"{100 / sum(statistics['de-en']['tokens'].values()):.2%}")


def test_the_vocabulary_lies_beside_the_text(prepare, base, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", words(1, 100), words(2, 100))
    folder, _, _ = prepare(f"de-en={path}")
    assert (folder / "dict.txt").read_text() == "".join(f"{symbol} 1\n" for symbol in VOCABULARY)
    assert tokenizer.read_files(folder) == tokenizer.read_files(base)


def test_ids_are_the_tokenizers_in_fifteen_languages(shared_data, tmp_path):
    from ppa_fairseq.data.dictionary import WordPieceDictionary

    folder = tmp_path / "mbert"
    folder.mkdir()
    texts = {
        "vocab.txt": shared_data("mbert-vocab").read_text(),
        "tokenizer_config.json": '{"do_lower_case": false}',
    }
    tokenizer.write_files(texts, folder)
    sets = {path.stem[-2:]: path for path in sorted(shared_data("xnli-dev").glob("dev-*.tsv"))}
    assert len(sets) == 15
    english = [line.split("\t")[1] for line in sets["en"].read_text().split("\n")[:300]]
    arguments = []
    for language in set(sets) - {"en"}:
        other = [line.split("\t")[1] for line in sets[language].read_text().split("\n")[:300]]
        path = write_tsv(tmp_path / f"{language}.tsv", other, english)
        arguments.append(f"{language}-en={path}")
    limits = ["--min-tokens", "1", "--max-tokens", "100000", "--valid-share", "0"]
    command = ["prepare-bitext", "--tokenizer", str(folder), "--out", str(tmp_path / "text")]
    assert cli.main([*command, *limits, *arguments]) == 0
    dictionary = WordPieceDictionary.load(str(tmp_path / "text" / "dict.txt"))
    oracle = tokenizer.ModelTokenizer(tokenizer.read_files(folder), "mbert").backend
    checked = 0
    for language in set(sets) - {"en"}:
        rows = [line.split("\t") for line in (tmp_path / f"{language}.tsv").read_text().split("\n")[:-1]]
        rows = [row for row in dict.fromkeys(map(tuple, rows)) if row[0] != row[1] and "\ufffd" not in "".join(row)]
        for side, code in enumerate((language, "en")):
            lines = (tmp_path / "text" / f"train.{language}-en.{code}").read_text().split("\n")[:-1]
            assert len(lines) == len(rows) > 280
            for line, row in zip(lines, rows, strict=True):
                expected = oracle.encode(row[side]).ids  # [CLS] ... [SEP]
                assert dictionary.encode_line(line, add_if_not_exist=False).tolist() == expected[1:]
                checked += len(expected)
    assert checked > 100_000


# Bytes, whole lines among them: what is read must always be kept or dropped.
LINES = st.lists(
    st.binary(max_size=30)
    | st.sampled_from([b"ein guter satz\ta good sentence", b"", b"a\tb", b"\t", b"abc\tabd\r", b"\r", b"\xef\xbb\xbf"])
    | st.builds(lambda a, b: f"{a}\t{b}".encode(), st.text(LETTERS[:4], max_size=9), st.text(max_size=9)),
    max_size=40,
)


def process(bitext, folder, size):
    """The command's work for one pair without processes."""
    encoder = PairEncoder(TOKENIZER, "tokenizer", LengthLimits(2, 12), 0.3)
    with PairWriter([folder], bitext.name, {"train": None, "valid": 3}, 0.3, "[UNK]") as writer:
        for batch in read_batches(bitext.rows((0, 1)), size, pivot_side=1):
            writer.write(batch, encoder.encode(batch))
    return writer.counts


def is_utf16(lines: list[bytes]) -> bool:
    return b"\n".join(lines).removeprefix(BYTE_ORDER_MARK).startswith(UTF16_MARKS)


@given(LINES, st.sampled_from([1, 3, 1000]), st.sampled_from([5, 1 << 20]))
@settings(deadline=None)
def test_any_tsv_is_read_to_its_last_line(tmp_path_factory, lines, size, block):
    folder = tmp_path_factory.mktemp("any")
    content = b"\n".join(lines)
    (folder / "a.tsv").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitext_reader, "BLOCK", block)
        try:
            counts = process(parse_bitext(f"de-en={folder / 'a.tsv'}"), folder, size)
        except InputError as error:
            if is_utf16(lines):
                assert "is UTF-16, not UTF-8" in str(error)
            else:
                assert "its lines have 1 columns, no column 2" in str(error)
            return
    without_mark = content.removeprefix(b"\xef\xbb\xbf") if block > 3 else content
    assert counts.read == without_mark.count(b"\n") + (not without_mark.endswith(b"\n") and without_mark != b"")
    assert counts.read == counts.train + counts.valid + sum(counts.dropped.values())
    for split, count in (("train", counts.train), ("valid", counts.valid)):
        for language in ("de", "en"):
            assert (folder / f"{split}.de-en.{language}").read_bytes().count(b"\n") == count


@given(*[LINES.filter(lambda lines: not is_utf16(lines))] * 2)
@settings(deadline=None)
def test_any_two_files_are_read_to_their_last_line_or_found_unequal(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("any")
    numbers = []
    for language, lines in (("de", first), ("en", second)):
        content = b"\n".join(lines)
        (folder / f"a.{language}").write_bytes(content)
        content = content.removeprefix(b"\xef\xbb\xbf")
        numbers.append(content.count(b"\n") + (not content.endswith(b"\n") and content != b""))
    bitext = parse_bitext(f"de-en={folder / 'a.de'},{folder / 'a.en'}")
    if numbers[0] == numbers[1]:
        counts = process(bitext, folder, 7)
        assert counts.read == numbers[0] == counts.train + counts.valid + sum(counts.dropped.values())
    else:
        with pytest.raises(InputError) as caught:
            process(bitext, folder, 7)
        for language, number in zip(("de", "en"), numbers, strict=True):
            assert f"a.{language} has {number}" in str(caught.value)


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


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_line_without_end_is_not_kept_in_memory(tmp_path, monkeypatch, ending, pack):
    monkeypatch.setattr(bitext_reader, "BLOCK", 1000)
    path = tmp_path / f"a.tsv{ending}"
    path.write_bytes(pack(b"ein guter satz\ta good sentence\n" + b"x" * 10 * MAX_LINE))
    reader = bitext_reader.LineReader(path)
    assert max(map(len, reader)) <= MAX_LINE + 1000


def double(number):
    return 2 * number


def die(_):
    os._exit(1)


def test_the_pool_keeps_order_and_reads_no_further_ahead_than_told():
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    with OrderedPool(2, double) as pool:
        for place, (item, result) in enumerate(pool.map(items())):
            assert (item, result) == (place, 2 * place)
            assert len(taken) <= place + 6
        assert place == 39
        assert list(pool.map([5, 6])) == [(5, 10), (6, 12)]


def test_the_pool_goes_on_after_a_result_is_left_unread():
    with OrderedPool(2, double) as pool:
        for number in range(20):
            assert next(pool.map([number, 7, 8])) == (number, 2 * number)


# Larger than a pipe takes at once, which is where the standard library's pools are stuck.
@pytest.mark.parametrize("item", ["x", "x" * 10_000_000])
def test_a_killed_worker_is_told_and_not_waited_for(item):
    with OrderedPool(2, die) as pool, pytest.raises(InputError, match="a worker process was killed"):
        list(pool.map([item] * 9))


def test_an_error_of_the_task_is_raised_here():
    with OrderedPool(1, double) as pool, pytest.raises(TypeError, match="NoneType"):
        list(pool.map([1, None]))


def test_ctrl_c_ends_the_command_at_once(base, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", words(1, 200) * 2000, words(2, 200) * 2000)
    command = [sys.executable, "-m", "ppa_fairseq.commands.main", "prepare-bitext", "--tokenizer", base]
    command += ["--out", tmp_path / "text", f"de-en={path}"]
    process = subprocess.Popen(
        command,
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


def test_an_earlier_run_is_replaced_but_nothing_else(prepare, tmp_path):
    one, two = (write_tsv(tmp_path / f"{i}.tsv", words(i, 200), words(9, 200)) for i in (1, 2))
    prepare(f"de-en={one}")
    folder, _, _ = prepare(f"fr-en={two}")
    assert not list(folder.glob("*de-en*"))
    (folder / "thesis.tex").write_text("years of work")
    assert "holds files that are no earlier prepared text" in prepare(f"fr-en={two}", status=1)
    assert (folder / "thesis.tex").exists()


@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_leaves_no_half_output(prepare, tmp_path, monkeypatch, earlier):
    path = write_tsv(tmp_path / "a.tsv", words(1, 200), words(2, 200))
    if earlier:
        prepare(f"de-en={path}")
    before = tree(tmp_path)
    monkeypatch.setattr(bitext_writer, "open", lambda _, *rest, **more: open("/dev/full", *rest, **more), raising=False)
    assert os.strerror(errno.ENOSPC) in prepare(f"de-en={path}", status=1)
    assert tree(tmp_path) == before
    assert not [folder for folder in tmp_path.iterdir() if folder.name.endswith((".tmp", ".old"))]


@pytest.fixture
def corpus(tmp_path):
    """A folder of good and bad files."""
    write_tsv(tmp_path / "good.tsv", words(1, 200), words(2, 200))
    write_tsv(tmp_path / "short.tsv", ["a", "b"], ["c", "d"])
    (tmp_path / "empty.tsv").touch()
    (tmp_path / "one.tsv").write_text("no tab here\n")
    (tmp_path / "a.de").write_text("eins\nzwei\ndrei\n")
    (tmp_path / "a.en").write_text("one\ntwo\n")
    (tmp_path / "a.tsv.bz2").write_text("")
    (tmp_path / "fake.tsv.gz").write_text("plain\ttext\n")
    (tmp_path / "fake.tsv.xz").write_text("plain\ttext\n")
    (tmp_path / "cut.tsv.gz").write_bytes(gzip.compress((tmp_path / "good.tsv").read_bytes())[:-9])
    (tmp_path / "cut.tsv.xz").write_bytes(lzma.compress((tmp_path / "good.tsv").read_bytes())[:-9])
    (tmp_path / "folder.tsv").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["de-en=none.tsv"], "none.tsv: no such file; de-en needs a text file"),
        (["de-en=folder.tsv"], "folder.tsv: is a folder"),
        (["de-en"], "de-en: expected LANGUAGES=FILE"),
        (["de-en="], "de-en=: expected LANGUAGES=FILE"),
        (["deen=good.tsv"], "deen: expected two different language codes"),
        (["en-en=good.tsv"], "en-en: expected two different language codes"),
        (["de-en-fr=good.tsv"], "de-en-fr: expected two different language codes"),
        (["../x-en=good.tsv"], "../x-en: expected two different language codes"),
        (["de-en=a.tsv.bz2"], "a.tsv.bz2: cannot read .bz2"),
        (["de-en=a.de"], "a.de: de-en lacks its translation"),
        (["de-en=a.de,good.tsv"], "a.de: de-en lacks its translation"),
        (["de-en=a.de,a.en"], "a.de has 3 lines but {corpus}/a.en has 2"),
        (["en-de=a.en,a.de"], "a.de has 3 lines but {corpus}/a.en has 2"),
        (["de-en=good.tsv", "de-en=short.tsv"], "de-en and de-en name the same language pair"),
        (["de-en=good.tsv", "en-de=short.tsv"], "de-en and en-de name the same language pair"),
        (["de-en=one.tsv"], "one.tsv: its lines have 1 columns, no column 2"),
        (["de-en=good.tsv", "--columns", "2,3"], "good.tsv: its lines have 2 columns, no column 3"),
        (["de-en=empty.tsv"], "de-en: 0 pairs for training of 0 read, too few (dropped: none)"),
        (["de-en=short.tsv"], "de-en: 0 pairs for training of 2 read, too few (dropped: short 2)"),
        (
            ["de-en=good.tsv", "--valid-share", "0.0001"],
            "de-en: none of 200 pairs fell into the validation split",
        ),
        (["de-en=good.tsv", "--shards", "300"], "pairs for training of 200 read, too few"),
        (["de-en=fake.tsv.gz"], "fake.tsv.gz: truncated or damaged"),
        (["de-en=fake.tsv.xz"], "fake.tsv.xz: truncated or damaged"),
        (["de-en=cut.tsv.gz"], "cut.tsv.gz: truncated or damaged"),
        (["de-en=cut.tsv.xz"], "cut.tsv.xz: truncated or damaged"),
        (["de-en=good.tsv", "--min-tokens", "0"], "--min-tokens 0: must be at least 1"),
        (["de-en=good.tsv", "--workers", "0"], "--workers 0: must be at least 1"),
        (["de-en=good.tsv", "--valid-share", "1"], "--valid-share 1.0: must be from 0 to under 1"),
        (["de-en=good.tsv", "--valid-share", "nan"], "--valid-share nan: must be from 0 to under 1"),
        (["de-en=good.tsv", "--columns", "2"], "--columns 2: expected two different numbers"),
        (["de-en=good.tsv", "--columns", "0,1"], "--columns 0,1: columns are counted from 1"),
        (["de-en=good.tsv", "--columns", "1,1"], "--columns 1,1: expected two different numbers"),
        (["de-en=good.tsv", "--tokenizer", "folder.tsv"], "folder.tsv: has no tokenizer"),
    ],
)
def test_bad_input_is_told_in_one_line(prepare, corpus, monkeypatch, arguments, message):
    monkeypatch.chdir(corpus)
    message = message.replace("{corpus}/", "")
    assert message in prepare(*arguments, status=1)
    assert not (corpus / "text").exists()
    assert not list(corpus.glob(".text*"))


def test_a_token_with_white_space_stays_one(prepare, tmp_path):
    from ppa_fairseq.data.dictionary import WordPieceDictionary

    built = tokenizer.ModelTokenizer(TOKENIZER, "tokenizer").backend
    built.add_tokens(["New York"])
    folder = tmp_path / "spaced"
    folder.mkdir()
    built.save(str(folder / "tokenizer.json"))
    sentence = "abc New York fed abc def abc"
    path = write_tsv(tmp_path / "a.tsv", [sentence] * 20, words(2, 20))
    text, _, _ = prepare(f"de-en={path}", "--tokenizer", folder, "--valid-share", "0")
    dictionary = WordPieceDictionary.load(str(text / "dict.txt"))
    ids = built.encode(sentence, add_special_tokens=False).ids
    assert built.token_to_id("New York") in ids
    line = (text / "train.de-en.de").read_text().splitlines()[0]
    assert dictionary.encode_line(line, append_eos=False).tolist() == ids
