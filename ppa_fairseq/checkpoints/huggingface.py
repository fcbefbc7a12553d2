"""Hugging Face's BERT and XLM-RoBERTa folders: their names and sizes in ours, both ways, bit for bit."""

from pathlib import Path

import torch
from torch import Tensor

from ppa_fairseq.checkpoints import sentence_encoder, transformers_folder
from ppa_fairseq.checkpoints.hf_names import CLASSES, LAYOUTS, SIZES, Layout
from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files
from ppa_fairseq.checkpoints.weights import (
    CLASSIFICATION_HEAD,
    LM_HEAD,
    SPAN_HEAD,
    TAGGING_HEAD,
    Checkpoint,
    check_state,
    check_vocabulary,
    load_pickle,
    load_safetensors,
)
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.utils.errors import InputError, quote
from ppa_fairseq.utils.json_files import read_object

HEAD_SEED = 0  # draws the MLM head that a folder does not have
WORDS = "embeddings.word_embeddings.weight"  # how the name of the word embeddings ends
ADAPTER_FILE = "adapter_config.json"
MOST_PADDING = 1024  # word embeddings beyond the tokenizer's; mDeBERTa-v3 has 898


def read(folder: str | Path, transformers: bool = False) -> Checkpoint:
    """Read config.json, the weights and the tokenizer of a Hugging Face folder.

    A BERT or an XLM-RoBERTa becomes our own form, or with *transformers* that of every other model. In our own form a
    sequence or token classifier keeps its head and its labels, a question answerer its span head. A folder of
    sentence-transformers keeps its pooling and its length. If there is no MLM head, initialise one: in our form as
    BERT's was (dense N(0, 0.02) from a fixed seed, zero biases), else as transformers does. The result's `notes` say
    what was added and what left out. Raises InputError for anything else.
    """
    sentence = sentence_encoder.read(Path(folder))
    folder, notes = sentence.folder, sentence.notes
    config_file = folder / "config.json"
    if (folder / ADAPTER_FILE).is_file() and not config_file.is_file():
        raise InputError(
            f"{folder}: holds adapters of peft alone; merge them into their model (merge_and_unload), and give the "
            "folder of that"
        )
    config = read_object(config_file, "give a Hugging Face folder")
    if transformers or config.get("model_type", "bert") not in [layout.model_type for layout in LAYOUTS]:
        return read_any(folder, config, sentence)
    layout, shape = read_shape(config, config_file)
    tensors, source = read_tensors(folder)
    tensors = _without_wrapper(tensors, layout, source)
    heads = _heads(config, tensors, layout)
    if LM_HEAD in heads:
        _untie(tensors, source, layout)
    table = layout.name_table(shape.layers, heads)
    used = [name for theirs in table.values() for name in theirs]
    if missing := next((name for name in used if name not in tensors), None):
        raise InputError(f"{source}: tensor {missing} is missing; {transformers_folder.why_missing(config)}")
    state = {
        ours: torch.cat([tensors[name] for name in theirs]) if len(theirs) > 1 else tensors[theirs[0]]
        for ours, theirs in table.items()
    }
    labels = None
    if {CLASSIFICATION_HEAD, TAGGING_HEAD} & set(heads):  # where config.json names no classes, transformers has two
        names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
        try:
            labels = [names[str(index)] for index in range(len(names))]
        except (KeyError, TypeError):
            raise InputError(f"{config_file}: id2label does not name the classes 0, 1, ...; correct it") from None
    check_state(state, shape, str(source), labels)
    if not heads:
        state |= initial_head(shape, state["encoder.embed_tokens.weight"].dtype)
        notes.append(
            f"no MLM head in {source.name}: initialised one, dense layer N(0, 0.02) with seed {HEAD_SEED}, "
            "decoder tied to the word embeddings; before you train with TLM, `ppa fit-head` fits one to your data"
        )
    if labels:
        kind = "tagging" if TAGGING_HEAD in heads else "classification"
        notes.append(f"with its {kind} head: {len(labels)} classes, {labels[0]} to {labels[-1]}")
    if SPAN_HEAD in heads:
        notes.append("with its question-answering head")
    modules = {name.removesuffix(".weight").removesuffix(".bias") for name in tensors.keys() - set(used)}
    if left_out := sorted(modules - layout.copies):
        notes.append(f"left out, as alignment does not use it: {', '.join(left_out)}")
    texts = read_files(folder, min(shape.max_positions - shape.position_offset, sentence.max_length or 1 << 30))
    tokenizer = ModelTokenizer(texts, str(folder))
    if layout.required.get("pad_token_id", tokenizer.pad()) != tokenizer.pad():
        raise InputError(
            f"{folder}: the tokenizer's padding token has the id {tokenizer.pad()}, but the model's has "
            f"{layout.required['pad_token_id']}; take both from the same model"
        )
    if 0 < (unused := shape.vocab_size - len(tokenizer)) <= MOST_PADDING:
        notes.append(f"left out: the last {unused} word embeddings, which belong to no token of the tokenizer")
        shape.vocab_size = len(tokenizer)
        for name in {"encoder.embed_tokens.weight", LM_HEAD + "bias"} & state.keys():
            state[name] = state[name][: len(tokenizer)].clone()
    check_vocabulary(tokenizer, shape, str(folder))
    return Checkpoint(shape, state, texts, sentence.pooling, labels, notes=notes)


def read_any(folder: Path, config: dict, sentence: sentence_encoder.SentenceEncoder) -> Checkpoint:
    """Read a folder of any encoder that transformers loads. Raises InputError for anything else."""
    transformers_folder.read_config(config, folder / "config.json")  # which is faster than to read the weights
    tensors, source = read_tensors(folder)
    model, notes = transformers_folder.read_model(folder, config, tensors, source)
    texts = read_files(folder)
    tokenizer = ModelTokenizer(texts, str(folder))
    shape = transformers_folder.ask(model, tokenizer, str(folder))
    texts = read_files(folder, min(shape.max_positions, sentence.max_length or shape.max_positions))
    if unused := model.get_input_embeddings().num_embeddings - len(tokenizer):
        notes.append(f"{unused} word embeddings belong to no token of the tokenizer: they are kept, never predicted")
    state = transformers_folder.state_of(model, shape)
    check_state(state, shape, str(source))
    return Checkpoint(shape, state, texts, sentence.pooling, notes=[*sentence.notes, *notes])


def read_shape(config: dict, path: Path) -> tuple[Layout, BertShape]:
    """Find the kind of model and its sizes in a BERT's or an XLM-RoBERTa's config.json."""
    layout = next(layout for layout in LAYOUTS if layout.model_type == config.get("model_type", "bert"))
    for key, value in layout.required.items():
        if config.get(key, value) != value:
            raise InputError(
                f"{path}: {key} is {quote(config[key])}; {layout.name} can be imported with {value!r} only"
            )
    sizes = {}
    for size, (key, default) in SIZES.items():
        value = config.get(key, default)
        if not isinstance(value, (int, float)):
            raise InputError(f"{path}: {key} is {quote(value)}, not a number; fetch the file again")
        sizes[size] = value
    return layout, BertShape(**sizes, position_offset=layout.position_offset)


def read_tensors(folder: Path) -> tuple[dict[str, Tensor], Path]:
    """Read all tensors of the folder; return them and the file, or the index of files, that they came from."""
    for name, load in (("model.safetensors", load_safetensors), ("pytorch_model.bin", load_pickle)):
        whole, index = folder / name, folder / f"{name}.index.json"
        if whole.is_file():
            return load(whole), whole
        if index.is_file():
            tensors = {}
            for shard in sorted(set(read_object(index)["weight_map"].values())):
                if not (folder / shard).is_file():
                    raise InputError(f"{index}: names {shard}, which is missing; fetch all shards")
                tensors |= load(folder / shard)
            return tensors, index
    raise InputError(f"{folder}: no model.safetensors and no pytorch_model.bin; fetch the model's weights")


def initial_head(shape: BertShape, dtype: torch.dtype) -> dict[str, Tensor]:
    """Draw a new MLM head, the same each time."""
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
    """Return the tensors under Hugging Face's names, ready for safetensors: the reverse of reading."""
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
        if CLASSIFICATION_HEAD in _own_heads(checkpoint).values():
            config["problem_type"] = "single_label_classification"
        config["id2label"] = {str(index): label for index, label in enumerate(checkpoint.labels)}
        config["label2id"] = {label: index for index, label in enumerate(checkpoint.labels)}
    return config


def layout_of(shape: BertShape) -> Layout:
    """Find the kind of model whose positions start where `shape` has them start."""
    return next(layout for layout in LAYOUTS if layout.position_offset == shape.position_offset)


def _own_heads(checkpoint: Checkpoint) -> dict[str, str]:
    """The entries of CLASSES whose head the checkpoint has."""
    return {name: head for name, head in CLASSES.items() if any(key.startswith(head) for key in checkpoint.state)}


def _heads(config: dict, tensors: dict[str, Tensor], layout: Layout) -> tuple[str, ...]:
    """The heads to read: the MLM head that is there, and the one that the model's class is named after."""
    classes = config.get("architectures") or []
    heads = [head for ending, head in CLASSES.items() if head != LM_HEAD and layout.class_prefix + ending in classes]
    if config.get("problem_type") not in (None, "single_label_classification"):
        heads = [head for head in heads if head != CLASSIFICATION_HEAD]  # its logits do not choose one class
    if any(name.startswith(layout.mlm_prefix) for name in tensors):
        heads.append(LM_HEAD)
    return tuple(heads)


def _without_wrapper(tensors: dict[str, Tensor], layout: Layout, source: Path) -> dict[str, Tensor]:
    """Give the tensors today's names, without what wrappers put before them ("module.", "0.auto_model.", ...)."""
    words = [name for name in tensors if name.endswith(WORDS)]
    if len(words) != 1:
        found = f"{len(words)} encoders ({', '.join(words)})" if words else f"no tensor {layout.prefix}{WORDS}"
        raise InputError(f"{source}: {found}; give the weights of one {layout.name}")
    wrapper = words[0].removesuffix(WORDS).removesuffix(layout.prefix)
    if wrapper.endswith(tuple(other.prefix for other in LAYOUTS)):
        raise InputError(f"{source}: {words[0]} is not a {layout.name}'s; config.json belongs to another model")
    return {layout.current_name(name.removeprefix(wrapper)): tensor for name, tensor in tensors.items()}


def _untie(tensors: dict[str, Tensor], source: Path, layout: Layout) -> None:
    """Check that the decoder is the word embeddings again, and find its bias under either of its names."""
    decoder, bias = layout.mlm_prefix + "decoder.", layout.mlm_prefix + "bias"
    if decoder + "bias" in tensors:
        tensors.setdefault(bias, tensors[decoder + "bias"])
    for own, shared in ((decoder + "weight", layout.words), (decoder + "bias", bias)):
        if own in tensors and shared in tensors and not torch.equal(tensors[own], tensors[shared]):
            raise InputError(f"{source}: {own} differs from {shared}; only a tied MLM head can be taken")
