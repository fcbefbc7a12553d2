"""Binarize the text of `ppa prepare-bitext` or `ppa prepare-xnli`: all runs of fairseq-preprocess in one command.

For each language pair, as de-en, it runs

  fairseq-preprocess --user-dir ppa_fairseq --task ppa_alignment -s de -t en --trainpref TEXT/train.de-en \\
    --validpref TEXT/valid.de-en --srcdict TEXT/dict.txt --tgtdict TEXT/dict.txt --destdir DESTDIR

and for each language of NLI, as fr, the following; the second also for input1:

  fairseq-preprocess --only-source --srcdict TEXT/labels.txt --trainpref TEXT/fr/train.label \\
    --validpref TEXT/fr/valid.label --destdir DESTDIR/fr/label
  fairseq-preprocess --only-source --user-dir ppa_fairseq --task xnli_codeswitch --srcdict TEXT/dict.txt \\
    --trainpref TEXT/fr/train.input0 --validpref TEXT/fr/valid.input0 --destdir DESTDIR/fr/input0

It copies the tokenizer's files. Bitext in shards (TEXT/shard0 ...) becomes DESTDIR/shard0 ..., which fairseq-train
takes as DESTDIR/shard0:DESTDIR/shard1: it reads one per epoch.
"""

import argparse
import os
import re
import shutil
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints import tokenizer
from ppa_fairseq.commands.arguments import Once, positive
from ppa_fairseq.data.bitext.corpora import find_pairs
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.data.preprocess import Job, make_worker, nli_job, nli_languages, pair_job
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("text", metavar="TEXT", type=Path, help="folder that one of the two commands wrote")
    add("--destdir", required=True, metavar="DESTDIR", type=Path, help="folder to write")
    add("--srcdict", metavar="FILE", type=Path, help="dict.txt of the base model (default: TEXT/dict.txt)")
    add("--lang-pairs", metavar="A-B,C-D", action=Once, help="pairs to binarize (default: all in TEXT)")
    add("--workers", type=positive, default=len(os.sched_getaffinity(0)), metavar="N",
        help="language pairs, or languages of NLI, to binarize at a time (default: all cores)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    import fairseq_cli.preprocess  # noqa: F401  (the workers inherit it, and do not import it one by one)

    dictionary = args.srcdict or args.text / "dict.txt"
    folders = _text_folders(args.text)
    with output_folder(args.destdir, "binarize") as out:
        jobs = _jobs(args, folders, dictionary, out)
        counts = []
        with (
            OrderedPool(min(args.workers, len(jobs)), make_worker) as pool,
            tqdm(total=sum(job.size for job in jobs), unit="B", unit_scale=True) as progress,
        ):
            for job, count in pool.map(jobs):
                counts.append(count)
                progress.update(job.size)
        for name in tokenizer.FILES:
            if (dictionary.parent / name).is_file():
                shutil.copy(dictionary.parent / name, out)
    for job, count in zip(jobs, counts, strict=True):
        print(_summary(job, count))
    written = ":".join(str(args.destdir / folder.relative_to(args.text)) for folder in folders)
    print(f"written: {written}, the data argument of fairseq-train")


def _text_folders(folder: Path) -> list[Path]:
    """The folder itself, or its shards in their order. Raises InputError if there is no such folder."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that `ppa prepare-bitext` or `ppa prepare-xnli` wrote")
    shards = [path for path in folder.iterdir() if re.fullmatch(r"shard\d+", path.name)]
    return sorted(shards, key=lambda path: int(path.name[5:])) or [folder]


def _jobs(args: argparse.Namespace, folders: list[Path], dictionary: Path, out: Path) -> list[Job]:
    if (args.text / "labels.txt").is_file():
        if args.lang_pairs:
            raise InputError(f"--lang-pairs {args.lang_pairs}: {args.text} holds NLI, not bitext; remove the flag")
        return [nli_job(args.text, language, dictionary, out) for language in nli_languages(args.text)]
    jobs = []
    for folder in folders:
        present = find_pairs(str(folder), "train", ending="")
        names = args.lang_pairs.split(",") if args.lang_pairs else present
        missing = [name for name in names if name not in present]
        if missing or not names:
            raise InputError(
                f"{folder}: no train.A-B.LANGUAGE of {', '.join(missing) or 'any language pair'} in it; it holds "
                f"{', '.join(present) or 'no pair'}"
            )
        jobs += [pair_job(folder, name, dictionary, out / folder.relative_to(args.text)) for name in names]
    return jobs


def _summary(job: Job, counts: dict[str, Counter]) -> str:
    pairs = ", ".join(f"{count['rows']:,} {split}" for split, count in counts.items())
    folder = next(iter(job.files.values()))[0][0].parent.name
    shard = f"{folder}/" if re.fullmatch(r"shard\d+", folder) else ""
    return f"{shard}{job.name}: {pairs} pairs, {sum(count['tokens'] for count in counts.values()):,} tokens"
