"""Files that fuzzing found: each was read wrongly, refused wrongly, or ended in a traceback, and is not any more."""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

from ppa_fairseq import strict_json
from ppa_fairseq.data.bitext_reader import MAX_LINE

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import checkpoint_checks  # noqa: E402
import indexed_checks  # noqa: E402
import reader_checks  # noqa: E402
import reader_seeds  # noqa: E402
from reader_files import as_expected, tokenizer_texts  # noqa: E402


def test_a_repeated_key_among_many_is_found_at_once():
    """All keys were counted for each of them: of a file of answers, for hours."""
    keys = [*map(str, range(50_000)), "49999"]
    start = time.monotonic()
    with pytest.raises(ValueError, match="'49999' stands twice"):
        strict_json.loads("{" + ",".join(f'"{key}": 0' for key in keys) + "}")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("kind", ["single", "pair"])
def test_a_template_of_a_symbol_that_is_not_there_is_told(kind):
    """Found by such a file: the library panics at the first sentence."""
    content = dict(reader_seeds.tokenizer_seeds())["tokenizer.json"].decode()
    layout = json.loads(content)
    layout["post_processor"][kind][-1]["SpecialToken"]["id"] = "_SEP]"
    assert reader_checks.check_tokenizer("tokenizer.json", content.encode())
    assert not reader_checks.check_tokenizer("tokenizer.json", json.dumps(layout).encode())


def test_a_sign_that_no_terminal_shows_is_escaped():
    """Found by such a file: the library's message repeats it."""
    content = dict(reader_seeds.tokenizer_seeds())["tokenizer.json"]
    assert not reader_checks.check_tokenizer("tokenizer.json", content.replace(b'"1.0"', '"\u200b1.0"'.encode()))


def test_an_unknown_symbol_that_is_not_there_is_told():
    """Found by such a file: the library raises at the first unknown word."""
    content = dict(reader_seeds.tokenizer_seeds())["tokenizer.json"]
    assert content.count(b'"unk_token":"[UNK]"') == 1
    changed = content.replace(b'"unk_token":"[UNK]"', b'"unk_token":"[UNK"')
    assert not reader_checks.check_tokenizer("tokenizer.json", changed)


def test_a_long_symbol_is_cut_in_the_message():
    """Found by such a file: vocab.txt and tokenizer.json disagree about it."""
    content = dict(reader_seeds.tokenizer_seeds())["tokenizer.json"]
    assert not reader_checks.check_tokenizer("tokenizer.json", content.replace(b'"a"', b'"%s"' % (b"a" * 2000)))


DAMAGED_TABLES = [b"\0", b"\xff" * 100, b"\x04\0\0\0abcdxyz", b"\x08\0\0\0" + b"\xff" * 8 + b"a\0"]


@pytest.mark.parametrize("table", DAMAGED_TABLES)
def test_a_damaged_table_of_characters_is_told(table):
    """Found by such files: the library raises a bare Exception, or panics at the first text with such a character."""
    from sentencepiece import sentencepiece_model_pb2

    name, content = reader_seeds.tokenizer_seeds()[-1]
    model = sentencepiece_model_pb2.ModelProto.FromString(content)
    assert model.normalizer_spec.precompiled_charsmap
    model.normalizer_spec.precompiled_charsmap = table
    assert not reader_checks.check_tokenizer(name, model.SerializeToString())


def replaced(old: bytes, new: bytes):
    def edited(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return edited


def split_unevenly(content: bytes) -> bytes:
    sizes, starts = np.array([1, 3], np.int32), np.array([0, 2], np.int64)
    return content[:26] + sizes.tobytes() + starts.tobytes()


def typed(code: int):
    """An .idx whose ids are of another of fairseq's types."""
    return lambda content: content[:17] + bytes([code]) + content[18:]


FOUND_TEXTS = [
    ("lines", "text.txt", lambda content: b"a" * MAX_LINE + b"\r\n", True),  # the line's end counted as part of it
    ("lines", "text.txt", lambda content: b"a" * MAX_LINE + b"\r and what was lost", False),  # cut off at the \r
    ("gold", "gold.txt", replaced(b"2-1", b"x" * 5000), False),  # stood whole in the message
    ("gold", "gold.txt", replaced(b"2-1", b"2-1 " * 10_000), False),  # of a longer file, links were cut off
    *(("indexed", "pairs+train.de-en.de.idx", typed(code), False) for code in (1, 4, 6, 10, 99)),  # rows beside .bin
    ("indexed", "pairs+train.de-en.de.idx", lambda content: content[:26] + bytes(36), False),  # a .bin in no row
    ("indexed", "qa+en+train.answer.idx", split_unevenly, False),  # an answer of one id, one of three
    ("indexed", "qa+en+train.ids.txt", replaced(b"q1", b"q\r1"), True),  # became two ids
    *(("indexed", "qa+qa.json", replaced(b"384", size), False) for size in (b"1e999", b"384.5", b"[" * 3000, b'"8"')),
    ("checkpoint", "data.pkl", replaced(b"ccollections\n", b"c" + b"9" * 5000 + b"\n"), False),
    ("checkpoint", "training.pt", replaced(b"data/3", b"data/z"), False),  # its weights were read all the same
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "edited", "sound"), FOUND_TEXTS)
def test_what_such_files_found(name, file, edited, sound):
    reader = reader_checks.READERS[name]
    assert reader.check(file, edited(dict(reader.seeds())[file])) == sound


HUGE_NUMBER = 10**600  # no float; a pickle that torch reads has none beyond 255 bytes
CONTENTS = {
    "a tokenizer of another model": (
        {"task_state": {"tokenizer": {"vocab.txt": f"{tokenizer_texts()['vocab.txt']}more\n"}}},
        False,
    ),
    "a long name": ({"model": {"encoder." + "x" * 5000: torch.zeros(1)}}, False),
    "a task that is none": ({"cfg": {"task": "abc"}}, False),
    "a value in words": ({"extra_state": {"val_loss": "high"}}, True),
    "a value beyond floats": ({"extra_state": {"val_loss": HUGE_NUMBER, "best": float("nan")}}, True),
    "languages on two lines": ({"cfg": {"task": {"train_langs": "en\n\x1b[31m"}}}, True),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_what_is_odd_in_a_checkpoint(case, tmp_path):
    changes, sound = CONTENTS[case]
    content = dict(reader_seeds.checkpoint_contents()["training.pt"])
    for part, values in changes.items():
        content[part] = content[part] | values
    torch.save(content, tmp_path / "c.pt")
    assert checkpoint_checks.check_checkpoint("training.pt", (tmp_path / "c.pt").read_bytes()) == sound


@pytest.mark.parametrize(("answer", "sound"), [([[0, 2], [1, 1]], True), ([[0, 2], [-1, 1]], False)])
def test_ids_of_other_types(tmp_path, answer, sound):
    """fairseq has written several; labels were read as if there was one, and no span can begin before its context."""
    shutil.copytree(reader_seeds.data_folder(), tmp_path / "data")
    for name, rows in (("nli/en/label/train", [[6, 2], [4, 2]]), ("qa/en/train.answer", answer)):
        builder = MMapIndexedDatasetBuilder(f"{tmp_path}/data/{name}.bin", dtype=np.int64)
        for row in rows:
            builder.add_item(torch.tensor(row))
        builder.finalize(f"{tmp_path}/data/{name}.idx")
    assert as_expected(*indexed_checks.nli_rows(tmp_path / "data"))
    assert as_expected(*indexed_checks.qa_rows(tmp_path / "data")) == sound
