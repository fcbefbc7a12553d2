"""Encoder weights at rest: what every reader returns, how files are opened safely, what is checked."""

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ppa_fairseq.modules.bert import BertEncoder, BertShape, MaskedLMHead
from ppa_fairseq.modules.heads import ClassificationHead, SpanHead
from ppa_fairseq.modules.host_memory import at_most
from ppa_fairseq.utils.errors import InputError, shown

LM_HEAD = "lm_head."
CLASSIFICATION_HEAD = "classification_heads.sentence_classification_head."  # as fairseq's sentence_prediction names it
HEAD_NAME = CLASSIFICATION_HEAD.split(".")[1]  # as fairseq's sentence_prediction asks for it
SPAN_HEAD = "span_head."
LARGEST_SIZE = 1 << 24  # of whatever a configuration counts
MEMORY_SHARE, MEMORY_BASE = 2, 256 << 20  # reading a file of n bytes takes 2 n and 256 MiB at the most
MOST_VALUES, DEEPEST = 1 << 16, 32  # in a checkpoint; those of 12 layers were seen to have 1,684 values, 7 deep
PARTS = ("encoder.", LM_HEAD, CLASSIFICATION_HEAD, SPAN_HEAD)


@dataclass
class Checkpoint:
    """An encoder at rest: `state` has `encoder.*` and whatever heads there are, under `PARTS`."""

    shape: BertShape
    state: dict[str, Tensor]
    tokenizer: dict[str, str]  # file name -> text
    pooling: str | None = None  # "cls" or "mean", if training chose one
    labels: list[str] | None = None  # of the classification head's classes, in their order
    xlm_tlm: bool = False  # whether its TLM had XLM's positions or language embeddings
    training: dict[str, dict] = field(default_factory=dict)  # fairseq's "task", "checkpoint" and "extra_state", if any
    notes: list[str] = field(default_factory=list)  # what the reader left out or added, for the user
    left_behind: list[str] = field(default_factory=list)  # modules of a training checkpoint that nobody needs after it


def load_pickle(path: Path):
    """`torch.load` to the CPU of a file nobody vouches for: tensors and plain data come out, no code is run.

    Raises InputError if it is truncated, foreign, compressed, holds any other object, or asks for memory that its size
    does not explain.
    """
    with _opened(path, "no PyTorch file"):
        if zipped := zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise InputError(f"{path}: is compressed, as torch.save never does; unpack it and fetch it anew")
                if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                    raise InputError(f"{path}: its tensors lie over each other, more than the file explains: refused")
                for member in archive.infolist():
                    archive.open(member).close()  # is it where it should be? torch does not look, where it maps
        torch.serialization.add_safe_globals([argparse.Namespace])  # fairseq stores parts of its config so
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickle protocols, before the error
            # Mapped, a training checkpoint's optimizer state is never read. Files of torch < 1.6 cannot be.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def load_training(path: Path):
    """`load_pickle` of what a training goes on from: fairseq reads it after this, and copies what is in it.

    Only the tensors' sizes are looked at. Raises InputError also if any tensor in it fails `check_stored`, or if its
    values are nested without end.
    """
    content = load_pickle(path)
    check_stored(_tensors_in(content, str(path)), str(path), MEMORY_SHARE * path.stat().st_size)  # tied have two names
    return content


def _tensors_in(content, source: str) -> Iterator[tuple[str, Tensor]]:
    # Level by level. A value counts wherever it stands: a list of a list of itself is small in a file alone.
    level, values = [("content", content)], 0
    for depth in count():
        inner = []
        for name, value in level:
            if isinstance(value, Tensor):
                yield shown(name), value
                continue
            if isinstance(value, argparse.Namespace):
                value = vars(value)
            if isinstance(value, dict):
                inside = value.items()
            else:
                inside = [(name, item) for item in value] if isinstance(value, (list, tuple, set)) else ()
            values += len(inside)
            if values > MOST_VALUES or depth > DEEPEST:
                raise InputError(f"{source}: its values are nested without end, or too many for a checkpoint: refused")
            inner += inside
        if not inner:
            return
        level = inner


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises InputError if it is truncated or foreign."""
    with _opened(path, "no safetensors file"):
        return load_file(path)


@contextmanager
def _opened(path: Path, otherwise: str) -> Iterator[None]:
    """Read *path* in this block: a broken or hostile file raises anything there, and InputError comes out."""
    path.open("rb").close()  # what the system refuses is told as it is
    size = path.stat().st_size
    try:
        with at_most(MEMORY_SHARE * size + MEMORY_BASE):
            yield
    except InputError:
        raise
    except Exception as error:
        if unsafe := re.search(r"GLOBAL ([\w.]{1,80})", str(error)):
            raise InputError(
                f"{path}: holds a Python object ({unsafe[1]}) beside its weights, and no file's code is run; "
                "re-save it as safetensors where you trust it"
            ) from error
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise InputError(f"{path}: asks for more memory than a file of {size:,} bytes can need: refused") from error
        detail = f" ({error})" if isinstance(error, SafetensorError) else ""
        raise InputError(f"{path}: truncated, or {otherwise}{detail}; copy it again") from error


def check_stored(tensors: Iterable[tuple[str, Tensor]], source: str, size: int) -> None:
    """Raise InputError unless each of `tensors` lies whole in its file, and together they take `size` bytes at most."""
    needed = 0
    for name, tensor in tensors:
        plain = not (tensor.is_nested or tensor.is_quantized or tensor.is_meta) and tensor.layout is torch.strided
        if not plain or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise InputError(f"{source}: {name} is no plain tensor, or larger than what is stored of it: refused")
        needed += tensor.nbytes
    if needed > size:
        raise InputError(f"{source}: its tensors would take {needed:,} bytes, more than the file explains: refused")


def check_sizes(shape: BertShape, tensors: int, source: str) -> None:
    """Raise InputError if `shape` holds something that is no size, or more layers than `tensors` can fill."""
    for name, value in asdict(shape).items():
        if isinstance(getattr(BertShape, name), float):
            fits = type(value) in (int, float) and 0 <= value < 1
        else:
            fits = type(value) is int and (name != "position_offset") <= value <= LARGEST_SIZE
        if not fits:
            told = shown(value) if isinstance(value, (int, float)) else type(value).__name__
            raise InputError(f"{source}: {name} is {told}, which is no size of an encoder; copy the file again")
    if shape.layers > tensors:
        raise InputError(
            f"{source}: {tensors} tensors are not {shape.layers:,} layers, as its configuration has it; take weights "
            "and configuration from the same model"
        )


@contextmanager
def no_values() -> Iterator[None]:
    """Modules built in this block have names and sizes but neither memory nor initial values."""
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


def check_state(state: dict[str, Tensor], shape: BertShape, source: str, labels: list[str] | None = None) -> None:
    """Raise InputError unless `state` is an encoder of `shape`, finite, each of its heads whole or absent."""
    check_sizes(shape, len(state), source)
    with no_values():
        modules = {"encoder.": BertEncoder(shape)}
        if part(state, LM_HEAD):
            modules[LM_HEAD] = MaskedLMHead(shape.dim, shape.vocab_size, shape.layer_norm_eps)
        if part(state, CLASSIFICATION_HEAD):
            classes = len(state.get(CLASSIFICATION_HEAD + "out_proj.bias", ()))
            if classes != len(labels or ()):
                raise InputError(
                    f"{source}: its classification head has {classes} classes, but it names {len(labels or ())} "
                    "labels; head and labels belong to different trainings"
                )
            modules[CLASSIFICATION_HEAD] = ClassificationHead(shape.dim, classes, shape.dropout)
        if part(state, SPAN_HEAD):
            modules[SPAN_HEAD] = SpanHead(shape.dim)
    expected = {
        prefix + name: tuple(tensor.shape)
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    for name, size in expected.items():
        if name not in state:
            raise InputError(f"{source}: {name} is missing, so the file is not whole or not this model's")
        tensor = state[name]
        if tuple(tensor.shape) != size or not tensor.is_floating_point():
            raise InputError(
                f"{source}: {name} is {tuple(tensor.shape)} of {tensor.dtype}, not {size} of floating point; "
                "the sizes in its configuration belong to another model, or the weights are quantised"
            )
        if not tensor.sum(dtype=torch.float64).isfinite():
            raise InputError(f"{source}: {name} holds NaN or infinity; take an earlier checkpoint")
    if surplus := sorted(state.keys() - expected.keys()):
        raise InputError(f"{source}: {shown(surplus[0])} has no place in an encoder of {shape.layers} layers")
