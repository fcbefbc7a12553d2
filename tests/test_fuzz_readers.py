"""Files edited at random: a reader takes them whole, or refuses them in one line; scripts/fuzz_readers.py goes on."""

import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ppa_fairseq.errors import InputError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import checkpoint_checks  # noqa: E402
import indexed_checks  # noqa: E402
import line_checks  # noqa: E402
import reader_checks  # noqa: E402
import reader_seeds  # noqa: E402
from fuzz_readers import NAMES, edit  # noqa: E402


def check(name: str, seed: int = 0) -> bool:
    """Whether a reader takes one of its sound files."""
    reader = reader_checks.READERS[name]
    return reader.check(*reader.seeds()[seed])


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
    def one_file(sound: tuple[str, bytes], rng: Random) -> None:
        reader.check(sound[0], edit(rng, sound[1]))

    one_file()


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


@pytest.mark.parametrize("place", ["text_lines", "read_pairs", "word_pairs", "read_gold"])
def test_a_check_notices_lost_lines(place, monkeypatch):
    """Of a text, a set of pairs, a parallel text and a gold standard: the last line, or the last link."""
    found = getattr(line_checks, place)
    lossy = {
        "text_lines": ("lines", 0, lambda path: list(found(path))[:-1]),
        "read_pairs": ("lines", -1, lambda *pairs: [side[:-1] for side in found(*pairs)]),
        "word_pairs": ("words", 0, lambda path: [(source, target[:1]) for source, target in found(path)]),
        "read_gold": (
            "gold",
            0,
            lambda *gold: [replace(one, sure=frozenset(list(one.sure)[1:])) for one in found(*gold)],
        ),
    }
    name, seed, reader = lossy[place]
    monkeypatch.setattr(line_checks, place, reader)
    with pytest.raises(AssertionError, match="not what the file holds"):
        check(name, seed)


@pytest.mark.parametrize("fault", ["refuses what is sound", "reads what is not"])
def test_a_check_notices_a_reader_that_judges_wrongly(fault, monkeypatch):
    def wrong(path):
        if fault.startswith("reads"):
            return ["a"]
        raise InputError("no")

    monkeypatch.setattr(line_checks, "text_lines", wrong)
    content = b"" if fault.startswith("reads") else b"a\n"
    with pytest.raises(AssertionError, match="should not have been" if not content else "a sound file refused"):
        line_checks.check_lines("text.txt", content)


@pytest.mark.parametrize(
    ("place", "file", "changed"),
    [
        ("load_corpora", "pairs+train.de-en.de.idx", lambda corpus: {"source": corpus.target}),
        ("load_nli", "nli+en+label+train.idx", lambda corpus: {"label": corpus.label[::-1]}),
        ("load_qa", "qa+en+train.answer.bin", lambda corpus: {"answer": corpus.answer + [0, 1]}),
    ],
)
def test_a_check_notices_what_binarized_data_do_not_hold(place, file, changed, monkeypatch):
    found = getattr(indexed_checks, place)

    def wrong(*arguments, **options):
        (corpus,) = found(*arguments, **options)
        return [replace(corpus, **changed(corpus))]

    monkeypatch.setattr(indexed_checks, place, wrong)
    with pytest.raises(AssertionError, match="not what the file holds"):
        indexed_checks.check_indexed(file, dict(reader_seeds.indexed_seeds())[file])


def test_a_check_notices_a_traceback_of_what_was_half_made(monkeypatch):
    class HalfMade:
        def __del__(self):
            raise ValueError

    monkeypatch.setattr(indexed_checks, "load_corpora", lambda *_, **__: HalfMade() and no_data())
    with pytest.raises(AssertionError, match="a traceback was printed"):
        indexed_checks.check_indexed("pairs+train.de-en.de.idx", b"")


def no_data():
    raise InputError("no data")


def take_more_than_ever():
    """What this process had at its highest, in tests before this one, would hide less."""
    now = checkpoint_checks.memory()
    torch.empty(now["VmPeak"] - now["VmSize"] + (1 << 30), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("place", "fault", "message"),
    [
        ("read", lambda found: found.state.popitem(), ""),
        ("read", lambda found: found.state["encoder.embed_tokens.weight"].neg_(), ""),
        ("read", lambda found: take_more_than_ever(), "more memory than"),
        ("load_encoder", lambda found: found[1].add_tokens(["one more"]), "ids that have no word embedding"),
    ],
)
def test_a_check_notices_what_is_wrong_with_a_checkpoint(place, fault, message, monkeypatch):
    sound = getattr(checkpoint_checks.checkpoint, place)

    def wrong(path):
        found = sound(path)
        fault(found)
        return found

    monkeypatch.setattr(checkpoint_checks.checkpoint, place, wrong)
    with pytest.raises(AssertionError, match=message):
        check("checkpoint")


def test_a_check_notices_code_that_is_run(monkeypatch):
    monkeypatch.setattr(
        torch, "load", lambda *a, load=torch.load, **options: load(*a, **options | {"weights_only": False})
    )
    with pytest.raises(AssertionError, match="a file's code was run"):
        check("checkpoint")


def test_a_check_notices_a_sound_checkpoint_that_is_refused(monkeypatch):
    monkeypatch.setattr(checkpoint_checks.checkpoint, "read", lambda path: no_data())
    for seed in range(len(reader_seeds.checkpoint_seeds())):
        with pytest.raises(AssertionError, match="a sound checkpoint refused"):
            check("checkpoint", seed)
