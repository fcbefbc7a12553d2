"""The flags that every model around the encoder has: where it starts from, its sizes, its dropout."""

import contextlib
from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import FairseqDataclass
from omegaconf import OmegaConf, open_dict

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.utils.errors import InputError


@dataclass
class EncoderConfig(FairseqDataclass):
    """Sizes left out are taken from --pretrained."""

    pretrained: Optional[str] = field(
        default=None, metadata={"help": "folder of `ppa import-hf` or of Hugging Face, or a checkpoint"}
    )
    encoder_layers: Optional[int] = field(default=None, metadata={"help": "number of transformer layers"})
    encoder_embed_dim: Optional[int] = field(default=None, metadata={"help": "width of the encoder"})
    encoder_ffn_embed_dim: Optional[int] = field(default=None, metadata={"help": "width inside the feed-forward part"})
    encoder_attention_heads: Optional[int] = field(default=None, metadata={"help": "attention heads a layer"})
    max_positions: Optional[int] = field(default=None, metadata={"help": "rows of the position table"})
    token_types: Optional[int] = field(default=None, metadata={"help": "rows of the token type table"})
    layer_norm_eps: Optional[float] = field(default=None, metadata={"help": "epsilon of the layer norms"})
    position_offset: Optional[int] = field(default=None, metadata={"help": "row of the first position"})
    dropout: float = field(default=0.1, metadata={"help": "dropout of embeddings and sublayers"})
    attention_dropout: float = field(default=0.1, metadata={"help": "dropout of attention probabilities"})
    cpu_bf16: bool = field(
        default=False,
        metadata={"help": "on the CPU, matrix products in bfloat16: faster where it has AVX512-BF16 or AMX"},
    )


# The sizes an encoder's weights fix; dropout is the training's own.
SHAPE_FIELDS = [name for name in checkpoint.SIZE_NAMES.values() if not name.endswith("dropout")]


def shape_of(cfg: EncoderConfig, dictionary) -> BertShape:
    """The encoder's shape as *cfg* names it. Raises InputError if it does not, or cannot take sentence pairs."""
    missing = [name for name in SHAPE_FIELDS if getattr(cfg, name) is None]
    if missing:
        flags = " ".join("--" + name.replace("_", "-") for name in missing)
        raise InputError(f"the sizes of the encoder come from --pretrained: give it, or {flags}")
    if cfg.token_types <= dictionary.second_type:
        raise InputError("the encoder has one token type, but the second sentence of a pair needs type 1")
    sizes = {ours: getattr(cfg, name) for ours, name in checkpoint.SIZE_NAMES.items()}
    return BertShape(vocab_size=len(dictionary), **sizes)


def take_sizes(cfg: EncoderConfig, pretrained: checkpoint.Checkpoint, source: str) -> None:
    """Write the sizes of *pretrained* into *cfg*, in place. Raises InputError where *cfg* has another already."""
    with open_dict(cfg) if OmegaConf.is_config(cfg) else contextlib.nullcontext():
        sizes = checkpoint.sizes_in_cfg(pretrained.shape)
        for name in SHAPE_FIELDS:
            if getattr(cfg, name) not in (None, sizes[name]):
                raise InputError(
                    f"--{name.replace('_', '-')} is {getattr(cfg, name)} (by flag or --arch), but {source} has "
                    f"{sizes[name]}: leave the flag out, and take --arch ppa_bert or another without sizes of its own"
                )
            setattr(cfg, name, sizes[name])


def take_mbert_sizes(args) -> None:
    """Set the sizes that *args* leaves open to those of bert-base-multilingual-cased."""
    sizes = checkpoint.sizes_in_cfg(BertShape())
    for name in SHAPE_FIELDS:
        if getattr(args, name, None) is None:
            setattr(args, name, sizes[name])
