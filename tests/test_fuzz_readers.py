"""Files edited at random: a reader takes them whole, or refuses them in one line; scripts/fuzz_readers.py goes on."""

import json
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import reader_checks  # noqa: E402
import reader_seeds  # noqa: E402
from fuzz_readers import NAMES, edit  # noqa: E402


@pytest.mark.parametrize("name", NAMES)
def test_sound_files_are_read(name):
    reader = reader_checks.READERS[name]
    assert all(reader.check(*file) for file in reader.seeds())


@pytest.mark.parametrize("name", NAMES)
def test_edited_files_are_read_whole_or_refused(name):
    reader = reader_checks.READERS[name]

    # Without shrinking: what is found is shown as the file that is left in the reader's folder.
    @settings(max_examples=40, derandomize=True, deadline=None, phases=[Phase.generate], database=None,
        suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.sampled_from(reader.seeds()), st.randoms(use_true_random=False))
    def check(sound: tuple[str, bytes], rng: Random) -> None:
        reader.check(sound[0], edit(rng, sound[1]))

    check()


@pytest.mark.parametrize("name", ["nli", "squad"])
def test_a_check_notices_what_is_lost(name, monkeypatch):
    """A reader that leaves out its last row is no reader that passes."""
    lossy = {
        "nli": ("NLIFile", lambda path, read=reader_checks.NLIFile: list(read(path))[:-1]),
        "squad": ("read_squad", lambda path, read=reader_checks.read_squad: read(path)[:-1]),
    }
    monkeypatch.setattr(reader_checks, *lossy[name])
    reader = reader_checks.READERS[name]
    with pytest.raises(AssertionError):
        reader.check(*reader.seeds()[0])


def test_a_check_notices_pairs_that_are_not_counted(monkeypatch):
    def lossy(rows, size, pivot_side, read=reader_checks.read_batches):
        for batch in read(rows, size, pivot_side):
            batch.pairs = batch.pairs[:-1]
            yield batch

    monkeypatch.setattr(reader_checks, "read_batches", lossy)
    with pytest.raises(AssertionError):
        reader_checks.check_bitext(*reader_seeds.bitext_seeds()[0])


def test_a_check_notices_a_message_that_no_terminal_should_show():
    for message in ("", "two\nlines", "\x1b[31mred", "x" * 5000):
        with pytest.raises(AssertionError):
            reader_checks.refused(reader_checks.InputError(message))


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
