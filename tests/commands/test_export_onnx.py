"""`ppa export-onnx`: onnxruntime computes our vectors, in batches with padding, and int8 nearly so."""

import sys

import numpy as np
import pytest
from helpers.hf_folders import sample_sentences

from ppa_fairseq.checkpoints.format import load_encoder
from ppa_fairseq.commands import main as cli
from ppa_fairseq.evaluation.embedding import SentenceEmbedder


def write_pairs(folder):
    sentences = sample_sentences("test", 4)
    path = folder / "de-en.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in zip(sentences[::2], sentences[1::2], strict=True)))
    return path


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_onnxruntime_computes_our_vectors(folders, tmp_path, capsys, pooling):
    for module in ("onnx", "onnxscript"):
        pytest.importorskip(module, reason="needs the extra onnx")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    out = tmp_path / "out"
    command = [
        "export-onnx",
        str(folders["bert"]),
        str(out),
        "--pooling",
        pooling,
        "--pairs",
        str(write_pairs(tmp_path)),
    ]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in printed.splitlines() if line.count("|") > 4}
    assert float(cells["fp32"][3]) > 0.9999
    assert cells["fp32"][4] == cells["transformers"][4]
    encoder, tokenizer = load_encoder(folders["bert"])
    sentences = ["Ein Satz.", "a", *sample_sentences("train", 2)]
    expected = SentenceEmbedder(encoder, tokenizer, [2], [pooling], cpu=True)(sentences)[pooling][0].numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    tokenizer.enable_padding()
    tokenizer.enable_truncation(64)
    batch = tokenizer.encode_batch(sentences)
    inputs = {
        "input_ids": np.array([encoding.ids for encoding in batch]),
        "attention_mask": np.array([encoding.attention_mask for encoding in batch]),
    }
    for name, least in (("model.onnx", 0.99999), ("model_quantized.onnx", 0.98)):
        session = onnxruntime.InferenceSession(out / "onnx" / name, providers=["CPUExecutionProvider"])
        (vectors,) = session.run(["sentence_embedding"], inputs)
        assert (vectors * expected).sum(axis=1).min() > least


def test_a_missing_library_names_the_extra(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert cli.main(["export-onnx", str(folders["bert"]), str(tmp_path / "out")]) == 1
    assert "pip install 'ppa_fairseq[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
