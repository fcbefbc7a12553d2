"""Flags that several commands have, and what is checked of them before any work."""

import argparse
from pathlib import Path

from ppa_fairseq.data.text_files import is_unicode
from ppa_fairseq.utils.errors import InputError


class Once(argparse.Action):
    """Stores what is to be read or measured: of a flag given twice, argparse would keep the last without a word."""

    def __call__(self, parser, namespace, values, option_string=None):
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "given twice, and only the last would count; give it once")
        setattr(namespace, self.dest, values)


def add_models_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """`--model NAME=PATH`, repeatable, as `models`: a list of (name, path). `what` says what PATH is."""
    help_text = f"{what}, and what to call it; once for each"
    parser.add_argument("--model", dest="models", metavar="NAME=PATH", type=named_path, action="append",
        required=True, help=help_text)  # fmt: skip


def add_batching_arguments(parser: argparse.ArgumentParser, max_length: int | None = None) -> None:
    """How input is cut and batched; `max_length` is the default of `--max-length`, None: the position table's."""
    add = parser.add_argument
    default = max_length or "what the encoder's position table holds"
    add("--max-length", metavar="N", type=positive, default=max_length,
        help=f"cut input to N pieces (default: {default})")  # fmt: skip
    add("--batch-tokens", metavar="N", type=positive, default=4096,
        help="pieces in a batch; changes speed and memory only (default: 4096)")  # fmt: skip
    add("--cpu", action="store_true", help="stay off the GPU")


def add_columns_argument(parser: argparse.ArgumentParser) -> None:
    """`--columns`, as two numbers from 0."""
    parser.add_argument("--columns", metavar="A,B", type=two_columns, default=(0, 1),
        help="where a TSV holds the two languages, in this order, from 1 (default: 1,2)")  # fmt: skip


def two_columns(text: str) -> tuple[int, int]:
    columns = [int(column) - 1 if column.isdecimal() else -1 for column in text.split(",")]
    if len(columns) != 2 or columns[0] == columns[1] or min(columns) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not two different numbers from 1, as in 2,1")
    return columns[0], columns[1]


def named_path(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH, as in before=mbert/")
    if not is_unicode(name):  # it is written into tables and plots
        raise argparse.ArgumentTypeError(f"{text!r}: the name is not UTF-8")
    return name, Path(path)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def check_models(models: list[tuple[str, Path]], name_files: bool = False) -> None:
    """Raise InputError if two models have one name, one is not there, or a name can't be part of a file's, if it is."""
    names = [name for name, _ in models]
    for name, path in models:
        if name_files and "/" in name:
            raise InputError(f"--model {name}=…: the name becomes part of a file's name; leave the / out")
        if names.count(name) > 1:
            raise InputError(f"--model {name}=…: two models of this name; name each differently")
        if not path.exists():
            raise InputError(f"--model {name}={path}: no such file or folder")
