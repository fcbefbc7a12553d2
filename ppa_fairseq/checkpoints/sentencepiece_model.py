"""A SentencePiece model file as the tokenizer of an XLM-RoBERTa."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ppa_fairseq.checkpoints.families import XLM_ROBERTA
from ppa_fairseq.checkpoints.rust_errors import told_as
from ppa_fairseq.utils.errors import InputError, shown
from ppa_fairseq.utils.files import read_whole

SPACE = "▁"
OWN = ["<unk>", "<s>", "</s>"]  # SentencePiece's first entries
FAIRSEQ = ["<s>", "<pad>", "</s>", "<unk>"]  # what fairseq, which trained XLM-R, has instead: all others move up by one


def read_sentencepiece(path: Path) -> Tokenizer:
    """The tokenizer that transformers' XLMRobertaTokenizer makes of the file: its ids, its normalisation.

    Raises InputError if it is damaged, no unigram model, or does not begin as XLM-R's does.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(read_whole(path))
    except DecodeError as error:
        raise InputError(f"{path}: truncated, or no SentencePiece model ({error}); fetch it again") from None
    pieces = proto.pieces[len(OWN) :]
    odd = [piece.piece for piece in pieces if piece.type != piece.NORMAL]
    fault = None
    if proto.trainer_spec.model_type != proto.trainer_spec.UNIGRAM or not pieces:
        fault = "is no unigram model with a vocabulary"
    elif [piece.piece for piece in proto.pieces[: len(OWN)]] != OWN:
        fault = f"does not begin with {' '.join(OWN)}"
    elif odd:
        fault = f"has the user-defined piece {shown(odd[0])}"
    if fault:
        raise InputError(f"{path}: {fault}, unlike an XLM-RoBERTa's; give the model's own, or its tokenizer.json")
    vocabulary = [
        *((symbol, 0.0) for symbol in FAIRSEQ),
        *((piece.piece, piece.score) for piece in pieces),
        (XLM_ROBERTA.mask, 0.0),
    ]
    with told_as(str(path)):
        tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=FAIRSEQ.index(XLM_ROBERTA.unk)))
        if proto.normalizer_spec.precompiled_charsmap:
            tokenizer.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
    tokenizer.add_special_tokens([*FAIRSEQ, XLM_ROBERTA.mask])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(symbol, FAIRSEQ.index(symbol)) for symbol in ("<s>", "</s>")],
    )
    return tokenizer
