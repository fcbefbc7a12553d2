"""A BERT with a tokenizer of another kind, from text to an aligned encoder: the ids stay those of AutoTokenizer."""

import pytest
import torch
from fairseq.data.indexed_dataset import MMapIndexedDataset
from helpers.hf_folders import SAMPLE, SIZES, TOKENIZERS, sample_sentences, save_random
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands import main as cli


def run(*command):
    assert cli.main([str(word) for word in command]) == 0


@pytest.mark.parametrize("kind", ["byte fallback", "byte level"])
def test_from_text_to_an_aligned_encoder(kind, train, tmp_path):
    hf = tmp_path / "hf"
    hf.mkdir()
    TOKENIZERS[kind](hf)
    theirs = AutoTokenizer.from_pretrained(hf)
    save_random(BertForMaskedLM(BertConfig(**SIZES, vocab_size=len(theirs) + 3)), hf)
    run("import-hf", hf, tmp_path / "base")
    text = tmp_path / "text"
    run("prepare-bitext", f"de-en={SAMPLE}/de-en.train.tsv.xz", "--columns", "2,1", "--tokenizer", tmp_path / "base",
        "--out", text, "--max-tokens", "60", "--valid-share", ".1", "--max-train", "99", "--workers", "1")  # fmt: skip
    run("binarize", text, "--destdir", tmp_path / "bin", "--workers", "1")
    rows = MMapIndexedDataset(str(tmp_path / "bin" / "train.de-en.de"))
    for row in list(rows)[:20]:
        sentence = theirs.decode(row[:-1])
        assert theirs(sentence)["input_ids"][1:] == row.tolist()
    sizes = "--arch ppa_bert --max-positions 66 --encoder-layers 2 --max-update 3 --lr 1e-3"
    train(*sizes.split(), "--pretrained", str(tmp_path / "base"), data=tmp_path / "bin")
    trained = tmp_path / "checkpoints" / "checkpoint_last.pt"
    before, after = checkpoint.read(tmp_path / "base"), checkpoint.read(trained)
    assert before.tokenizer == after.tokenizer and before.shape.vocab_size == len(theirs)
    assert not torch.equal(*(model.state["encoder.embed_tokens.weight"] for model in (before, after)))
    run("export-hf", trained, tmp_path / "out")
    texts = [*sample_sentences("test", 3), "a\n\n\tb <mask>"]
    assert AutoTokenizer.from_pretrained(tmp_path / "out")(texts)["input_ids"] == theirs(texts)["input_ids"]


def test_data_of_another_tokenizer_with_the_same_tokens_is_refused(train, tmp_path):
    """The data lower-cased, as transformers does by default; the model not."""
    from ppa_fairseq.utils.errors import InputError

    hf = tmp_path / "hf"
    hf.mkdir()
    TOKENIZERS["WordPiece"](hf)
    rows = len((hf / "vocab.txt").read_text("utf-8").splitlines())
    save_random(BertForMaskedLM(BertConfig(**SIZES, vocab_size=rows)), hf)
    run("import-hf", hf, tmp_path / "base")
    (tmp_path / "vocabulary").mkdir()
    (hf / "vocab.txt").rename(tmp_path / "vocabulary" / "vocab.txt")
    run("prepare-bitext", f"de-en={SAMPLE}/de-en.train.tsv.xz", "--columns", "2,1", "--tokenizer",
        tmp_path / "vocabulary", "--out", tmp_path / "text", "--max-train", "50", "--workers", "1")  # fmt: skip
    run("binarize", tmp_path / "text", "--destdir", tmp_path / "bin", "--workers", "1")
    with pytest.raises(InputError, match="another tokenizer than the data, with the same tokens; they differ in: norm"):
        train("--max-update", "1", "--pretrained", str(tmp_path / "base"), data=tmp_path / "bin")
