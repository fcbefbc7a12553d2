"""Hugging Face's BERT and XLM-RoBERTa folders: their names and sizes in ours, both ways, bit for bit."""

from pathlib import Path

import torch
from torch import Tensor

from ppa_fairseq.checkpoints.families import family_of
from ppa_fairseq.checkpoints.hf_names import CLASSES, LAYOUTS, SIZES, Layout
from ppa_fairseq.checkpoints.tokenizer_files import complete, read_files, symbols
from ppa_fairseq.checkpoints.weights import (
    CLASSIFICATION_HEAD,
    LM_HEAD,
    SPAN_HEAD,
    Checkpoint,
    check_sizes,
    check_state,
    check_stored,
    load_pickle,
    load_safetensors,
)
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.utils.errors import InputError, shown
from ppa_fairseq.utils.strict_json import read_object

HEAD_SEED = 0  # draws the MLM head that a folder does not have


def read(folder: str | Path) -> Checkpoint:
    """Read config.json, the weights and the tokenizer of a Hugging Face BERT or XLM-RoBERTa folder.

    A sequence classifier's head comes with its labels, a question answerer's with its span head. Where there is no
    head at all an MLM head is initialised as BERT's was (dense N(0, 0.02) from a fixed seed, zero biases). The
    result's `notes` say so, and what was left out. Raises InputError for whatever is neither.
    """
    folder = Path(folder)
    config = read_object(folder / "config.json", "give a Hugging Face folder of a BERT or XLM-RoBERTa")
    layout, shape = read_shape(config, folder / "config.json")
    tensors, source = read_tensors(folder)
    check_sizes(shape, len(tensors), str(folder / "config.json"))
    tensors = {layout.current_name(name): tensor for name, tensor in tensors.items()}
    heads = _heads(config, tensors, layout)
    if LM_HEAD in heads:
        _untie(tensors, source, layout)
    table, notes = layout.name_table(shape.layers, heads), []
    used = [name for theirs in table.values() for name in theirs]
    if missing := next((name for name in used if name not in tensors), None):
        raise InputError(f"{source}: no tensor {missing}: not whole, or config.json is another model's")
    state = {
        ours: torch.cat([tensors[name] for name in theirs]) if len(theirs) > 1 else tensors[theirs[0]]
        for ours, theirs in table.items()
    }
    labels = _labels(config, folder / "config.json") if CLASSIFICATION_HEAD in heads else None
    check_state(state, shape, str(source), labels)
    if not heads:
        state |= initial_head(shape, state["encoder.embed_tokens.weight"].dtype)
        notes.append(
            f"no MLM head in {source.name}: initialised one, dense layer N(0, 0.02) with seed {HEAD_SEED}, "
            "decoder tied to the word embeddings; --freeze-encoder can fit it before TLM moves the encoder: see README"
        )
    if labels:
        notes.append(f"its classification head comes along: {len(labels)} classes, {labels[0]} to {labels[-1]}")
    if SPAN_HEAD in heads:
        notes.append("its question-answering head comes along")
    modules = {name.removesuffix(".weight").removesuffix(".bias") for name in tensors.keys() - set(used)}
    if left_out := sorted(modules - layout.copies):
        notes.append(f"left out, having no part in alignment: {', '.join(left_out)}")
    return Checkpoint(shape, state, _read_tokenizer(folder, shape, layout), labels=labels, notes=notes)


def read_shape(config: dict, path: Path) -> tuple[Layout, BertShape]:
    """The family and the sizes in a config.json. Raises InputError if it is no BERT's and no XLM-RoBERTa's."""
    model_type = config.get("model_type", "bert")
    layout = next((layout for layout in LAYOUTS if layout.model_type == model_type), None)
    if layout is None:
        known = " and ".join(repr(layout.model_type) for layout in LAYOUTS)
        raise InputError(f"{path}: model_type is {shown(model_type)}; only {known} can be taken")
    for key, wanted in layout.required.items():
        if config.get(key, wanted) != wanted:
            name = layout.family.name
            raise InputError(f"{path}: {key} is {shown(config[key])}; of {name} only {wanted!r} can be taken")
    sizes = {}
    for size, (key, default) in SIZES.items():
        value = config.get(key, default)
        kind = type(getattr(BertShape, size))
        if type(value) not in (int, kind) or value < (1 if kind is int else 0):
            raise InputError(f"{path}: {key} is {shown(value)}, which is no size; fetch the file again")
        sizes[size] = kind(value)
    shape = BertShape(**sizes, position_offset=layout.family.position_offset)
    if shape.dim % shape.heads:
        raise InputError(f"{path}: hidden_size {shape.dim} is no multiple of its {shape.heads} attention heads")
    return layout, shape


def read_tensors(folder: Path) -> tuple[dict[str, Tensor], Path]:
    """All tensors of the folder, and the file, or the index of files, that they came from."""
    for name, load in (("model.safetensors", load_safetensors), ("pytorch_model.bin", load_pickle)):
        whole, index = folder / name, folder / f"{name}.index.json"
        if whole.is_file():
            return _load_tensors(whole, load), whole
        if index.is_file():
            tensors = {}
            for shard in _shards(index):
                tensors |= _load_tensors(shard, load)
            return tensors, index
    raise InputError(f"{folder}: no model.safetensors and no pytorch_model.bin; fetch the model's weights")


def initial_head(shape: BertShape, dtype: torch.dtype) -> dict[str, Tensor]:
    """A new MLM head: the same whenever it is drawn."""
    generator = torch.Generator().manual_seed(HEAD_SEED)
    dense = torch.empty(shape.dim, shape.dim).normal_(0, 0.02, generator=generator)
    return {
        "lm_head.dense.weight": dense.to(dtype),
        "lm_head.dense.bias": torch.zeros(shape.dim, dtype=dtype),
        "lm_head.layer_norm.weight": torch.ones(shape.dim, dtype=dtype),
        "lm_head.layer_norm.bias": torch.zeros(shape.dim, dtype=dtype),
        "lm_head.bias": torch.zeros(shape.vocab_size, dtype=dtype),
    }


def to_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The reverse of reading: tensors under Hugging Face's names, ready for safetensors."""
    tensors = {}
    layout, heads = layout_of(checkpoint.shape), tuple(_own_heads(checkpoint).values())
    for ours, theirs in layout.name_table(checkpoint.shape.layers, heads).items():
        parts = checkpoint.state[ours].chunk(len(theirs))
        tensors |= {name: tensor.contiguous() for name, tensor in zip(theirs, parts, strict=True)}
    return tensors


def to_config(checkpoint: Checkpoint) -> dict:
    """config.json for `to_tensors`."""
    layout = layout_of(checkpoint.shape)
    model_class = next(iter(_own_heads(checkpoint)), "Model")
    dtype = checkpoint.state["encoder.embed_tokens.weight"].dtype
    config = {
        "architectures": [layout.class_prefix + model_class],
        "model_type": layout.model_type,
        **layout.required,
        **{key: getattr(checkpoint.shape, size) for size, (key, _) in SIZES.items()},
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    if checkpoint.labels:
        config["problem_type"] = "single_label_classification"
        config["id2label"] = {str(index): label for index, label in enumerate(checkpoint.labels)}
        config["label2id"] = {label: index for index, label in enumerate(checkpoint.labels)}
    return config


def layout_of(shape: BertShape) -> Layout:
    """The family that starts its positions where `shape` does."""
    for layout in LAYOUTS:
        if layout.family.position_offset == shape.position_offset:
            return layout
    raise InputError(f"position offset {shape.position_offset}: neither a BERT's (0) nor an XLM-RoBERTa's (2)")


def _own_heads(checkpoint: Checkpoint) -> dict[str, str]:
    """Of CLASSES, what the checkpoint has."""
    return {name: head for name, head in CLASSES.items() if any(key.startswith(head) for key in checkpoint.state)}


def _heads(config: dict, tensors: dict[str, Tensor], layout: Layout) -> tuple[str, ...]:
    """The heads to read: the MLM head that is there, and the one that the model's class is named after."""
    classes = config.get("architectures")
    classes = classes if isinstance(classes, list) else []
    heads = [head for ending, head in CLASSES.items() if head != LM_HEAD and layout.class_prefix + ending in classes]
    if config.get("problem_type") not in (None, "single_label_classification"):
        heads = [head for head in heads if head != CLASSIFICATION_HEAD]  # its logits are no choice of one class
    if any(name.startswith(layout.mlm_prefix) for name in tensors):
        heads.append(LM_HEAD)
    return tuple(heads)


def _labels(config: dict, path: Path) -> list[str]:
    """The class names in id order; where config.json names none, transformers' own two."""
    names = config.get("id2label") or {str(index): f"LABEL_{index}" for index in range(2)}
    if not isinstance(names, dict) or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
        raise InputError(f"{path}: id2label does not name the classes 0, 1, ...; fetch the file again")
    return [str(names[str(index)]) for index in range(len(names))]


def _shards(index: Path) -> list[Path]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise InputError(f"{index}: no weight_map; fetch the file again")
    names = sorted(set(map(str, weight_map.values())))
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise InputError(f"{index}: names {name}, which is no file of this folder; fetch all shards")
    return [index.parent / name for name in names]


def _load_tensors(path: Path, load) -> dict[str, Tensor]:
    tensors = load(path)
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in tensors.items()
    ):
        raise InputError(f"{path}: no state dict (names with tensors); fetch the model's own weights")
    check_stored(tensors.items(), str(path), 2 * path.stat().st_size)  # tied weights have two names
    return tensors


def _untie(tensors: dict[str, Tensor], source: Path, layout: Layout) -> None:
    """Check that the decoder is the word embeddings again, and find its bias under either of its names."""
    decoder, bias = layout.mlm_prefix + "decoder.", layout.mlm_prefix + "bias"
    if decoder + "bias" in tensors:
        tensors.setdefault(bias, tensors[decoder + "bias"])
    for own, shared in ((decoder + "weight", layout.words), (decoder + "bias", bias)):
        if own in tensors and shared in tensors and not torch.equal(tensors[own], tensors[shared]):
            raise InputError(f"{source}: {own} differs from {shared}; only a tied MLM head can be taken")


def _read_tokenizer(folder: Path, shape: BertShape, layout: Layout) -> dict[str, str]:
    """The tokenizer's files, complete, of the same family, with one symbol for each word embedding."""
    texts = complete(read_files(folder), str(folder), shape.max_positions - shape.position_offset)
    found = symbols(texts, str(folder), shape.vocab_size)
    family = family_of(found)
    if family is not layout.family:
        raise InputError(
            f"{folder}: the tokenizer is of the family {family.name}, but config.json is of {layout.family.name}; "
            "take both from the same model"
        )
    for index, special in layout.fixed_ids.items():
        if found[index] != special:
            raise InputError(
                f"{folder}: the tokenizer has {found[index]!r} at id {index}, where {family.name} has {special}; "
                "take the model's own"
            )
    return texts
