"""Flags that several commands share, and their checks before any work."""

import argparse
import math
import os
from pathlib import Path

from ppa_fairseq.data.text_files import is_unicode
from ppa_fairseq.utils.errors import InputError


class Once(argparse.Action):
    """Refuse a flag that is given twice; argparse would silently keep the last."""

    def __call__(self, parser, namespace, values, option_string=None):
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "given twice; give it once")
        setattr(namespace, self.dest, values)


def add_models_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--model NAME=PATH`, repeatable, as `models`: a list of (name, path). `what` describes PATH."""
    parser.add_argument("--model", dest="models", metavar="NAME=PATH", type=named_path, action="append", required=True,
        help=f"{what} and a name for it; repeat the flag for several models")  # fmt: skip


def add_batching_arguments(
    parser: argparse.ArgumentParser,
    max_length: int | None = None,
    default: str = "the length of the encoder's position table",
) -> None:
    """Add --max-length (default: `max_length`, or what `default` says), --batch-tokens, --cpu and --dtype."""
    parser.add_argument("--max-length", metavar="N", type=positive, default=max_length,
        help=f"cut input to N tokens (default: {max_length or default})")  # fmt: skip
    parser.add_argument("--batch-tokens", metavar="N", type=positive, default=4096,
        help="tokens in a batch; changes only speed and memory (default: 4096)")  # fmt: skip
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    parser.add_argument("--dtype", choices=("auto", "float32", "float16", "bfloat16"), default="auto",
        help="compute in this type; in half precision the command prints by how much results are off (default: auto, "
             "bfloat16 on a CPU with AVX512-BF16 or AMX, else float32)")  # fmt: skip


def add_embedding_arguments(parser: argparse.ArgumentParser, both: bool = False) -> None:
    """Add --pooling, which may be "both" if `both`, and the batching arguments, for `load_embedder`."""
    parser.add_argument("--pooling", choices=("cls", "mean", "both") if both else ("cls", "mean"),
        help="the vector of a sentence (default: what the model was trained with, or mean)")  # fmt: skip
    add_batching_arguments(parser, default="the model's own limit")


def add_columns_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--columns`, as two numbers from 0."""
    parser.add_argument("--columns", metavar="A,B", type=two_columns, default=(0, 1),
        help="columns of the two languages in a TSV file, in this order, from 1 (default: 1,2)")  # fmt: skip


def add_unquote_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--unquote`."""
    parser.add_argument("--unquote", action="store_true",
        help='read TSV as a CSV writer writes it, "a ""b""" for a "b" (default: quotes are text)')  # fmt: skip


def add_workers_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--workers`."""
    parser.add_argument("--workers", metavar="N", type=positive, default=len(os.sched_getaffinity(0)),
        help="processes (default: one per CPU core)")  # fmt: skip


def two_columns(text: str) -> tuple[int, int]:
    columns = [int(column) - 1 if column.isdecimal() else -1 for column in text.split(",")]
    if len(columns) != 2 or columns[0] == columns[1] or min(columns) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not two different numbers from 1, as in 2,1")
    return columns[0], columns[1]


def columns_or_names(text: str) -> tuple[int, int] | tuple[str, str]:
    """`two_columns`, or two names."""
    names = tuple(text.split(","))
    if len(names) == 2 and all(names) and names[0] != names[1] and not any(name.isdecimal() for name in names):
        return names
    return two_columns(text)


def column_or_name(text: str) -> int | str:
    return positive(text) - 1 if text.isdecimal() else text


def finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError("must be a number")
    return number


def named_path(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH, as in before=mbert/")
    if not is_unicode(name):  # tables and plots contain it
        raise argparse.ArgumentTypeError(f"{text!r}: the name is not UTF-8")
    return name, Path(path)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def check_models(models: list[tuple[str, Path]], name_files: bool = False) -> None:
    """Raise InputError if two models share a name, one does not exist, or a name cannot be part of a file's name."""
    names = [name for name, _ in models]
    for name, path in models:
        if name_files and "/" in name:
            raise InputError(f"--model {name}=…: the name becomes part of a file's name; leave the / out")
        if names.count(name) > 1:
            raise InputError(f"--model {name}=…: two models of this name; give each its own")
        if not path.exists():
            raise InputError(f"--model {name}={path}: no such file or folder")
