"""Sentence vectors against transformers; the order, the cutting and the file that `ppa embed` writes."""

import gzip

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder: 3 layers × 16, 32 positions."""
    path = tmp_path_factory.mktemp("bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(path)
    return path


def transformers_vectors(folder, sentences, layer, pooling, max_length=32):
    """One sentence at a time, without padding: (N, C)."""
    model, tokenizer = BertModel.from_pretrained(folder).eval(), BertTokenizer(str(folder / "vocab.txt"))
    vectors = []
    for sentence in sentences:
        inputs = tokenizer(sentence, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs, output_hidden_states=True).hidden_states[layer][0]  # (T, C)
        vectors.append(hidden[0] if pooling == "cls" else hidden.mean(0))
    return torch.stack(vectors)


def test_every_layer_and_pooling_equals_transformers_from_one_pass(folder):
    encoder, tokenizer = load_encoder(folder)
    passes = []
    encoder.register_forward_hook(lambda *_: passes.append(1))
    embedder = SentenceEmbedder(encoder, tokenizer, [0, 2, 3], ["cls", "mean"], batch_tokens=10**6, cpu=True)
    vectors = embedder(SENTENCES)
    assert len(passes) == 1 and embedder.truncated == 0
    for pooling in ("cls", "mean"):
        assert vectors[pooling].shape == (3, 20, 16) and vectors[pooling].dtype == torch.float32
        for place, layer in enumerate([0, 2, 3]):
            expected = transformers_vectors(folder, SENTENCES, layer, pooling)
            torch.testing.assert_close(vectors[pooling][place], expected, atol=1e-5, rtol=0)


def test_batches_change_nothing(folder):
    encoder, tokenizer = load_encoder(folder)
    batches = {}
    for tokens in (1, 40, 10**6):
        done = []
        embedder = SentenceEmbedder(
            encoder, tokenizer, [1, 3], ["cls", "mean"], batch_tokens=tokens, cpu=True
        )
        batches[tokens] = embedder(SENTENCES, done.append)
        assert sum(done) == len(SENTENCES)
        assert {1: len(done) == 20, 40: 1 < len(done) < 20, 10**6: len(done) == 1}[tokens]
    for tokens in (40, 10**6):
        for pooling, expected in batches[1].items():
            torch.testing.assert_close(batches[tokens][pooling], expected, atol=1e-5, rtol=0)


def test_sentences_that_are_alike_are_encoded_once_and_get_one_vector(folder, monkeypatch):
    embedder = SentenceEmbedder(*load_encoder(folder), [3], batch_tokens=1, cpu=True)
    encode, encoded, done = embedder.encode, [], []
    monkeypatch.setattr(embedder, "encode", lambda sequences: encoded.extend(sequences) or encode(sequences))
    distinct = list(dict.fromkeys(SENTENCES))
    vectors = embedder([*distinct, *distinct[::-1]], done.append)["mean"]
    assert len(encoded) == len(distinct) and sum(done) == 2 * len(distinct)
    assert torch.equal(vectors[:, : len(distinct)], vectors[:, len(distinct) :].flip(1))


def test_long_sentences_are_cut_as_transformers_cuts_and_counted(folder):
    encoder, tokenizer = load_encoder(folder)
    sentences = ["dog cat house", "dog cat house a dog", "cat", "dog " * 100]
    for max_length, cut in ((6, 2), (None, 1)):
        embedder = SentenceEmbedder(encoder, tokenizer, [3], max_length=max_length, cpu=True)
        vectors = embedder(sentences)["mean"][0]
        expected = transformers_vectors(folder, sentences, 3, "mean", max_length or 32)
        torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)
        assert embedder.truncated == cut


@pytest.mark.parametrize("max_length", [2, 33])
def test_length_beyond_the_position_table_is_refused(folder, max_length):
    with pytest.raises(InputError, match="has 32 positions; give 3 to 32"):
        SentenceEmbedder(*load_encoder(folder), [3], max_length=max_length)


def test_broken_weights_are_refused(folder):
    encoder, tokenizer = load_encoder(folder)
    with torch.no_grad():
        encoder.layers[1].fc1.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        SentenceEmbedder(encoder, tokenizer, [3], cpu=True)(SENTENCES)


def test_choose_layers():
    assert choose_layers("last", 12) == [12]
    assert choose_layers("all", 2) == [0, 1, 2]
    assert choose_layers("0", 12) == [0]
    for wrong in ("13", "-1", "first", "1.5", ""):
        with pytest.raises(InputError, match=r"no such layer; give last, all, or 0 \(the embeddings\) to 12"):
            choose_layers(wrong, 12)


def run_embed(folder, source, output, *flags) -> int:
    return cli.main(
        ["embed", "--model", str(folder), "--input", str(source), "--output", str(output), *flags]
    )


@pytest.mark.parametrize("window", [7, 1000])
def test_command_writes_one_row_a_line_in_order(folder, tmp_path, monkeypatch, capsys, window):
    monkeypatch.setattr(embed, "WINDOW", window)
    source = tmp_path / "sentences.gz"
    source.write_bytes(gzip.compress(("\n".join(SENTENCES) + "\n").encode()))
    output = tmp_path / "new" / "vectors.npy"
    for layer in ("1", "2"):  # the earlier vectors are replaced
        assert run_embed(folder, source, output, "--layer", layer, "--pooling", "cls", "--max-length", "10") == 0
    vectors = np.load(output)
    assert vectors.dtype == np.float32 and vectors.shape == (20, 16)
    expected = transformers_vectors(folder, SENTENCES, 2, "cls", 10)
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)
    cut = sum(len(BertTokenizer(str(folder / "vocab.txt"))(line).input_ids) > 10 for line in SENTENCES)
    captured = capsys.readouterr()
    assert f"{cut} of 20 sentences cut to 10 tokens" in captured.err
    assert "20 x 16" in captured.out


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        (b"", (), "in.txt: the file is empty"),
        (b"dog\n\ncat\n", (), "in.txt:2: an empty line"),
        (b"dog\ncat\n\xff\xfe\n", (), "in.txt:3: not UTF-8"),
        (b"dog\n", ("--layer", "4"), "--layer 4: no such layer; give last or 0 (the embeddings) to 3"),
        (b"dog\n", ("--layer", "all"), "--layer all: no such layer; give last or 0 (the embeddings) to 3"),
        (b"dog\n", ("--max-length", "99"), "has 32 positions"),
        (b"dog " * 20000, (), "in.txt:1: a line of over"),
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


def test_missing_files_are_refused(folder, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("dog\n")
    assert run_embed(folder, tmp_path / "nothing.txt", tmp_path / "out.npy") == 1
    assert "nothing.txt: " in capsys.readouterr().err
    assert run_embed(tmp_path / "no-model", tmp_path / "in.txt", tmp_path / "out.npy") == 1
    assert "no-model: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]
