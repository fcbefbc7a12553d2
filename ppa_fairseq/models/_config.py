"""The flags of all models: --pretrained, the encoder's sizes, dropout."""

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
    """Sizes that are not set come from --pretrained."""

    pretrained: Optional[str] = field(
        default=None, metadata={"help": "folder of `ppa import-hf` or of Hugging Face, or a checkpoint file"}
    )
    encoder_layers: Optional[int] = field(default=None, metadata={"help": "number of transformer layers"})
    encoder_embed_dim: Optional[int] = field(default=None, metadata={"help": "width of the encoder"})
    encoder_ffn_embed_dim: Optional[int] = field(default=None, metadata={"help": "width of the feed-forward layers"})
    encoder_attention_heads: Optional[int] = field(default=None, metadata={"help": "attention heads per layer"})
    max_positions: Optional[int] = field(default=None, metadata={"help": "rows of the position table"})
    token_types: Optional[int] = field(default=None, metadata={"help": "rows of the token type table"})
    layer_norm_eps: Optional[float] = field(default=None, metadata={"help": "epsilon of the layer norms"})
    position_offset: Optional[int] = field(default=None, metadata={"help": "row of the first position"})
    dropout: float = field(default=0.1, metadata={"help": "dropout of embeddings and layers"})
    attention_dropout: float = field(default=0.1, metadata={"help": "dropout of attention probabilities"})
    cpu_bf16: bool = field(
        default=False,
        metadata={"help": "on a CPU, compute matrix products in bfloat16: faster if the CPU has AVX512-BF16 or AMX"},
    )


# The sizes that the encoder's weights determine; dropout is a choice of the training.
SHAPE_FIELDS = [name for name in checkpoint.SIZE_NAMES.values() if not name.endswith("dropout")]


def shape_of(cfg: EncoderConfig, dictionary) -> BertShape:
    """The encoder's shape according to *cfg*. Raises InputError if sizes are missing or sentence pairs do not fit."""
    missing = [name for name in SHAPE_FIELDS if getattr(cfg, name) is None]
    if missing:
        flags = " ".join("--" + name.replace("_", "-") for name in missing)
        raise InputError(f"the encoder's sizes are not set: give --pretrained, which has them, or {flags}")
    if cfg.token_types <= dictionary.second_type:
        raise InputError("the encoder has one token type, but the second sentence of a pair needs token type 1")
    sizes = {ours: getattr(cfg, name) for ours, name in checkpoint.SIZE_NAMES.items()}
    return BertShape(vocab_size=len(dictionary), **sizes)


def take_sizes(cfg: EncoderConfig, pretrained: checkpoint.Checkpoint, source: str) -> None:
    """Write the sizes of *pretrained* into *cfg*, in place. Raises InputError if *cfg* has another size already."""
    with open_dict(cfg) if OmegaConf.is_config(cfg) else contextlib.nullcontext():
        sizes = checkpoint.sizes_in_cfg(pretrained.shape)
        for name in SHAPE_FIELDS:
            if getattr(cfg, name) not in (None, sizes[name]):
                raise InputError(
                    f"--{name.replace('_', '-')} is {getattr(cfg, name)} (by flag or --arch), but {source} has "
                    f"{sizes[name]}; omit the flag, and use --arch ppa_bert or another without sizes"
                )
            setattr(cfg, name, sizes[name])


def take_mbert_sizes(args) -> None:
    """Set the sizes that *args* does not set to those of bert-base-multilingual-cased."""
    sizes = checkpoint.sizes_in_cfg(BertShape())
    for name in SHAPE_FIELDS:
        if getattr(args, name, None) is None:
            setattr(args, name, sizes[name])
