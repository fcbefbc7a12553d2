"""Binarize the text of `ppa prepare-bitext` or `ppa prepare-xnli`: all runs of fairseq-preprocess in one command.

For each language pair, as de-en, it runs

  fairseq-preprocess --user-dir ppa_fairseq --task ppa_alignment -s de -t en --trainpref TEXT/train.de-en \\
    --validpref TEXT/valid.de-en --srcdict TEXT/dict.txt --tgtdict TEXT/dict.txt --destdir DESTDIR

and for input0, input1 and label (without --task, with TEXT/labels.txt) of each language of NLI, as fr:

  fairseq-preprocess --only-source --user-dir ppa_fairseq --task xnli_codeswitch --srcdict TEXT/dict.txt \\
    --trainpref TEXT/fr/train.input0 --validpref TEXT/fr/valid.input0 --destdir DESTDIR/fr/input0

It prints what fairseq-preprocess says about each file, and copies the tokenizer's files. Bitext in shards
(TEXT/shard0 ...) becomes DESTDIR/shard0 ..., which fairseq-train takes as DESTDIR/shard0:DESTDIR/shard1: it reads one
per epoch.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import ppa_fairseq
from ppa_fairseq.checkpoints import tokenizer
from ppa_fairseq.commands.arguments import Once, add_workers_argument
from ppa_fairseq.data.bitext.corpora import find_pairs
from ppa_fairseq.data.nli.prepare import FIELDS
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder

USER_DIR = Path(ppa_fairseq.__file__).parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("text", metavar="TEXT", type=Path, help="folder that one of the two commands wrote")
    add("--destdir", required=True, metavar="DESTDIR", type=Path, help="folder to write")
    add("--lang-pairs", metavar="A-B,C-D", action=Once, help="pairs to binarize (default: all in TEXT)")
    add_workers_argument(parser)


def run(args: argparse.Namespace) -> None:
    import fairseq_cli.preprocess  # noqa: F401  (the workers inherit it, and do not import it one by one)

    if not args.text.is_dir():
        raise InputError(f"{args.text}: no such folder; give one that `ppa prepare-bitext` or `ppa prepare-xnli` wrote")
    folders = sorted(args.text.glob("shard*"), key=lambda path: int(path.name[5:])) or [args.text]
    with output_folder(args.destdir, "binarize") as out:
        if (args.text / "labels.txt").is_file():
            runs = _nli_runs(args.text, out)
        else:
            places = ((folder, out / folder.relative_to(args.text)) for folder in folders)
            runs = list(chain.from_iterable(_bitext_runs(args, *place) for place in places))
        with OrderedPool(min(args.workers, len(runs)), _make_worker) as pool:
            for _ in pool.map(runs):
                pass
        for log in out.rglob("preprocess.log"):  # it names temporary paths
            log.unlink()
        for name in tokenizer.FILES:
            if (args.text / name).is_file():
                shutil.copy(args.text / name, out)
    written = ":".join(str(args.destdir / folder.relative_to(args.text)) for folder in folders)
    print(f"written: {written}, the data argument of fairseq-train")


def _bitext_runs(args: argparse.Namespace, folder: Path, out: Path) -> list[list]:
    """The arguments of fairseq-preprocess for each language pair. Raises InputError if one of them is missing."""
    present = find_pairs(str(folder), "train", ending="")
    pairs = args.lang_pairs.split(",") if args.lang_pairs else present
    if not pairs or not set(pairs) <= set(present):
        missing, found = ", ".join(set(pairs) - set(present)) or "any language pair", ", ".join(present) or "no pair"
        raise InputError(f"{folder}: no train.A-B.LANGUAGE of {missing} in it; it holds {found}")
    dictionary, runs = args.text / "dict.txt", []
    for pair in pairs:
        source, target = pair.split("-")
        run = ["--user-dir", USER_DIR, "--task", "ppa_alignment", "-s", source, "-t", target, "--destdir", out]
        runs.append([*run, "--srcdict", dictionary, "--tgtdict", dictionary, *_prefixes(folder, pair)])
    return runs


def _nli_runs(folder: Path, out: Path) -> list[list]:
    """The arguments of fairseq-preprocess for each field of each language. Raises InputError if there is none."""
    languages = sorted({path.parent.name for path in folder.glob(f"*/*.{FIELDS[0]}")})
    if not languages:
        raise InputError(f"{folder}: no LANGUAGE/train.{FIELDS[0]} nor any other split in it; prepare the text again")
    runs = []
    for language in languages:
        for field in FIELDS:
            words = ["--user-dir", USER_DIR, "--task", "xnli_codeswitch", "--srcdict", folder / "dict.txt"]
            run = ["--srcdict", folder / "labels.txt"] if field == "label" else words
            prefixes = _prefixes(folder / language, field)
            runs.append(["--only-source", *run, "--destdir", out / language / field, *prefixes])
    return runs


def _prefixes(folder: Path, name: str) -> list:
    splits = [split for split in ("train", "valid", "test") if any(folder.glob(f"{split}.{name}*"))]
    return [word for split in splits for word in (f"--{split}pref", folder / f"{split}.{name}")]


def _make_worker() -> Callable[[list], None]:
    from fairseq_cli import preprocess

    preprocess.logger.addFilter(lambda record: " sents, " in record.getMessage())  # one line for each file

    def run_preprocess(arguments: list) -> None:
        sys.argv = ["fairseq-preprocess", *map(str, arguments)]  # fairseq's parser also reads it by itself
        preprocess.cli_main()

    return run_preprocess
