"""The flags of all models: --pretrained, the encoder's sizes, dropout."""

import contextlib
import re
from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import OmegaConf, open_dict

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.modules.encoders import Shape
from ppa_fairseq.modules.transformers_encoder import TransformersShape
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
    dropout: Optional[float] = field(
        default=None,
        metadata={"help": "dropout of embeddings and layers (default: 0.1; with ppa_transformers the model's own)"},
    )
    attention_dropout: Optional[float] = field(
        default=None, metadata={"help": "dropout of attention probabilities (default: as --dropout)"}
    )
    cpu_precision: ChoiceEnum(["auto", "fp32", "bf16"]) = field(
        default="auto",
        metadata={
            "help": "of matrix products on a CPU; auto: bf16 if the CPU has AVX512-BF16 or AMX, which make it faster. "
            "Weights and their updates are in fp32"
        },
    )
    train_layers: Optional[str] = field(
        default=None,
        metadata={
            "help": "train only these transformer layers of the encoder, such as 8-11 or 0,2-4, as transformers counts "
            "them: 0 is the first, above the embeddings. All other layers and the embeddings stay as they are; heads "
            "are trained (default: train all)"
        },
    )
    freeze_embeddings: bool = field(
        default=False, metadata={"help": "train the encoder's layers, but not the embeddings below them"}
    )
    lora_rank: int = field(
        default=0,
        metadata={
            "help": "train adapters of this rank beside the encoder's linear layers (LoRA, by peft) and leave its own "
            "weights as they are: less memory. With --train-layers, beside these layers; 0: train the weights"
        },
    )
    lora_alpha: int = field(default=8, metadata={"help": "LoRA's alpha: adapters are scaled by it over their rank"})


BERT_ARCH = re.compile("ppa_m?bert(_base)?")
DROPOUTS, DROPOUT = ("dropout", "attention_dropout"), 0.1
# The sizes that the encoder's weights determine; dropout is a choice of the training.
SHAPE_FIELDS = [name for name in checkpoint.SIZE_NAMES.values() if not name.endswith("dropout")]


def transformers_shape(task) -> dict | None:
    """What a task knows of a model of transformers, from --pretrained or a checkpoint; None: the encoder is ours."""
    return getattr(task.state, "encoder", None)


def shape_of(cfg: EncoderConfig, dictionary, of_transformers: dict | None = None) -> Shape:
    """The encoder's shape according to *cfg*, or of a model of transformers.

    Defaults of dropout are written into *cfg*. Raises InputError if sizes are missing or sentence pairs do not fit.
    """
    if of_transformers:
        dropout = {"dropout": cfg.dropout, "attention_dropout": cfg.attention_dropout}
        shape = TransformersShape(**of_transformers | dropout)
        check_token_types(shape, dictionary)
        return shape
    with writable(cfg):
        for name in DROPOUTS:
            if getattr(cfg, name) is None:
                setattr(cfg, name, DROPOUT)
    missing = [name for name in SHAPE_FIELDS if getattr(cfg, name) is None]
    if missing:
        flags = " ".join("--" + name.replace("_", "-") for name in missing)
        raise InputError(f"the encoder's sizes are not set: give --pretrained, which has them, or {flags}")
    sizes = {ours: getattr(cfg, name) for ours, name in checkpoint.SIZE_NAMES.items()}
    shape = BertShape(vocab_size=len(dictionary), **sizes)
    check_token_types(shape, dictionary)
    return shape


def check_token_types(shape: Shape, dictionary) -> None:
    """Raise InputError if the encoder has token types, but none for the second sentence of a pair."""
    if 0 < shape.token_types <= dictionary.second_type:
        raise InputError("the encoder has one token type, but the second sentence of a pair needs token type 1")


def writable(cfg: EncoderConfig):
    """Let a block write into a configuration of OmegaConf."""
    return open_dict(cfg) if OmegaConf.is_config(cfg) else contextlib.nullcontext()


def take_sizes(cfg: EncoderConfig, pretrained: checkpoint.Checkpoint, source: str) -> None:
    """Write the sizes of *pretrained* into *cfg*, in place; those of a model of transformers are the task's.

    Raises InputError if *cfg* has another size already, or if --arch is for the other form of encoder.
    """
    is_ours, arch = isinstance(pretrained.shape, BertShape), cfg._name or ""
    if is_ours and arch.startswith("ppa_transformers"):
        raise InputError(
            f"--arch {arch}: {source} has this plugin's own form of BERT; use --arch "
            f"{arch.replace('transformers', 'bert')}, or import it with `ppa import-hf --arch ppa_transformers`"
        )
    if not is_ours and BERT_ARCH.match(arch):
        raise InputError(
            f"--arch {arch}: {source} has a model of transformers; use --arch {BERT_ARCH.sub('ppa_transformers', arch)}"
        )
    with writable(cfg):
        sizes = checkpoint.sizes_in_cfg(pretrained.shape) if is_ours else dict.fromkeys(SHAPE_FIELDS)
        for name in SHAPE_FIELDS:
            if getattr(cfg, name) not in (None, sizes[name]):
                flag = f"--{name.replace('_', '-')} is {getattr(cfg, name)} (by flag or --arch)"
                if not is_ours:
                    raise InputError(f"{flag}, but a model of transformers has its own sizes; omit the flag")
                raise InputError(
                    f"{flag}, but {source} has {sizes[name]}; omit the flag, and use --arch ppa_bert or another "
                    "without sizes"
                )
            setattr(cfg, name, sizes[name])


def take_mbert_sizes(args) -> None:
    """Set the sizes that *args* does not set to those of bert-base-multilingual-cased."""
    sizes = checkpoint.sizes_in_cfg(BertShape())
    for name in SHAPE_FIELDS:
        if getattr(args, name, None) is None:
            setattr(args, name, sizes[name])
