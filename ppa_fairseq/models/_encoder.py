"""Encoders as fairseq knows them."""

import torch
from fairseq.models import FairseqEncoder
from torch import Tensor, nn

from ppa_fairseq.models._config import EncoderConfig
from ppa_fairseq.modules import encoders
from ppa_fairseq.modules.bert import BertEncoder
from ppa_fairseq.modules.freezing import freeze, weights_behind
from ppa_fairseq.modules.lora import add_adapters, with_adapters
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.modules.transformers_encoder import TransformersEncoder


class FairseqBertEncoder(BertEncoder, FairseqEncoder):
    """The packed BERT encoder of `modules/bert.py` as a `FairseqEncoder`: BertShape, dictionary."""


class FairseqTransformersEncoder(TransformersEncoder, FairseqEncoder):
    """The encoder of `modules/transformers_encoder.py` as a `FairseqEncoder`: its shape and model, dictionary."""


def build_encoder(
    cfg: EncoderConfig, shape: encoders.Shape, dictionary, kind: str, **settings
) -> tuple[FairseqEncoder, nn.Module]:
    """Build the encoder, of which *cfg* freezes a part or which it gives adapters, and its head of a *kind*.

    `encoders.build` describes the settings.
    """
    classes = FairseqBertEncoder, FairseqTransformersEncoder
    encoder, head = encoders.build(shape, kind, encoder_classes=classes, arguments=(dictionary,), **settings)
    if isinstance(encoder, TransformersEncoder):
        _freeze_unused(encoder, head if kind == encoders.CLASSIFICATION else None)
    freeze(encoder, cfg.train_layers, cfg.freeze_embeddings)
    if cfg.lora_rank:
        add_adapters(encoder, cfg.lora_rank, cfg.lora_alpha)
    return encoder, head


def load_encoder(encoder: FairseqEncoder, state: dict[str, Tensor]) -> list[str]:
    """Load pretrained weights; return the names of those that start anew.

    There can only be some where transformers' classes for two heads have different base models: with a pooler or none.
    """
    state = with_adapters(encoder, state)
    return encoder.load_state_dict(state, strict=isinstance(encoder, BertEncoder)).missing_keys


@torch.enable_grad()
def _freeze_unused(encoder: FairseqEncoder, head: nn.Module | None) -> None:
    """Freeze the weights that get no gradient, such as a pooler's: DistributedDataParallel waits for every gradient."""
    packed = pack([torch.tensor([1, 2, 3])])
    training, _ = encoder.training, encoder.eval()
    output = head.eval().classify(encoder, packed) if head else encoder(**packed)["hidden"]
    used = weights_behind(output)
    for weight in encoder.parameters():
        weight.requires_grad_(weight in used)
    encoder.train(training)
    if head:
        head.train(training)
