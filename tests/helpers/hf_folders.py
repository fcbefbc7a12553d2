"""Small models as Hugging Face keeps them, and small tokenizers of each kind; they learn the bundled sample."""

import lzma
from pathlib import Path

import sentencepiece
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaForMaskedLM

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


def make_wordpiece(folder: Path) -> None:
    """A cased BERT's vocab.txt, with words and their parts."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=1000, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(sample_sentences("train", 60), trainer)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocabulary), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')


def make_unigram(folder: Path) -> None:
    """An XLM-RoBERTa's sentencepiece.bpe.model."""
    train_sentencepiece(folder / "sentencepiece.bpe.model")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMRobertaTokenizer"}')


def make_byte_fallback(folder: Path) -> None:
    """BPE with byte fallback, as Gemma's: tokens of white space, a second sentence of type 1."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<unused0>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=[*specials, "\n", "\n\n", "\t", "\\u0085", "\x85"], show_progress=False
    )
    tokenizer.train_from_iterator(sample_sentences("train", 60), trainer)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>",
        pair="<bos> $A <eos> $B:1 <eos>:1",
        special_tokens=[("<bos>", tokenizer.token_to_id("<bos>")), ("<eos>", tokenizer.token_to_id("<eos>"))],
    )
    names = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def make_byte_level(folder: Path) -> None:
    """Byte-level BPE, as RoBERTa's, without an unknown token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<s>", "<pad>", "</s>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample_sentences("train", 60), trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = dict(cls_token="<s>", bos_token="<s>", sep_token="</s>", eos_token="</s>", pad_token="<pad>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="<mask>", **names).save_pretrained(folder)


TOKENIZERS = {
    "WordPiece": make_wordpiece,
    "Unigram": make_unigram,
    "byte fallback": make_byte_fallback,
    "byte level": make_byte_level,
}


def make_xlm_roberta(folder: Path, model_class=XLMRobertaForMaskedLM, **options):
    """Write config.json, random weights and sentencepiece.bpe.model to *folder*; return the model."""
    path = train_sentencepiece(folder / "sentencepiece.bpe.model")
    tokens = sentencepiece.SentencePieceProcessor(model_file=str(path)).get_piece_size()
    sizes = SIZES | dict(vocab_size=tokens + 2, type_vocab_size=1, layer_norm_eps=1e-5)  # with <pad> and <mask>
    return save_random(model_class(XLMRobertaConfig(**sizes, **options)), folder)


def make_bert(folder: Path, model_class=BertForMaskedLM, **options):
    """Write config.json, random weights and vocab.txt (letters) to *folder*; return the model."""
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
