"""Tokenizers of both families, as files, as one object and as a list of symbols.

A tokenizer travels as the texts of its files, {name: text}: it fits in a checkpoint and comes out unchanged. A
SentencePiece model, which is no text, is read into a tokenizer.json.
"""

import json
import re
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ppa_fairseq.checkpoints.families import BERT, family_of
from ppa_fairseq.checkpoints.rust_errors import told_as
from ppa_fairseq.checkpoints.sentencepiece_model import read_sentencepiece
from ppa_fairseq.utils import strict_json
from ppa_fairseq.utils.errors import InputError, shown
from ppa_fairseq.utils.files import read_whole

SENTENCEPIECE_FILE = "sentencepiece.bpe.model"
FILES = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
CHARACTERS = "".join(map(chr, (*range(1, 0xD800), *range(0xE000, 0x10000))))  # of the basic plane, in their order
WHITE_SPACE = re.compile(r"\s")
# Key of tokenizer_config.json -> the normalizer's name of it, and what transformers takes where it is absent.
NORMALIZER_OPTIONS = {
    "do_lower_case": ("lowercase", True),
    "strip_accents": ("strip_accents", None),
    "tokenize_chinese_chars": ("handle_chinese_chars", True),
}
# What transformers' XLMRobertaTokenizer keeps of a tokenizer.json's normalizers, or needs none of.
XLM_NORMALIZERS = {"Sequence", "Precompiled", "Strip", "Replace"}


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of an imported or a Hugging Face folder. Raises InputError if there is none."""
    return build_tokenizer(read_files(folder), str(folder))


def read_files(folder: str | Path) -> dict[str, str]:
    """Texts of the tokenizer's files in `folder`, to the byte; of a SentencePiece model, the tokenizer.json it makes.

    Raises InputError if there is no such folder, or a file is not UTF-8 or not what its name says.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; make it with `ppa import-hf`")
    texts = {}
    for name in FILES:
        path = Path(folder) / name
        if path.is_file():
            try:
                texts[name] = read_whole(path).decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{path}: not UTF-8 ({error}); fetch the file again") from None
    model = Path(folder) / SENTENCEPIECE_FILE
    if "tokenizer.json" not in texts and model.is_file():
        texts["tokenizer.json"] = read_sentencepiece(model).to_str()
    return texts


def write_files(texts: dict[str, str], folder: str | Path) -> None:
    """The reverse of `read_files`; names that are no tokenizer's file are left out."""
    for name in FILES:
        if name in texts:
            (Path(folder) / name).write_bytes(texts[name].encode("utf-8"))


def build_tokenizer(texts: dict[str, str], source: str) -> Tokenizer:
    """The tokenizer that `texts` describe, neither cutting nor padding; `source` names it in messages.

    Takes tokenizer.json, else builds from vocab.txt what transformers' BertTokenizer builds. Raises InputError if
    both are absent, one is broken, a special of the family is missing, or they are not put around sentences.
    """
    if "tokenizer.json" in texts:
        with told_as(f"{source}/tokenizer.json"):
            tokenizer = Tokenizer.from_str(texts["tokenizer.json"])
            if "Precompiled" in _normalizers(tokenizer):  # a damaged one panics at some characters only
                tokenizer.normalizer.normalize_str(CHARACTERS)
    elif "vocab.txt" in texts:
        tokenizer = _build_from_vocabulary(texts, source)
    else:
        names = f"tokenizer.json, {SENTENCEPIECE_FILE} or vocab.txt"
        raise InputError(f"{source}: no {names}; a tokenizer belongs to the model")
    vocabulary = tokenizer.get_vocab()
    family = family_of(vocabulary)
    if missing := family.missing(vocabulary):
        raise InputError(
            f"{source}: the vocabulary has no {' '.join(missing)}; that of a BERT or an XLM-RoBERTa is needed"
        )
    model = tokenizer.model  # raises at the first unknown word if it has no symbol for it
    if isinstance(model, models.WordPiece) and model.unk_token not in tokenizer.get_vocab(with_added_tokens=False):
        raise InputError(f"{source}: {shown(model.unk_token)} is not in the vocabulary; take the model's own tokenizer")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    bos, eos = vocabulary[family.bos], vocabulary[family.eos]
    with told_as(f"{source}/tokenizer.json"):  # it panics at a special symbol that its template alone names
        laid_out = tokenizer.encode("").ids, tokenizer.encode("", "").ids
    if laid_out != ([bos, eos], [bos, eos, *[eos] * family.doubled_eos, eos]):
        raise InputError(
            f"{source}/tokenizer.json: does not lay out sentences as {family.name} does, with {family.bos} and "
            f"{family.eos}; take the model's own"
        )
    return tokenizer


def _build_from_vocabulary(texts: dict[str, str], source: str) -> Tokenizer:
    vocabulary = {symbol: index for index, symbol in enumerate(_lines(texts["vocab.txt"]))}
    if missing := BERT.missing(vocabulary):
        raise InputError(f"{source}/vocab.txt: no line {' '.join(missing)}; a BERT vocabulary is needed")
    config = _read_config(texts, source)
    options = {name: config.get(key, default) for key, (name, default) in NORMALIZER_OPTIONS.items()}
    try:
        normalizer = normalizers.BertNormalizer(**options)
    except TypeError as error:
        raise InputError(f"{source}/tokenizer_config.json: not as transformers writes it ({error})") from None
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(list(BERT.specials))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(special, vocabulary[special]) for special in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def complete(texts: dict[str, str], source: str, max_length: int) -> dict[str, str]:
    """`texts` with a tokenizer.json and a tokenizer_config.json, each made from the other files if absent.

    transformers lower-cases as tokenizer_config.json says, without one always, and heeds no tokenizer.json.
    So a folder needs both, in agreement. Raises InputError if they differ.
    """
    tokenizer = build_tokenizer(texts, source)
    texts = {"tokenizer.json": tokenizer.to_str(), **texts}
    config = _read_config(texts, source)
    if isinstance(tokenizer.model, models.Unigram):
        kind = str(config.get("tokenizer_class", "XLMRobertaTokenizer"))
        if kind.startswith("XLMRoberta") and (odd := _normalizers(tokenizer) - XLM_NORMALIZERS):
            raise InputError(
                f"{source}/tokenizer.json: normalises by {min(odd)}, which transformers' {kind} leaves out; let "
                'tokenizer_config.json have "tokenizer_class": "PreTrainedTokenizerFast", which takes it as it is'
            )
        config = {"tokenizer_class": kind, "model_max_length": max_length}
        return {"tokenizer_config.json": json.dumps(config, indent=2) + "\n", **texts}
    is_bert = config.get("tokenizer_class", "BertTokenizer") in ("BertTokenizer", "BertTokenizerFast")
    if not is_bert or not isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
        return texts
    options = {key: getattr(tokenizer.normalizer, name) for key, (name, _) in NORMALIZER_OPTIONS.items()}
    if "tokenizer_config.json" not in texts:
        config = {"tokenizer_class": "BertTokenizer", "model_max_length": max_length, **options}
        return texts | {"tokenizer_config.json": json.dumps(config, indent=2) + "\n"}
    for key, value in options.items():
        said = config.get(key, NORMALIZER_OPTIONS[key][1])
        if said != value:
            raise InputError(
                f"{source}/tokenizer_config.json: {key} is {json.dumps(said)} (its default if absent), but "
                f"tokenizer.json works with {json.dumps(value)}; correct the wrong one"
            )
    return texts


def _normalizers(tokenizer: Tokenizer) -> set[str]:
    """Names of the tokenizer's normalizers, those in a sequence included."""
    state = b"" if tokenizer.normalizer is None else tokenizer.normalizer.__getstate__()
    return set(re.findall(r'"type":"(\w+)"', state.decode()))


def lowers_case(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer lower-cases: on a cased vocabulary a silent fault."""
    return tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str("A") == "a"


def symbols(texts: dict[str, str], source: str, rows: int | None = None) -> list[str]:
    """The vocabulary in id order, added tokens included; white space in an entry, at which fairseq cuts, as \\u0085.

    Raises InputError if vocab.txt and tokenizer.json disagree, an id has no symbol, or the model's word embeddings have
    other than *rows*.
    """
    listed = dict(enumerate(_lines(texts.get("vocab.txt", ""))))
    for symbol, index in build_tokenizer(texts, source).get_vocab(with_added_tokens=True).items():
        if listed.setdefault(index, symbol) != symbol:
            raise InputError(
                f"{source}/vocab.txt:{index + 1}: {shown(listed[index])}, but tokenizer.json has {shown(symbol)} here; "
                "take both files from the same model"
            )
    gap = next((index for index in range(len(listed)) if index not in listed), None)
    if gap is not None:
        raise InputError(f"{source}: no symbol has the id {gap}; add the model's vocab.txt")
    if rows not in (None, len(listed)):
        raise InputError(
            f"{source}: the vocabulary has {len(listed)} entries and the word embeddings {rows} rows; "
            "take vocabulary and weights from the same model"
        )
    return [WHITE_SPACE.sub(lambda found: f"\\u{ord(found[0]):04x}", listed[index]) for index in range(len(listed))]


def _read_config(texts: dict[str, str], source: str) -> dict:
    try:
        config = strict_json.loads(texts.get("tokenizer_config.json", "{}"))
    except ValueError as error:
        raise InputError(f"{source}/tokenizer_config.json: no JSON ({error}); fetch it again") from None
    if not isinstance(config, dict):
        raise InputError(f"{source}/tokenizer_config.json: no JSON object; fetch it again")
    return config


def _lines(text: str) -> list[str]:
    """Lines as Python's text files have them: splitlines() would also cut at odd Unicode separators."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
