"""`ppa mine` from two files of sentences to pairs: against gold, after a kill, and with bad input."""

import os
import random
import signal
import subprocess
import sys

import pytest
import torch
from transformers import BertConfig, BertModel

from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.bitext.find_files import find_bitexts
from ppa_fairseq.evaluation.embedding import SentenceEmbedder
from ppa_fairseq.evaluation.mining import vectors

WORDS = [f"w{number}" for number in range(80)]
SIZES = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Two encoders, of which the embeddings decide: word w of German and W of English have nearly the same vector."""
    folders = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp(f"encoder{seed}")
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *map(str.upper, WORDS)]
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
        (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
        torch.manual_seed(seed)
        model = BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **SIZES))
        table = model.embeddings.word_embeddings.weight.data
        table[5:] = torch.randn(len(vocabulary) - 5, 16)
        table[5 + len(WORDS) :] = table[5 : 5 + len(WORDS)] + 0.1 * torch.randn(len(WORDS), 16)
        model.save_pretrained(folder)
        folders.append(folder)
    return folders


@pytest.fixture
def corpus(tmp_path):
    """x.de and x.en, with ids, in another order, each with sentences of its own; and their gold pairs."""
    return write_corpus(tmp_path, 120, 80)


def write_corpus(folder, shared, others):
    draw = random.Random(0)
    german = [" ".join(draw.choices(WORDS, k=draw.randint(4, 9))) for _ in range(shared + 2 * others)]
    english = [text.upper() for text in german[:shared] + german[shared + others :]]
    german = german[: shared + others]
    for language, texts in (("de", german), ("en", english)):
        lines = [f"{language}-{number}\t{text}\n" for number, text in enumerate(texts)]
        draw.shuffle(lines)
        (folder / f"x.{language}").write_text("".join(lines))
    (folder / "x.gold").write_text("".join(f"de-{number}\ten-{number}\n" for number in range(shared)))
    return folder


def command(corpus, encoder, *flags, output="out.tsv"):
    texts = f"de-en={corpus / 'x.de'},{corpus / 'x.en'}"
    output = ["--output", str(corpus / output), "--cpu", "--dtype", "float32"]  # in a process of its own, too
    return ["mine", texts, "--model", str(encoder), *output, *map(str, flags)]


def run(capsys, *arguments):
    status = cli.main(command(*arguments))
    return status, *capsys.readouterr()


def rows_of(path):
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_translations_are_mined_and_measured(corpus, encoders, capsys):
    status, printed, _ = run(capsys, corpus, encoders[0], "--gold", corpus / "x.gold")
    assert status == 0 and not (corpus / "out.tsv.work").exists()
    rows = rows_of(corpus / "out.tsv")
    right = sum(german.upper() == english for german, english, *_ in rows)
    assert right == sum(first[3:] == second[3:] and int(first[3:]) < 120 for *_, first, second in rows) > 100
    margins = [float(row[2]) for row in rows]
    assert margins == sorted(margins, reverse=True)
    assert len({row[0] for row in rows}) == len({row[1] for row in rows}) == len(rows)
    (line,) = (line for line in printed.splitlines() if line.startswith("| best F1"))
    best = [float(cell) for cell in line.split("|")[3:-1]]
    assert best[:2] == pytest.approx([100 * right / len(rows), 100 * right / 120], abs=0.06) and best[3] == len(rows)


def test_a_limit_cuts_the_list_and_its_output_is_bitext(corpus, encoders, capsys, tmp_path):
    assert run(capsys, corpus, encoders[0], "--min-margin", "0", "--work", tmp_path / "w")[0] == 0
    everything = rows_of(corpus / "out.tsv")
    limit = float(everything[40][2])
    status, printed, error = run(capsys, corpus, encoders[0], "--min-margin", limit, "--work", tmp_path / "w")
    assert status == 0 and "goes on from an earlier run" in error and "41 pairs" in printed
    assert rows_of(corpus / "out.tsv") == everything[:41]
    (tmp_path / "mined").mkdir()
    (corpus / "out.tsv").rename(tmp_path / "mined" / "de-en.tsv")
    (bitext,), _ = find_bitexts(tmp_path / "mined")
    assert [list(row[:2]) for row in bitext.rows(None, 2)] == [row[:2] for row in everything[:41]]
    assert [row.score for row in bitext.rows(None, 2)] == [row[2] for row in everything[:41]]


def test_ivfpq_mines_what_exact_search_mines(corpus, encoders, capsys):
    pytest.importorskip("faiss", reason="needs the extra mining")
    found = []
    for index in ("exact", "ivfpq"):
        assert run(capsys, corpus, encoders[0], "--index", index, "--min-margin", 0)[0] == 0
        found.append({tuple(row[:2]) for row in rows_of(corpus / "out.tsv")})
    assert len(found[0] & found[1]) > 0.98 * len(found[0])


def test_work_that_is_done_is_not_done_again(corpus, encoders, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "WINDOW", 50)
    assert run(capsys, corpus, encoders[0])[0] == 0
    expected = (corpus / "out.tsv").read_bytes()
    (corpus / "out.tsv").unlink()
    embedded, embed = [], SentenceEmbedder.__call__

    def embed_and_fail(self, sentences, *rest):
        embedded.append(len(sentences))
        if len(embedded) == 6:
            raise KeyboardInterrupt
        return embed(self, sentences, *rest)

    monkeypatch.setattr(SentenceEmbedder, "__call__", embed_and_fail)
    assert run(capsys, corpus, encoders[0])[0] == 130
    assert embedded == [50, 50, 50, 50, 50, 50] and not (corpus / "out.tsv").exists()
    assert run(capsys, corpus, encoders[0])[0] == 0
    assert embedded[6:] == [50, 50, 50]
    assert (corpus / "out.tsv").read_bytes() == expected


# Runs the command, and kills it while it embeds its third window.
KILLED = """import os, signal, sys
from ppa_fairseq.commands.main import main
from ppa_fairseq.evaluation.embedding import SentenceEmbedder
embed, calls = SentenceEmbedder.__call__, []
def embed_or_die(self, *arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return embed(self, *arguments)
SentenceEmbedder.__call__ = embed_or_die
main(sys.argv[1:])"""


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(encoders, capsys, tmp_path):
    write_corpus(tmp_path, 9000, 0)
    arguments = command(tmp_path, encoders[0], output="killed.tsv")
    environment = os.environ | {"TQDM_MININTERVAL": "0"}  # draws the bars at every step
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, env=environment
    )
    assert process.returncode == -signal.SIGKILL, process.stderr[-600:]
    assert not (tmp_path / "killed.tsv").exists()
    part = tmp_path / "killed.tsv.work" / "de.vectors"
    before = part.read_bytes()
    assert len(before) == 2 * vectors.WINDOW * 16 * 4
    assert run_again(capsys, tmp_path, encoders[0], "killed.tsv", "--work", part.parent) == 0
    assert part.read_bytes().startswith(before) and part.stat().st_size > len(before)
    assert run_again(capsys, tmp_path, encoders[0], "whole.tsv") == 0
    assert (tmp_path / "killed.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()


def run_again(capsys, folder, encoder, output, *flags):
    status = cli.main(command(folder, encoder, *flags, output=output))
    capsys.readouterr()
    return status


def test_vectors_of_another_model_or_text_are_refused(corpus, encoders, capsys, tmp_path):
    flags = "--work", tmp_path / "w"
    assert run(capsys, corpus, encoders[0], *flags)[0] == 0
    before = (corpus / "out.tsv").read_bytes()
    for other in ((corpus, encoders[1], *flags), (corpus, encoders[0], *flags, "--pooling", "cls")):
        status, _, error = run(capsys, *other)
        assert status == 1 and f"error: {tmp_path / 'w'}: holds vectors of another model; remove the folder" in error
    with open(corpus / "x.de", "a") as file:
        file.write("de-999\tw1 w2\n")
    assert "holds vectors of another text" in run(capsys, corpus, encoders[0], *flags)[2]
    assert (corpus / "out.tsv").read_bytes() == before


BAD = {
    "one file": (["de-en={}/x.de"], "1 files; give one of each language"),
    "no file": (["de-en={}/x.de,{}/no.en"], "no.en: no such file"),
    "no pair": (["{}/x.de,{}/x.en"], "expected LANGUAGES=FILE"),
    "empty": (["de-en={}/x.de,{}/empty"], "empty: no sentence in it"),
    "gold without ids": (["de-en={}/plain,{}/x.en", "--gold", "{}/x.gold"], "no sentence with the id de-0 in "),
    "no gold": (["de-en={}/x.de,{}/x.en", "--gold", "{}/none"], "none: "),
    "work": (["de-en={}/x.de,{}/x.en", "--work", "{}/full"], "full: is no folder of this command"),
    "layer": (["de-en={}/x.de,{}/x.en", "--layer", "9"], "--layer 9: no such layer"),
    "UTF-16": (["de-en={}/x.de,{}/utf16"], "utf16: is UTF-16"),
}


@pytest.mark.parametrize(("flags", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_no_output(corpus, encoders, capsys, flags, message):
    (corpus / "full").mkdir()
    (corpus / "full" / "thesis.txt").write_text("mine")
    (corpus / "empty").write_text("\n \n")
    (corpus / "plain").write_text("w1 w2\nw3\n")
    (corpus / "utf16").write_bytes("eins\n".encode("utf-16"))
    words = [flag.format(corpus, corpus) for flag in flags]
    output = ["--model", str(encoders[0]), "--output", str(corpus / "out.tsv"), "--cpu"]
    assert cli.main(["mine", *words, *output]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("ppa mine: error: ") and message in error
    assert not (corpus / "out.tsv").exists()
