"""What the commands that prepare labelled text share: their flags."""

import argparse
import os

from ppa_fairseq.commands.arguments import positive
from ppa_fairseq.utils.errors import InputError

SPLITS = ("train", "valid", "test")


def add_preparation_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --tokenizer, --out, a flag for each split, --langs and --workers."""
    add = parser.add_argument
    add("--tokenizer", required=True, metavar="DIR", help="folder that `ppa import-hf` wrote, or a Hugging Face model")
    add("--out", required=True, metavar="OUT", help="folder to write")
    for split in SPLITS:
        help_text = f"files or folders of the {split} split"
        add(f"--{split}", nargs="+", action="extend", default=[], metavar="[LANG=]PATH", help=help_text)
    add("--langs", metavar="A,B,C", help="languages to take (default: all in the files)")
    add("--workers", type=positive, metavar="N", help="threads that tokenize (default: all cores)")


def languages_of(args: argparse.Namespace) -> list[str]:
    """The languages of --langs, if any."""
    return args.langs.split(",") if args.langs else []


def limit_workers(args: argparse.Namespace) -> None:
    """Let the tokenizers library use no more threads than --workers."""
    if args.workers:
        os.environ["RAYON_NUM_THREADS"] = str(args.workers)  # what the library reads


def refuse_nothing(args: argparse.Namespace) -> None:
    """Raise InputError unless a split has files."""
    if not any(getattr(args, split) for split in SPLITS):
        raise InputError("nothing to prepare; name files with --train, --valid or --test")


def read_splits(args: argparse.Namespace, kind: str, csv_quotes: bool = False) -> dict[str, dict]:
    """Read the examples of each split, by language; *kind* as in `labelled.READERS`."""
    from ppa_fairseq.data.labelled import read_by_language

    refuse_nothing(args)
    return {
        split: read_by_language(sources, kind, csv_quotes, languages_of(args))
        for split in SPLITS
        if (sources := getattr(args, split))
    }
