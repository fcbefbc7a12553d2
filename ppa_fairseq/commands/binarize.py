"""Binarize the text of `ppa prepare-bitext`: fairseq-preprocess for every language pair, in one go.

For a pair de-en it does what this does, without starting fairseq anew for each pair:

  fairseq-preprocess --user-dir ppa_fairseq --task ppa_alignment -s de -t en --trainpref TEXT/train.de-en \\
    --validpref TEXT/valid.de-en --srcdict TEXT/dict.txt --tgtdict TEXT/dict.txt --destdir DESTDIR

The tokenizer's files are copied along. Text in shards (TEXT/shard0 ...) becomes DESTDIR/shard0 ..., which
fairseq-train takes as DESTDIR/shard0:DESTDIR/shard1: it reads one an epoch.
"""

import argparse
import logging
import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ppa_fairseq import tokenizer
from ppa_fairseq.data.bitext_reader import LineReader
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.errors import InputError
from ppa_fairseq.files import atomic_folder

TRAIN_FILE = re.compile(r"train\.(\w+-\w+)\.\w+")
OUTPUT = re.compile(r"(train|valid)\.\w+-\w+\.\w+\.(bin|idx)|dict\.\w+\.txt|preprocess\.log|shard\d+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", metavar="TEXT", type=Path, help="folder that `ppa prepare-bitext` wrote")
    parser.add_argument("--destdir", required=True, metavar="DESTDIR", type=Path, help="folder to write")
    parser.add_argument(
        "--srcdict", metavar="FILE", type=Path, help="dict.txt of the base model (default: TEXT/dict.txt)"
    )
    parser.add_argument("--lang-pairs", metavar="A-B,C-D", help="pairs to binarize (default: all in TEXT)")
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="pairs to binarize at a time (default: all cores)",
    )


@dataclass(frozen=True)
class PairJob:
    """One language pair of one folder, for a worker."""

    text: Path
    name: str
    dictionary: Path
    destination: Path

    @property
    def splits(self) -> list[str]:
        return [split for split in ("train", "valid") if any(self.text.glob(f"{split}.{self.name}.*"))]

    def files(self, split: str) -> list[Path]:
        return [self.text / f"{split}.{self.name}.{language}" for language in self.name.split("-")]

    @property
    def size(self) -> int:
        """Bytes of its text. Raises InputError if a file is missing."""
        files = [path for split in self.splits for path in self.files(split)]
        for path in files:
            if not path.is_file():
                raise InputError(f"{path}: no such file, but its translation is there; prepare the pair again")
        return sum(path.stat().st_size for path in files)


def run(args: argparse.Namespace) -> None:
    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: must be at least 1")
    _import_fairseq()  # before the workers are forked, which then have it
    from ppa_fairseq.data.dictionary import WordPieceDictionary

    source = args.srcdict or args.text / "dict.txt"
    texts = _text_folders(args.text)
    names = [_pair_names(text, args.lang_pairs) for text in texts]
    WordPieceDictionary.load(str(source))  # says what is wrong with it once, not in every worker
    with atomic_folder(args.destdir, _is_data_bin, "binarized data") as out:
        jobs = [
            PairJob(text, name, source, out / text.relative_to(args.text))
            for text, folder_names in zip(texts, names, strict=True)
            for name in folder_names
        ]
        for file in tokenizer.FILES:
            if (source.parent / file).is_file():
                shutil.copy(source.parent / file, out)
        with (
            OrderedPool(min(args.workers, len(jobs)), binarize_pair) as pool,
            tqdm(total=sum(job.size for job in jobs), unit="B", unit_scale=True) as progress,
        ):
            for job, counts in pool.map(jobs):
                progress.update(job.size)
                progress.write(_summary(job, counts))
    folders = ":".join(str(args.destdir / text.relative_to(args.text)) for text in texts)
    print(f"written: {folders}, what fairseq-train takes as its data")


def binarize_pair(job: PairJob) -> dict[str, Counter]:
    """Binarize one pair; by split the numbers of pairs, tokens ([SEP] included) and [UNK] among these.

    Raises InputError if its files are missing, empty, no UTF-8 or unequal.
    """
    _import_fairseq()
    from fairseq import options
    from fairseq_cli import preprocess

    for split in job.splits:
        _check_text(*job.files(split))
    source, target = job.name.split("-")
    beside = job.destination / f".{job.name}"  # pairs share dict.en.txt, and are binarized at the same time
    arguments = ["--task", "ppa_alignment", "--source-lang", source, "--target-lang", target]
    arguments += ["--srcdict", str(job.dictionary), "--tgtdict", str(job.dictionary)]
    arguments += ["--destdir", str(beside)]
    for split in job.splits:
        arguments += [f"--{split}pref", str(job.text / f"{split}.{job.name}")]
    logging.disable(logging.INFO)  # fairseq's lines for every file
    preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    for handler in preprocess.logger.handlers[:]:  # one more each time
        preprocess.logger.removeHandler(handler)
        handler.close()
    (beside / "preprocess.log").unlink()
    for path in beside.iterdir():
        os.replace(path, job.destination / path.name)
    beside.rmdir()
    return {split: _count(job, split) for split in job.splits}


def _count(job: PairJob, split: str) -> Counter:
    from fairseq.data.indexed_dataset import MMapIndexedDataset, best_fitting_int_dtype

    from ppa_fairseq.data.dictionary import WordPieceDictionary

    dictionary = WordPieceDictionary.load(str(job.dictionary))
    counts = Counter()
    for path in job.files(split):
        prefix = job.destination / path.name
        dataset = MMapIndexedDataset(str(prefix))  # its sizes are gone with it
        counts["pairs"] = len(dataset)
        counts["tokens"] += int(dataset.sizes.sum())
        ids = np.memmap(f"{prefix}.bin", dtype=best_fitting_int_dtype(len(dictionary)), mode="r")
        for start in range(0, len(ids), 1 << 20):
            counts["unknown"] += int(np.count_nonzero(ids[start : start + (1 << 20)] == dictionary.unk()))
    return counts


def _check_text(first: Path, second: Path) -> None:
    lines = []
    for path in (first, second):
        number = 0
        for number, line in enumerate(LineReader(path), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise InputError(f"{path}:{number}: not UTF-8 ({error}); prepare the text again") from None
        if not number:
            raise InputError(f"{path}: empty; leave the pair out with --lang-pairs, or prepare more text")
        lines.append(number)
    if lines[0] != lines[1]:
        raise InputError(
            f"{first} has {lines[0]} lines but {second} has {lines[1]}: "
            "they must be translations line by line; prepare the pair again"
        )


def _text_folders(folder: Path) -> list[Path]:
    """The folder itself, or its shards in their order. Raises InputError if it is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that `ppa prepare-bitext` wrote")
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


def _import_fairseq() -> None:
    import ppa_fairseq.tasks.ppa_alignment  # noqa: F401  (what --user-dir does)


def _is_data_bin(folder: Path) -> bool:
    return all(OUTPUT.fullmatch(path.name) or path.name in tokenizer.FILES for path in folder.iterdir())


def _summary(job: PairJob, counts: dict[str, Counter]) -> str:
    pairs = ", ".join(f"{count['pairs']:,} {split}" for split, count in counts.items())
    total = sum(counts.values(), Counter())
    shard = f"{job.text.name}/" if job.text.name.startswith("shard") else ""
    share = total["unknown"] / total["tokens"]
    return f"{shard}{job.name}: {pairs} pairs, {total['tokens']:,} tokens, {share:.2%} of them [UNK]"
