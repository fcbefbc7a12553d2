"""From text to an aligned encoder with every command on the way, whatever the tokenizer: ids are AutoTokenizer's."""

import shutil

import numpy as np
import pytest
import torch
from fairseq.data.indexed_dataset import MMapIndexedDataset
from helpers.hf_folders import SAMPLE, SIZES, TOKENIZERS, make_bert, make_xlm_roberta, sample_sentences, save_random
from helpers.training import TINY_ALIGNMENT
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands import main as cli
from ppa_fairseq.utils.errors import InputError


def run(*command):
    assert cli.main([str(word) for word in command]) == 0


def make_model(kind, hf):
    hf.mkdir()
    if kind == "XLM-RoBERTa":
        make_xlm_roberta(hf)
    elif kind == "BERT":
        make_bert(hf)
    else:
        TOKENIZERS[kind](hf)
        save_random(BertForMaskedLM(BertConfig(**SIZES, vocab_size=len(AutoTokenizer.from_pretrained(hf)) + 3)), hf)


def binarize(tokenizer, folder):
    limits = "--columns 2,1 --max-tokens 60 --valid-share .1 --max-train 99 --workers 1".split()
    text = ("--tokenizer", tokenizer, "--out", folder / "text")
    run("prepare-bitext", f"de-en={SAMPLE}/de-en.train.tsv.xz", *text, *limits)
    run("binarize", folder / "text", "--destdir", folder / "bin", "--workers", "1")


@pytest.mark.parametrize("kind", ["XLM-RoBERTa", "byte fallback", "byte level"])
def test_from_text_to_an_aligned_encoder(kind, train, tmp_path, monkeypatch):
    hf, base = tmp_path / "hf", tmp_path / "base"
    make_model(kind, hf)
    theirs = AutoTokenizer.from_pretrained(hf)
    run("import-hf", hf, base)
    binarize(base, tmp_path)
    rows = [row.tolist() for row in MMapIndexedDataset(str(tmp_path / "bin" / "train.de-en.de"))]
    for row in [row for row in rows if theirs.unk_token_id not in row][:20]:
        assert theirs(theirs.decode(row[:-1]))["input_ids"][1:] == row

    monkeypatch.setattr("helpers.training.TINY_TRAINING", ["--arch", "ppa_bert", *TINY_ALIGNMENT])
    train("--max-update", "6", "--lr", "1e-3", "--pretrained", str(base), data=tmp_path / "bin")
    path = tmp_path / "checkpoints" / "checkpoint_last.pt"
    before, after = checkpoint.read(base), checkpoint.read(path)
    assert before.tokenizer == after.tokenizer and before.shape.vocab_size == len(theirs)
    assert not [name for name, start in before.state.items() if torch.equal(after.state[name], start)]
    positions = [model.state["encoder.embed_positions.weight"] for model in (before, after)]
    assert torch.equal(*(table[: before.shape.position_offset] for table in positions))  # no token has these

    texts = [*sample_sentences("test", 3)[:9], "a\n\n\tb <mask>"]
    (tmp_path / "text.txt").write_text("".join(text + "\n" for text in texts[:9]), encoding="utf-8")
    vectors = tmp_path / "vectors.npy"
    run("embed", "--model", path, "--input", tmp_path / "text.txt", "--output", vectors, "--pooling", "cls")
    run("export-hf", path, tmp_path / "out", "--pooling", "cls")
    assert AutoTokenizer.from_pretrained(tmp_path / "out")(texts)["input_ids"] == theirs(texts)["input_ids"]
    exported = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(texts[:9])
    np.testing.assert_allclose(np.load(vectors), exported, rtol=0, atol=1e-5)
    shutil.copy(SAMPLE / "de-en.test.tsv.xz", tmp_path)
    run("retrieve", "--model", f"before={base}", "--model", f"after={path}", "--pairs", tmp_path / "de-en.test.tsv.xz")


def test_data_of_another_tokenizer_with_the_same_tokens_is_refused(train, tmp_path):
    """The data lower-cased, as transformers does by default; the model not."""
    make_model("BERT", tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    run("import-hf", tmp_path / "hf", tmp_path / "base")
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "hf" / "vocab.txt").rename(tmp_path / "vocabulary" / "vocab.txt")
    binarize(tmp_path / "vocabulary", tmp_path)
    with pytest.raises(InputError, match="another tokenizer than the data, with the same tokens; they differ in: norm"):
        train("--max-update", "1", "--pretrained", str(tmp_path / "base"), data=tmp_path / "bin")
