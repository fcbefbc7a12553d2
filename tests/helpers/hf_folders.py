"""Small models of both families as Hugging Face keeps them; SentencePiece is trained on the bundled sample."""

import lzma
from pathlib import Path

import sentencepiece
import torch
from transformers import BertConfig, BertForMaskedLM, XLMRobertaConfig, XLMRobertaForMaskedLM

SAMPLE = Path(__file__).resolve().parents[2] / "sample"
POSITIONS = 66  # of which an XLM-RoBERTa never uses two
SIZES = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=POSITIONS,
)


def sample_sentences(split: str, count: int) -> list[str]:
    """Both sides of the first *count* pairs of each language."""
    sentences = []
    for path in sorted(SAMPLE.glob(f"??-en.{split}.tsv.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            for line, _ in zip(file, range(count), strict=False):
                sentences += line.rstrip("\n").split("\t")[:2]
    return sentences


def train_sentencepiece(path: Path, **options) -> Path:
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sample_sentences("train", 60)),
            model_writer=file,
            **dict(vocab_size=1200, character_coverage=0.98, num_threads=1, minloglevel=2) | options,
        )
    return path


def make_xlm_roberta(folder: Path, model_class=XLMRobertaForMaskedLM, **options):
    """Write config.json, random weights and sentencepiece.bpe.model to *folder*; the model."""
    path = train_sentencepiece(folder / "sentencepiece.bpe.model")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(path)).get_piece_size()
    sizes = SIZES | dict(vocab_size=pieces + 2, type_vocab_size=1, layer_norm_eps=1e-5)  # with <pad> and <mask>
    return save_random(model_class(XLMRobertaConfig(**sizes, **options)), folder)


def make_bert(folder: Path, model_class=BertForMaskedLM, **options):
    """Write config.json, random weights and vocab.txt (letters) to *folder*; the model."""
    letters = "abcdefghijklmnopqrstuvwxyz.?"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return save_random(model_class(BertConfig(**SIZES, vocab_size=len(vocabulary), **options)), folder)


def save_random(model, folder: Path):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    return model.eval()
