"""The weights of an encoder and its heads: what every reader returns, how files are opened safely, what is checked."""

import argparse
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, max_length
from ppa_fairseq.modules import encoders
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.modules.encoders import CLASSIFICATION, MASKED_LM, SPANS, TAGS, Encoder, Shape
from ppa_fairseq.utils.errors import InputError, quote

LM_HEAD = "lm_head."
CLASSIFICATION_HEAD = "classification_heads.sentence_classification_head."  # as fairseq's sentence_prediction names it
HEAD_NAME = CLASSIFICATION_HEAD.split(".")[1]  # as fairseq's sentence_prediction asks for it
SPAN_HEAD, TAGGING_HEAD = "span_head.", "tagging_head."
FINETUNED_HEADS = (CLASSIFICATION_HEAD, SPAN_HEAD, TAGGING_HEAD)
KINDS = {LM_HEAD: MASKED_LM, CLASSIFICATION_HEAD: CLASSIFICATION, SPAN_HEAD: SPANS, TAGGING_HEAD: TAGS}
PARTS = ("encoder.", *KINDS)


@dataclass
class Checkpoint:
    """An encoder at rest: `state` has `encoder.*` and whatever heads there are, under `PARTS`."""

    shape: Shape
    state: dict[str, Tensor]
    tokenizer: dict[str, str]  # file name -> text
    pooling: str | None = None  # "cls" or "mean", if training or a sentence encoder's folder chose one
    labels: list[str] | None = None  # of the head's classes, in their order, if it is to classify texts or words
    xlm_tlm: bool = False  # whether its TLM had XLM's positions or language embeddings
    # fairseq's "task", "checkpoint", "criterion" and "extra_state", and its number of "updates", if any
    training: dict[str, dict | int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what the reader left out or added, for the user
    left_behind: list[str] = field(default_factory=list)  # modules of a training checkpoint that nobody needs after it
    adapters: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # LoRA's A and B by layer; merged in state

    @property
    def kinds(self) -> list[str]:
        """The kinds of its heads."""
        return list(_heads(self.state, self.shape).values())

    @property
    def max_length(self) -> int:
        """The longest sequence, in tokens: what the tokenizer's files say, or else what the positions allow."""
        positions = self.shape.max_positions - self.shape.position_offset
        return min(positions, max_length(self.tokenizer) or positions)

    def build_tokenizer(self, source: str) -> ModelTokenizer:
        """Build the tokenizer. Raises InputError if there is none, or if it belongs to another model."""
        tokenizer = ModelTokenizer(self.tokenizer, source)
        check_vocabulary(tokenizer, self.shape, source)
        return tokenizer

    def build_encoder(self, source: str) -> tuple[Encoder, Tokenizer]:
        """Build the encoder, in fp32 and eval mode, and its fast tokenizer. Raises InputError as `build_tokenizer`."""
        tokenizer = self.build_tokenizer(source).backend
        encoder, _ = build_empty(self.shape, next(iter(self.kinds), None), len(self.labels or ()))
        encoder.load_state_dict(part(self.state, "encoder."), assign=True)
        return encoder.float().eval(), tokenizer


def _heads(state: dict[str, Tensor], shape: Shape) -> dict[str, str]:
    """The prefixes and kinds of the heads in a checkpoint."""
    found = {prefix: kind for prefix, kind in KINDS.items() if any(name.startswith(prefix) for name in state)}
    # All weights of an MLM head can be tied, and with them the encoder's.
    return found if found or isinstance(shape, BertShape) else {LM_HEAD: MASKED_LM}


def build_empty(shape: Shape, kind: str | None, classes: int = 0) -> tuple[Encoder, nn.Module | None]:
    """`encoders.build` without values: no memory is used until the weights of a file are assigned."""
    # Models of transformers compute buffers when they are built, which no file has.
    with no_values() if isinstance(shape, BertShape) else nullcontext():
        return encoders.build(shape, kind, classes, initialise=False)


def check_vocabulary(tokenizer: ModelTokenizer, shape: Shape, source: str) -> None:
    """Raise InputError unless there is a word embedding for each token and no more."""
    if len(tokenizer) != shape.vocab_size:
        raise InputError(
            f"{source}: the tokenizer has {len(tokenizer):,} tokens and the model {shape.vocab_size:,} word "
            "embeddings; take both from the same model"
        )


def load_pickle(path: Path):
    """Load tensors and plain data from a file of `torch.save`, to the CPU, and run no code of the file.

    Raises InputError if it is truncated, foreign or holds any other object.
    """
    with path.open("rb"):  # a missing file or permission is the system's own error
        pass
    torch.serialization.add_safe_globals([argparse.Namespace])  # fairseq stores parts of its configuration as one
    try:
        # Mapped, the optimizer state of a training checkpoint is never read. Files of torch < 1.6 cannot be mapped.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a broken file raises anything
        raise InputError(
            f"{path}: truncated, not a PyTorch file, or it holds Python objects beside its weights; copy it again or, "
            "if you trust it, save it as safetensors: no code of a file is run"
        ) from error


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Load all tensors of a safetensors file. Raises InputError if it is truncated or foreign."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: truncated, or no safetensors file ({error}); copy it again") from error


@contextmanager
def no_values() -> Iterator[None]:
    """Let modules built in this block have names and sizes, but neither memory nor initial values."""
    with torch.device("meta"), _SkipInit():
        yield


class _SkipInit(TorchFunctionMode):
    # On the meta device torch's normal_() imports its compiler, for seconds.
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries of `state` under `prefix`, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def check_state(state: dict[str, Tensor], shape: Shape, source: str, labels: list[str] | None = None) -> None:
    """Raise InputError unless `state` is an encoder of `shape`, finite, each of its heads whole or absent."""
    modules = {}
    with no_values():
        for prefix, kind in (_heads(state, shape) or {"": None}).items():
            modules["encoder."], modules[prefix] = encoders.build(shape, kind, len(labels or ()), initialise=False)
    expected = {
        prefix + name: tuple(tensor.shape)
        for prefix, module in modules.items()
        if module is not None
        for name, tensor in module.state_dict().items()
    }
    for name, size in expected.items():
        if name not in state:
            raise InputError(f"{source}: {name} is missing; the file is not complete, or belongs to another model")
        tensor = state[name]
        if tuple(tensor.shape) != size or not tensor.is_floating_point():
            raise InputError(
                f"{source}: {name} is {tuple(tensor.shape)} of {tensor.dtype}, not {size} of floating point; "
                "its configuration (sizes, labels) belongs to another model, or the weights are quantised"
            )
        if not tensor.sum(dtype=torch.float64).isfinite():
            raise InputError(f"{source}: {name} holds NaN or infinity; take an earlier checkpoint")
    if surplus := sorted(state.keys() - expected.keys()):
        raise InputError(f"{source}: {quote(surplus[0])} has no place in an encoder of {shape.layers} layers")
