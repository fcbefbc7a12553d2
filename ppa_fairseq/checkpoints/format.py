"""The checkpoint file of this plugin: weights, sizes and the tokenizer's files; all that a command needs.

`ppa import-hf` and `fairseq-train` write the same format, so every reader takes both.
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

from ppa_fairseq.checkpoints import huggingface
from ppa_fairseq.checkpoints.weights import PARTS, Checkpoint, check_state, load_pickle
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.modules.encoders import Encoder
from ppa_fairseq.modules.lora import merge
from ppa_fairseq.modules.transformers_encoder import TransformersShape
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import atomic_path

MODEL_FILE = "model.pt"

# Name of a size in BertShape -> its name in cfg["model"], as fairseq's models call it.
SIZE_NAMES = {
    "layers": "encoder_layers",
    "dim": "encoder_embed_dim",
    "ffn_dim": "encoder_ffn_embed_dim",
    "heads": "encoder_attention_heads",
    "max_positions": "max_positions",
    "token_types": "token_types",
    "layer_norm_eps": "layer_norm_eps",
    "position_offset": "position_offset",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
}


def read(path: str | Path, transformers: bool = False) -> Checkpoint:
    """Read a fairseq checkpoint, a folder of `ppa import-hf` or a Hugging Face folder.

    From a training checkpoint, read the (query) encoder, with its adapters merged, the heads and their labels only. A
    Hugging Face folder of a BERT or an XLM-RoBERTa becomes our own form, or with *transformers* that of every other
    model. Raises InputError if it is missing, truncated, foreign or holds code, or if a tensor is missing or has the
    wrong shape.
    """
    path = Path(path)
    if (path / MODEL_FILE).is_file():
        path = path / MODEL_FILE
    if path.is_dir():
        return huggingface.read(path, transformers)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a checkpoint file or a folder of `ppa import-hf`")
    content = load_pickle(path)
    try:
        weights, task_state, cfg = content["model"], content["task_state"], content["cfg"]
        model_cfg, task_cfg = as_dict(cfg["model"]), as_dict(cfg.get("task"))
        training = {"model": model_cfg, "task": task_cfg, "checkpoint": as_dict(cfg.get("checkpoint"))}
        training["extra_state"] = as_dict(content.get("extra_state"))
        training["criterion"] = as_dict(cfg.get("criterion"))
        training["updates"] = (content.get("optimizer_history") or [{}])[-1].get("num_updates", 0)
        if task_state.get("encoder"):
            shape = TransformersShape(**task_state["encoder"])
        else:
            sizes = {size: model_cfg[name] for size, name in SIZE_NAMES.items()}
            shape = BertShape(vocab_size=len(weights["encoder.embed_tokens.weight"]), **sizes)
        # Copied, so that the file may be overwritten while the weights are in use.
        state = {name: tensor.clone() for name, tensor in weights.items() if name.startswith(PARTS)}
        adapters = {}
        if model_cfg.get("lora_rank"):
            state, adapters = merge(state, model_cfg["lora_alpha"])
        left = sorted({name.split(".")[0] for name in weights if not name.startswith(PARTS)})
        labels = None if task_state.get("labels") is None else list(task_state["labels"])
        check_state(state, shape, str(path), labels)
        texts = task_state.get("tokenizer")
        xlm_tlm = any(task_cfg.get(name) for name in ("tlm_reset_positions", "tlm_language_embeddings"))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a checkpoint of this plugin ({type(error).__name__}: {error}); "
            "give one that `ppa import-hf` or `fairseq-train --task ppa_alignment` wrote"
        ) from error
    if texts is None:
        raise InputError(f"{path}: has no tokenizer, because it was trained without --pretrained; train it with one")
    facts = {"training": training, "left_behind": left, "adapters": adapters}
    return Checkpoint(shape, state, dict(texts), model_cfg.get("pooling"), labels, xlm_tlm, **facts)


def load_encoder(path: str | Path) -> tuple[Encoder, Tokenizer]:
    """`Checkpoint.build_encoder` of what `read` reads."""
    return read(path).build_encoder(str(path))


def write(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint without optimizer state, as fairseq reads it; whole or not at all."""
    is_ours = isinstance(checkpoint.shape, BertShape)
    model = {"_name": "ppa_bert", **sizes_in_cfg(checkpoint.shape)} if is_ours else {"_name": "ppa_transformers"}
    content = {
        "args": None,
        "cfg": {
            "model": {**model, "pooling": checkpoint.pooling},
            "task": {"_name": "ppa_alignment", "tlm_reset_positions": checkpoint.xlm_tlm},
        },
        "model": checkpoint.state,
        "optimizer_history": [{"optimizer_name": None, "lr_scheduler_state": {}, "num_updates": 0}],
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "task_state": {**task_state(checkpoint), "labels": checkpoint.labels},
    }
    with atomic_path(path) as beside, beside.open("wb") as file:  # given a path, torch hides why it cannot write
        torch.save(content, file)


def task_state(checkpoint: Checkpoint) -> dict:
    """What a task keeps of a checkpoint beside fairseq's configuration: its tokenizer, its model of transformers."""
    state = {"tokenizer": checkpoint.tokenizer}
    if isinstance(checkpoint.shape, TransformersShape):
        state["encoder"] = vars(checkpoint.shape) | {"dropout": None, "attention_dropout": None}
    return state


def sizes_in_cfg(shape: BertShape) -> dict:
    """The sizes of *shape* under fairseq's names."""
    return {name: getattr(shape, size) for size, name in SIZE_NAMES.items()}


def as_dict(cfg) -> dict:
    """Turn a part of fairseq's configuration, a dict, a Namespace or None, into a dict."""
    return vars(cfg) if isinstance(cfg, argparse.Namespace) else dict(cfg or {})
