"""Hugging Face's BERT folders: their names and sizes in ours, both ways, bit for bit."""

import json
from pathlib import Path

import torch
from torch import Tensor

from ppa_fairseq.errors import InputError
from ppa_fairseq.models.bert_encoder import BertShape
from ppa_fairseq.tokenizer import complete, read_files, symbols
from ppa_fairseq.weights import Checkpoint, check_state, load_pickle, load_safetensors

HEAD_SEED = 0  # draws the MLM head that a folder does not have

# Size in BertShape -> key of config.json, and what transformers takes where the key is absent.
SIZES = {
    "vocab_size": ("vocab_size", None),
    "layers": ("num_hidden_layers", None),
    "dim": ("hidden_size", None),
    "ffn_dim": ("intermediate_size", None),
    "heads": ("num_attention_heads", None),
    "max_positions": ("max_position_embeddings", None),
    "token_types": ("type_vocab_size", 2),
    "layer_norm_eps": ("layer_norm_eps", 1e-12),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
}
# Another value of these keys would be another network; where one is absent, transformers takes this value.
REQUIRED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}

EMBEDDINGS = {
    "embed_tokens": "word_embeddings",
    "embed_positions": "position_embeddings",
    "embed_token_types": "token_type_embeddings",
}
LAYER = {
    "self_attn.qkv_proj": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "self_attn.out_proj": ("attention.output.dense",),
    "self_attn_layer_norm": ("attention.output.LayerNorm",),
    "fc1": ("intermediate.dense",),
    "fc2": ("output.dense",),
    "final_layer_norm": ("output.LayerNorm",),
}
HEAD = "cls.predictions."
# No weights of their own: index buffers of old releases; the decoder, which is the word embeddings again.
COPIES = {"bert.embeddings.position_ids", "bert.embeddings.token_type_ids", HEAD + "decoder"}


def name_table(layers: int) -> dict[str, tuple[str, ...]]:
    """Our name of a tensor -> Hugging Face's names of the tensors that it holds, stacked in this order."""
    table = {f"encoder.{ours}.weight": (f"bert.embeddings.{it}.weight",) for ours, it in EMBEDDINGS.items()}
    modules = {"encoder.layernorm_embedding": ("bert.embeddings.LayerNorm",)}
    for i in range(layers):
        for ours, theirs in LAYER.items():
            modules[f"encoder.layers.{i}.{ours}"] = tuple(f"bert.encoder.layer.{i}.{name}" for name in theirs)
    modules["lm_head.dense"] = (HEAD + "transform.dense",)
    modules["lm_head.layer_norm"] = (HEAD + "transform.LayerNorm",)
    for ours, theirs in modules.items():
        for kind in ("weight", "bias"):
            table[f"{ours}.{kind}"] = tuple(f"{name}.{kind}" for name in theirs)
    table["lm_head.bias"] = (HEAD + "bias",)
    return table


def read(folder: str | Path) -> Checkpoint:
    """Read config.json, the weights and the tokenizer of a Hugging Face BERT folder.

    A missing MLM head is initialised as BERT's was (dense N(0, 0.02) from a fixed seed, zero biases); the
    result's `notes` say so, and what was left out. Raises InputError for whatever is not a BERT.
    """
    folder = Path(folder)
    shape = read_shape(folder / "config.json")
    tensors, source = read_tensors(folder)
    tensors = {current_name(name): tensor for name, tensor in tensors.items()}
    notes = []
    table = name_table(shape.layers)
    has_head = any(name.startswith(HEAD) for name in tensors)
    if has_head:
        _untie(tensors, source)
    else:
        table = {ours: theirs for ours, theirs in table.items() if ours.startswith("encoder.")}
    state = {}
    for ours, theirs in table.items():
        for name in theirs:
            if name not in tensors:
                raise InputError(f"{source}: no tensor {name}: not whole, or config.json is another model's")
        state[ours] = torch.cat([tensors[name] for name in theirs]) if len(theirs) > 1 else tensors[theirs[0]]
    if not has_head:
        state |= initial_head(shape, state["encoder.embed_tokens.weight"].dtype)
        notes.append(
            f"no MLM head in {source.name}: initialised one, dense layer N(0, 0.02) with seed {HEAD_SEED}, "
            "decoder tied to the word embeddings"
        )
    check_state(state, shape, str(source))
    used = {name for theirs in table.values() for name in theirs}
    modules = {name.removesuffix(".weight").removesuffix(".bias") for name in tensors.keys() - used}
    if left_out := sorted(modules - COPIES):
        notes.append(f"left out, having no part in alignment: {', '.join(left_out)}")
    return Checkpoint(shape, state, _read_tokenizer(folder, shape), notes=notes)


def read_shape(path: Path) -> BertShape:
    """The sizes in a config.json. Raises InputError if it is no BERT's."""
    config = _read_json(path)
    for key, wanted in REQUIRED.items():
        if config.get(key, wanted) != wanted:
            raise InputError(f"{path}: {key} is {config[key]!r}; only a BERT with {wanted!r} can be taken")
    sizes = {}
    for size, (key, default) in SIZES.items():
        value = config.get(key, default)
        kind = type(getattr(BertShape, size))
        if type(value) not in (int, kind) or value < (1 if kind is int else 0):
            raise InputError(f"{path}: {key} is {value!r}, which is no size; fetch the file again")
        sizes[size] = kind(value)
    shape = BertShape(**sizes)
    if shape.dim % shape.heads:
        raise InputError(
            f"{path}: hidden_size {shape.dim} is no multiple of its {shape.heads} attention heads"
        )
    return shape


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


def current_name(name: str) -> str:
    """The name that today's BertForMaskedLM gives to a tensor of any BERT model and release."""
    if name.startswith(("embeddings.", "encoder.", "pooler.")):
        name = "bert." + name
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


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
    """The reverse of reading: tensors under the names of BertForMaskedLM, ready for safetensors."""
    tensors = {}
    for ours, theirs in name_table(checkpoint.shape.layers).items():
        if ours in checkpoint.state:
            parts = checkpoint.state[ours].chunk(len(theirs))
            tensors |= {name: tensor.contiguous() for name, tensor in zip(theirs, parts, strict=True)}
    return tensors


def to_config(checkpoint: Checkpoint) -> dict:
    """config.json for `to_tensors`."""
    has_head = "lm_head.bias" in checkpoint.state
    dtype = checkpoint.state["encoder.embed_tokens.weight"].dtype
    return {
        "architectures": ["BertForMaskedLM" if has_head else "BertModel"],
        **REQUIRED,
        **{key: getattr(checkpoint.shape, size) for size, (key, _) in SIZES.items()},
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a Hugging Face BERT folder") from None
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error}); fetch the file again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: no JSON object; fetch the file again")
    return content


def _shards(index: Path) -> list[Path]:
    weight_map = _read_json(index).get("weight_map")
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
    return tensors


def _untie(tensors: dict[str, Tensor], source: Path) -> None:
    """Check that the decoder is the word embeddings again, and find its bias under either of its names."""
    words = "bert.embeddings.word_embeddings.weight"
    for own, shared in ((HEAD + "decoder.weight", words), (HEAD + "decoder.bias", HEAD + "bias")):
        if own in tensors and shared == HEAD + "bias":
            tensors.setdefault(shared, tensors[own])
        if own in tensors and shared in tensors and not torch.equal(tensors[own], tensors[shared]):
            raise InputError(f"{source}: {own} differs from {shared}; only a tied MLM head can be taken")


def _read_tokenizer(folder: Path, shape: BertShape) -> dict[str, str]:
    """The tokenizer's files, complete, with one symbol for each word embedding."""
    texts = complete(read_files(folder), str(folder), shape.max_positions)
    found = len(symbols(texts, str(folder)))
    if found != shape.vocab_size:
        raise InputError(
            f"{folder}: the vocabulary has {found} entries and the word embeddings {shape.vocab_size} rows; "
            "take vocabulary and weights from the same model"
        )
    return texts
