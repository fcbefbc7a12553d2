"""Binarize the text of `ppa prepare-bitext`, `prepare-xnli`, ...: all runs of fairseq-preprocess in one command.

For each language pair, as de-en, it runs

  fairseq-preprocess --user-dir ppa_fairseq --task ppa_alignment -s de -t en --trainpref TEXT/train.de-en \\
    --validpref TEXT/valid.de-en --srcdict TEXT/dict.txt --tgtdict TEXT/dict.txt --destdir DESTDIR

and for input0, input1 and label (without --task, with TEXT/labels.txt) of each language of NLI, as fr, and of what
`ppa prepare-classification` and `ppa prepare-tagging` wrote:

  fairseq-preprocess --only-source --user-dir ppa_fairseq --task xnli_codeswitch --srcdict TEXT/dict.txt \\
    --trainpref TEXT/fr/train.input0 --validpref TEXT/fr/valid.input0 --destdir DESTDIR/fr/input0

It copies the tokenizer's files, too. Bitext in shards (TEXT/shard0 ...) becomes DESTDIR/shard0 ..., which fairseq-train
takes as DESTDIR/shard0:DESTDIR/shard1: it reads one per epoch.
"""

import argparse
import logging
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import ppa_fairseq
from ppa_fairseq.checkpoints import tokenizer
from ppa_fairseq.commands.arguments import Once, add_workers_argument
from ppa_fairseq.data.bitext.corpora import find_pairs
from ppa_fairseq.data.classification.prepare import FIELDS
from ppa_fairseq.data.dictionary import read_symbols
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.utils.errors import InputError, quote
from ppa_fairseq.utils.files import output_folder

USER_DIR = Path(ppa_fairseq.__file__).parent
SPLITS = ("train", "valid", "test")
AGAIN = "prepare the text again"


class Job(NamedTuple):
    """A language pair, or a language of labelled text, and the runs of fairseq-preprocess that binarize it."""

    name: str
    files: dict[str, list[tuple[Path, Path]]]  # by split: files that are parallel line by line, with their dictionaries
    runs: list[list]  # arguments
    rows: str = "pairs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("text", metavar="TEXT", type=Path, help="folder that one of these commands wrote")
    add("--destdir", required=True, metavar="DESTDIR", type=Path, help="folder to write")
    add("--lang-pairs", metavar="A-B,C-D", action=Once, help="pairs to binarize (default: all in TEXT)")
    add_workers_argument(parser)


def run(args: argparse.Namespace) -> None:
    import fairseq_cli.preprocess  # noqa: F401  (the workers inherit it, and do not import it one by one)

    if not args.text.is_dir():
        raise InputError(f"{args.text}: no such folder; give one that `ppa prepare-bitext` or `ppa prepare-xnli` wrote")
    shards = (path for path in args.text.glob("shard*") if path.name[5:].isdecimal())
    folders = [folder.relative_to(args.text) for folder in sorted(shards, key=lambda path: int(path.name[5:]))]
    folders = folders or [Path()]
    with output_folder(args.destdir, "binarize") as out:
        if (args.text / "labels.txt").is_file():
            jobs = _labelled_jobs(args, out)
        else:
            jobs = [job for folder in folders for job in _bitext_jobs(args, folder, out)]
        with OrderedPool(min(args.workers, len(jobs)), _make_worker) as pool:
            for job, rows in pool.map(jobs):
                print(f"{job.name}: {', '.join(f'{count:,} {split}' for split, count in rows.items())} {job.rows}")
        for log in out.rglob("preprocess.log"):  # of temporary paths
            log.unlink()
        for name in tokenizer.FILES:
            if (args.text / name).is_file():
                shutil.copy(args.text / name, out)
    written = ":".join(str(args.destdir / folder) for folder in folders)
    print(f"written: {written}, the data argument of fairseq-train")


def _bitext_jobs(args: argparse.Namespace, shard: Path, out: Path) -> list[Job]:
    """The job for each language pair. Raises InputError if one of them is missing."""
    folder, dictionary = args.text / shard, args.text / "dict.txt"
    present = find_pairs(str(folder), "train", ending="")
    pairs = list(dict.fromkeys(args.lang_pairs.split(","))) if args.lang_pairs else present
    missing = [pair for pair in pairs if pair not in present]
    if missing or not pairs:
        found, names = ", ".join(present) or "no pair", ", ".join(missing) or "any language pair"
        raise InputError(f"{folder}: no train.A-B.LANGUAGE of {names} in it; it holds {found}")
    jobs = []
    for pair in pairs:
        source, target = pair.split("-")
        files = {split: [(folder / f"{split}.{pair}.{language}", dictionary) for language in (source, target)]
                 for split in SPLITS if any(folder.glob(f"{split}.{pair}.*"))}  # fmt: skip
        run = ["--user-dir", USER_DIR, "--task", "ppa_alignment", "-s", source, "-t", target, "--destdir", out / shard]
        run += ["--srcdict", dictionary, "--tgtdict", dictionary]
        run += [word for split in files for word in (f"--{split}pref", folder / f"{split}.{pair}")]
        jobs.append(Job(str(shard / pair), files, [run]))
    return jobs


def _labelled_jobs(args: argparse.Namespace, out: Path) -> list[Job]:
    """The job for each language, with a run for each field. Raises InputError if there is none."""
    if args.lang_pairs:
        raise InputError(f"--lang-pairs {args.lang_pairs}: {args.text} holds no bitext; remove the flag")
    fields = [field for field in FIELDS if field != FIELDS[1] or any(args.text.glob(f"*/*.{field}"))]
    languages = sorted({path.parent.name for field in fields for path in args.text.glob(f"*/*.{field}")})
    if not languages:
        raise InputError(f"{args.text}: no LANGUAGE/train.{FIELDS[0]} nor any other split in it; {AGAIN}")
    jobs = []
    for language in languages:
        folder, runs = args.text / language, []
        splits = [split for split in SPLITS if any(folder.glob(f"{split}.*"))]
        dictionaries = {field: args.text / ("labels.txt" if field == "label" else "dict.txt") for field in fields}
        for field, dictionary in dictionaries.items():
            run = ["--only-source", "--srcdict", dictionary, "--destdir", out / language / field]
            run += [] if field == "label" else ["--user-dir", USER_DIR, "--task", "xnli_codeswitch"]
            runs.append(run + [word for split in splits for word in (f"--{split}pref", folder / f"{split}.{field}")])
        files = {split: [(folder / f"{split}.{field}", dictionaries[field]) for field in fields] for split in splits}
        jobs.append(Job(language, files, runs, "pairs" if FIELDS[1] in fields else "sentences"))
    return jobs


def _make_worker():
    logging.disable(logging.INFO)  # fairseq-preprocess prints all its flags
    return _run_job


def _run_job(job: Job) -> dict[str, int]:
    """Check the files of a job and binarize them. Returns the number of rows by split."""
    from fairseq_cli import preprocess

    rows = {split: _count_rows(files) for split, files in job.files.items()}
    for arguments in job.runs:
        sys.argv = ["fairseq-preprocess", *map(str, arguments)]  # fairseq's parser also reads it by itself
        preprocess.cli_main()
        for handler in preprocess.logger.handlers[:]:  # fairseq opens a log for each run
            preprocess.logger.removeHandler(handler)
            handler.close()
    return rows


def _count_rows(files: list[tuple[Path, Path]]) -> int:
    """Rows of parallel files, of which each has the same number.

    Raises InputError on text that fairseq would make [UNK] of, or that could not be trained on.
    """
    counts = {}
    for text, dictionary in files:
        symbols, number = _symbols(dictionary), 0
        with open(text, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    tokens = line.decode().split()
                except UnicodeDecodeError as error:
                    raise InputError(f"{text}:{number}: not UTF-8 ({error.reason}); {AGAIN}") from None
                if not symbols.issuperset(tokens):
                    unknown = next(quote(token) for token in tokens if token not in symbols)
                    raise InputError(f"{text}:{number}: {unknown} is not in {dictionary}; {AGAIN}, with its tokenizer")
        counts[text] = number
    if len(set(counts.values())) > 1 or 0 in counts.values():
        lines = ", ".join(f"{text} has {number} lines" for text, number in counts.items())
        raise InputError(f"{lines}, but each needs as many as the others, at least one; {AGAIN}")
    return number


@cache
def _symbols(dictionary: Path) -> frozenset[str]:
    return frozenset(read_symbols(str(dictionary))[0])
