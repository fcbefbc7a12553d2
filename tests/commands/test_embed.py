"""Sentence vectors against transformers; the order, the cutting and the file that `ppa embed` writes."""

import gzip
import re

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from ppa_fairseq.checkpoints.format import load_encoder
from ppa_fairseq.commands import embed
from ppa_fairseq.commands import main as cli
from ppa_fairseq.evaluation.embedding import SentenceEmbedder, choose_layers
from ppa_fairseq.utils.errors import InputError

WORDS = ["hund", "katze", "haus", "dog", "cat", "house", "a", "##s"]
SENTENCES = [" ".join((WORDS * 3)[i : i + 1 + 5 * i % 19]) for i in range(20)]
SIZES = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder: 3 layers × 16, 32 positions."""
    path = tmp_path_factory.mktemp("bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, initializer_range=0.3, **SIZES)
    BertModel(config).save_pretrained(path)
    return path


@torch.no_grad()
def transformers_vectors(folder, sentences, layer, pooling, max_length=32):
    """One sentence at a time, without padding: (N, C)."""
    model, tokenizer = BertModel.from_pretrained(folder).eval(), BertTokenizer(str(folder / "vocab.txt"))
    vectors = []
    for sentence in sentences:
        inputs = tokenizer(sentence, truncation=True, max_length=max_length, return_tensors="pt")
        hidden = model(**inputs, output_hidden_states=True).hidden_states[layer][0]  # (T, C)
        vectors.append(hidden[0] if pooling == "cls" else hidden.mean(0))
    return torch.stack(vectors)


@pytest.mark.parametrize(("batch_tokens", "passes"), [(1, 20), (60, 5), (10**6, 1)])
def test_every_layer_and_pooling_equals_transformers_in_any_batches(folder, batch_tokens, passes):
    encoder, tokenizer = load_encoder(folder)
    forwards, done = [], []
    encoder.register_forward_hook(lambda *_: forwards.append(1))
    poolings = ["cls", "mean"]
    embedder = SentenceEmbedder(encoder, tokenizer, [0, 2, 3], poolings, batch_tokens=batch_tokens, cpu=True)
    vectors = embedder(SENTENCES, done.append)
    assert (len(forwards), sum(done), embedder.truncated) == (passes, 20, 0)
    for pooling in poolings:
        assert vectors[pooling].shape == (3, 20, 16) and vectors[pooling].dtype == torch.float32
        for place, layer in enumerate([0, 2, 3]):
            expected = transformers_vectors(folder, SENTENCES, layer, pooling)
            torch.testing.assert_close(vectors[pooling][place], expected, atol=1e-5, rtol=0)


def test_equal_sentences_are_encoded_once_and_get_one_vector(folder, monkeypatch):
    embedder = SentenceEmbedder(*load_encoder(folder), [3], batch_tokens=1, cpu=True)
    encode, encoded, done = embedder.encode, [], []
    monkeypatch.setattr(embedder, "encode", lambda sequences: encoded.extend(sequences) or encode(sequences))
    distinct = list(dict.fromkeys(SENTENCES))
    vectors = embedder([*distinct, *distinct[::-1]], done.append)["mean"]
    assert len(encoded) == len(distinct) and sum(done) == 2 * len(distinct)
    assert torch.equal(vectors[:, : len(distinct)], vectors[:, len(distinct) :].flip(1))


@pytest.mark.parametrize(("max_length", "cut"), [(6, 2), (None, 1)])
def test_long_sentences_are_cut_as_transformers_cuts_and_counted(folder, max_length, cut):
    sentences = ["dog cat house", "dog cat house a dog", "cat", "dog " * 100]
    embedder = SentenceEmbedder(*load_encoder(folder), [3], max_length=max_length, cpu=True)
    expected = transformers_vectors(folder, sentences, 3, "mean", max_length or 32)
    torch.testing.assert_close(embedder(sentences)["mean"][0], expected, atol=1e-5, rtol=0)
    assert embedder.truncated == cut


def test_broken_weights_are_refused(folder):
    encoder, tokenizer = load_encoder(folder)
    with torch.no_grad():
        encoder.layers[1].fc1.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        SentenceEmbedder(encoder, tokenizer, [3], cpu=True)(SENTENCES)


def test_layers_are_chosen_by_name_or_number():
    assert [choose_layers(name, 2) for name in ("last", "all", "0")] == [[2], [0, 1, 2], [0]]
    for wrong in ("3", "-1", "first", "1.5", ""):
        with pytest.raises(InputError, match=r"no such layer; give last, all, or 0 \(the embeddings\) to 2"):
            choose_layers(wrong, 2)


def run_embed(folder, source, output, *flags) -> int:
    return cli.main(["embed", "--model", str(folder), "--input", str(source), "--output", str(output), *flags])


@pytest.mark.parametrize("window", [7, 1000])
def test_command_writes_one_row_a_line_in_order(folder, tmp_path, monkeypatch, capsys, window):
    monkeypatch.setattr(embed, "WINDOW", window)
    source, output = tmp_path / "sentences.gz", tmp_path / "new" / "vectors.npy"
    source.write_bytes(gzip.compress(("\n".join(SENTENCES) + "\n").encode()))
    for layer in ("1", "2"):  # the earlier vectors are replaced
        assert run_embed(folder, source, output, "--layer", layer, "--pooling", "cls", "--max-length", "10") == 0
    vectors = np.load(output)
    assert vectors.dtype == np.float32 and vectors.shape == (20, 16)
    np.testing.assert_allclose(vectors, transformers_vectors(folder, SENTENCES, 2, "cls", 10).numpy(), atol=1e-5)
    cut = sum(len(BertTokenizer(str(folder / "vocab.txt"))(line).input_ids) > 10 for line in SENTENCES)
    captured = capsys.readouterr()
    assert f"{cut} of 20 sentences cut to 10 tokens" in captured.err and "20 x 16, layer 2, cls" in captured.out


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_half_precision_tells_its_error(folder, tmp_path, capsys, monkeypatch, dtype, bits):
    """The vectors are those of a model cast by hand; the error is of the size of the last bit.

    A CPU with instructions for bfloat16 takes it without being told.
    """
    source, outputs = tmp_path / "in.txt", [tmp_path / "half.npy", tmp_path / "whole.npy"]
    source.write_text("\n".join(SENTENCES) + "\n")
    run_embed(folder, source, outputs[1], "--pooling", "cls")
    assert "off by" not in capsys.readouterr().err
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    told = () if dtype == "bfloat16" else ("--dtype", dtype)
    assert run_embed(folder, source, outputs[0], "--pooling", "cls", *told) == 0
    half, whole = map(np.load, outputs)
    encoder, tokenizer = load_encoder(folder)
    by_hand = SentenceEmbedder(encoder.to(getattr(torch, dtype)), tokenizer, [3], ["cls"], cpu=True)(SENTENCES)["cls"]
    np.testing.assert_array_equal(half, by_hand[0].numpy())
    off = np.linalg.norm(half - whole, axis=1) / np.linalg.norm(whole, axis=1)
    assert 2**-bits / 4 < off.mean() < 2**-bits * 4
    mean, most = re.search(rf"embed: token vectors in {dtype} are off by (\S+) % of their length, (\S+) % at most",
                           capsys.readouterr().err).groups()  # fmt: skip
    assert 50 * off.mean() < float(mean) < 200 * off.mean() and float(mean) < float(most)


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        pytest.param(b"", (), "in.txt: the file is empty", id="empty"),
        pytest.param(b"dog\n\ncat\n", (), "in.txt:2: an empty line", id="empty line"),
        pytest.param(b"dog\ncat\n\xff\xfe\n", (), "in.txt:3: not UTF-8", id="Latin-1"),
        pytest.param(b"dog\rcat\ra\r", (), "in.txt: its lines end in CR alone, as on old Macs; convert", id="CR"),
        pytest.param(b"dog " * 20000, (), "in.txt:1: a line of over", id="long"),
        pytest.param(b"dog\n", ("--layer", "all"), "--layer all: no such layer; give last or 0", id="--layer"),
        pytest.param(b"dog\n", ("--max-length", "33"), "has 32 positions; give 3 to 32", id="--max-length"),
        pytest.param(b"dog\n", ("--max-length", "2"), "has 32 positions; give 3 to 32", id="no room"),
    ],
)
def test_bad_input_is_refused_and_leaves_the_output_as_it_was(folder, tmp_path, capsys, text, flags, message):
    (tmp_path / "in.txt").write_bytes(text)
    np.save(tmp_path / "out.npy", np.ones(3))
    assert run_embed(folder, tmp_path / "in.txt", tmp_path / "out.npy", *flags) == 1
    error = capsys.readouterr().err
    assert error.startswith("ppa embed: error: ") and error.count("\n") == 1 and message in error
    assert np.load(tmp_path / "out.npy").tolist() == [1, 1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.npy"]
