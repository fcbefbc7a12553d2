"""Binarize the text of `ppa prepare-bitext` or `ppa prepare-xnli`: all calls of fairseq-preprocess in one go.

For a language pair de-en it does what this does, without starting fairseq anew each time:

  fairseq-preprocess --user-dir ppa_fairseq --task ppa_alignment -s de -t en --trainpref TEXT/train.de-en \\
    --validpref TEXT/valid.de-en --srcdict TEXT/dict.txt --tgtdict TEXT/dict.txt --destdir DESTDIR

and for NLI in French this, the second for input0 and input1:

  fairseq-preprocess --only-source --srcdict TEXT/labels.txt --trainpref TEXT/fr/train.label \\
    --validpref TEXT/fr/valid.label --destdir DESTDIR/fr/label
  fairseq-preprocess --only-source --user-dir ppa_fairseq --task xnli_codeswitch --srcdict TEXT/dict.txt \\
    --trainpref TEXT/fr/train.input0 --validpref TEXT/fr/valid.input0 --destdir DESTDIR/fr/input0

The tokenizer's files are copied along. Bitext in shards (TEXT/shard0 ...) becomes DESTDIR/shard0 ..., which
fairseq-train takes as DESTDIR/shard0:DESTDIR/shard1: it reads one an epoch.
"""

import argparse
import filecmp
import os
import re
import shutil
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints import tokenizer
from ppa_fairseq.commands.arguments import Once
from ppa_fairseq.data.nli.encoder import FIELDS
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.data.preprocess_jobs import Job, NLIJob, PairJob, binarize, save_dictionaries
from ppa_fairseq.utils.errors import InputError, shown
from ppa_fairseq.utils.files import output_folder

TRAIN_FILE = re.compile(r"train\.(\w+-\w+)\.\w+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", metavar="TEXT", type=Path, help="folder that one of the two commands wrote")
    parser.add_argument("--destdir", required=True, metavar="DESTDIR", type=Path, help="folder to write")
    parser.add_argument(
        "--srcdict", metavar="FILE", type=Path, help="dict.txt of the base model (default: TEXT/dict.txt)"
    )
    parser.add_argument("--lang-pairs", metavar="A-B,C-D", action=Once, help="pairs to binarize (default: all in TEXT)")
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="files to binarize at a time (default: all cores)",
    )


def run(args: argparse.Namespace) -> None:
    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: must be at least 1")
    source = args.srcdict or args.text / "dict.txt"
    texts = _text_folders(args.text)
    with output_folder(args.destdir, "binarize") as out:
        if (args.text / "labels.txt").is_file():
            jobs = [NLIJob(args.text, language, source, out) for language in _languages(args.text, args.lang_pairs)]
        else:
            named = [(text, name) for text in texts for name in _pair_names(text, args.lang_pairs)]
            jobs = [PairJob(text, name, source, out / text.relative_to(args.text)) for text, name in named]
        save_dictionaries(jobs)
        for file in tokenizer.FILES:
            if (source.parent / file).is_file():
                shutil.copy(source.parent / file, out)
        files = [file for job in jobs for file in job.all_files()]
        size = sum(file.text.stat().st_size for file in files)
        # The dictionaries are loaded: the workers are forked with them.
        with (
            OrderedPool(min(args.workers, len(files)), binarize) as pool,
            tqdm(total=size, unit="B", unit_scale=True) as progress,
        ):
            counts = {}
            for file, counted in pool.map(files):
                counts[file.text] = counted
                progress.update(file.text.stat().st_size)
        summaries = [_summary(job, job.count(counts)) for job in jobs]
    print("\n".join(summaries))
    folders = ":".join(str(args.destdir / text.relative_to(args.text)) for text in texts)
    print(f"written: {folders}, what fairseq-train takes as its data")


def _text_folders(folder: Path) -> list[Path]:
    """The folder itself, or its shards in their order. Raises InputError if it is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that `ppa prepare-bitext` or `ppa prepare-xnli` wrote")
    shards = [path for path in folder.iterdir() if re.fullmatch(r"shard\d+", path.name)]
    return sorted(shards, key=lambda path: int(path.name[5:])) or [folder]


def _pair_names(folder: Path, wanted: str | None) -> list[str]:
    """Language pairs with training text in *folder*: all, or those *wanted* (comma-separated)."""
    matches = map(TRAIN_FILE.fullmatch, (path.name for path in folder.iterdir()))
    present = sorted({match[1] for match in matches if match})
    names = wanted.split(",") if wanted else present
    unknown = [name for name in names if name not in present]
    if unknown or not names:
        raise InputError(
            f"{folder}: no train.A-B.LANGUAGE of {', '.join(unknown) or 'any language pair'} in it; it holds "
            f"{', '.join(present) or 'no pair'}"
        )
    return names


def _languages(folder: Path, lang_pairs: str | None) -> list[str]:
    """Languages of NLI in *folder*. Raises InputError if there is none, or their labels are not the same."""
    if lang_pairs:
        raise InputError(f"--lang-pairs {lang_pairs}: {folder} holds NLI, no language pairs; leave the flag out")
    languages = sorted({path.parent.name for part in FIELDS for path in folder.glob(f"*/*.{part}")})
    if not languages:
        raise InputError(f"{folder}: no LANGUAGE/train.{FIELDS[0]} nor any other split in it; prepare the text again")
    labels = [line.partition(" ")[0] for line in _lines(folder / "labels.txt")]
    first: dict[str, Path] = {}
    for path in sorted(folder.glob("*/*.label")):
        if path.name not in first:
            first[path.name] = path
            for number, line in enumerate(_lines(path), start=1):
                if line not in labels:
                    fault = f"{shown(line)} is not in {folder}/labels.txt"
                    raise InputError(f"{path}:{number}: {fault}; prepare the text again")
        elif not filecmp.cmp(path, first[path.name], shallow=False):
            raise InputError(
                f"{path}: not the labels of {first[path.name]}; rows belong together in all languages: prepare the "
                "text again, all languages at once"
            )
    return languages


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); prepare the text again") from None


def _summary(job: Job, counts: dict[str, Counter]) -> str:
    pairs = ", ".join(f"{count['pairs']:,} {split}" for split, count in counts.items())
    total = sum(counts.values(), Counter())
    shard = f"{job.text.name}/" if job.text.name.startswith("shard") else ""
    share = total["unknown"] / total["tokens"]
    return f"{shard}{job.name}: {pairs} pairs, {total['tokens']:,} tokens, {share:.2%} of them [UNK]"
