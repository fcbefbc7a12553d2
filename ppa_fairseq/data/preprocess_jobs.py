"""Text to fairseq's binarized datasets by `fairseq-preprocess` itself, without starting it anew each time."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppa_fairseq.data.bitext_reader import LineReader
from ppa_fairseq.data.nli_encoder import FIELDS
from ppa_fairseq.errors import InputError


@dataclass(frozen=True)
class Job:
    """What one worker binarizes: the text *name* in the folder *text*."""

    text: Path
    name: str
    dictionary: Path
    destination: Path

    @property
    def splits(self) -> list[str]:
        raise NotImplementedError

    def files(self, split: str) -> list[Path]:
        """Its text files, line by line of one another."""
        raise NotImplementedError

    def calls(self) -> Iterator[tuple[Path, list[str]]]:
        """Arguments of `fairseq-preprocess`, each with the folder it fills."""
        raise NotImplementedError

    def outputs(self, split: str) -> list[Path]:
        """The binarized WordPieces, without .bin and .idx."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Bytes of its text. Raises InputError if a file is missing."""
        files = [path for split in self.splits for path in self.files(split)]
        for path in files:
            if not path.is_file():
                raise InputError(f"{path}: no such file, but those that belong to it are there; prepare the text again")
        return sum(path.stat().st_size for path in files)


class PairJob(Job):
    """One language pair of `ppa prepare-bitext`."""

    @property
    def splits(self) -> list[str]:
        return [split for split in ("train", "valid") if any(self.text.glob(f"{split}.{self.name}.*"))]

    def files(self, split: str) -> list[Path]:
        return [self.text / f"{split}.{self.name}.{language}" for language in self.name.split("-")]

    def calls(self) -> Iterator[tuple[Path, list[str]]]:
        source, target = self.name.split("-")
        arguments = ["--task", "ppa_alignment", "--source-lang", source, "--target-lang", target]
        arguments += ["--srcdict", str(self.dictionary), "--tgtdict", str(self.dictionary)]
        for split in self.splits:
            arguments += [f"--{split}pref", str(self.text / f"{split}.{self.name}")]
        yield self.destination, arguments

    def outputs(self, split: str) -> list[Path]:
        return [self.destination / path.name for path in self.files(split)]


class NLIJob(Job):
    """One language of `ppa prepare-xnli`."""

    @property
    def splits(self) -> list[str]:
        return [split for split in ("train", "valid", "test") if any((self.text / self.name).glob(f"{split}.*"))]

    def files(self, split: str) -> list[Path]:
        return [self.text / self.name / f"{split}.{part}" for part in FIELDS]

    def calls(self) -> Iterator[tuple[Path, list[str]]]:
        for part in FIELDS:
            if part == "label":  # fairseq's plain dictionary
                arguments = ["--srcdict", str(self.text / "labels.txt")]
            else:
                arguments = ["--task", "ppa_alignment", "--srcdict", str(self.dictionary)]
            for split in self.splits:
                arguments += [f"--{split}pref", str(self.text / self.name / f"{split}.{part}")]
            yield self.destination / self.name / part, ["--only-source", *arguments]

    def outputs(self, split: str) -> list[Path]:
        return [self.destination / self.name / part / split for part in FIELDS if part != "label"]


def binarize(job: Job) -> dict[str, Counter]:
    """Binarize a job's text; by split the numbers of pairs, tokens ([SEP] included) and [UNK] among these.

    Raises InputError if its files are missing, empty, no UTF-8 or unequal in length.
    """
    for split in job.splits:
        _check_text(job.files(split))
    for destination, arguments in job.calls():
        _preprocess(arguments, destination, destination / f".{job.name}")
    return {split: _count(job, split) for split in job.splits}


def _preprocess(arguments: list[str], destination: Path, beside: Path) -> None:
    # Pairs share dict.en.txt, and are binarized at the same time: each in a folder of its own.
    import_task()
    from fairseq import options
    from fairseq_cli import preprocess

    logging.disable(logging.INFO)  # fairseq's lines for every file
    preprocess.main(options.get_preprocessing_parser().parse_args([*arguments, "--destdir", str(beside)]))
    for handler in preprocess.logger.handlers[:]:  # one more each time
        preprocess.logger.removeHandler(handler)
        handler.close()
    (beside / "preprocess.log").unlink()
    for path in beside.iterdir():
        os.replace(path, destination / path.name)
    beside.rmdir()


def _count(job: Job, split: str) -> Counter:
    from fairseq.data.indexed_dataset import MMapIndexedDataset, best_fitting_int_dtype

    from ppa_fairseq.data.dictionary import WordPieceDictionary

    dictionary = WordPieceDictionary.load(str(job.dictionary))
    counts = Counter()
    for prefix in job.outputs(split):
        dataset = MMapIndexedDataset(str(prefix))  # its sizes are gone with it
        counts["pairs"] = len(dataset)
        counts["tokens"] += int(dataset.sizes.sum())
        ids = np.memmap(f"{prefix}.bin", dtype=best_fitting_int_dtype(len(dictionary)), mode="r")
        for start in range(0, len(ids), 1 << 20):
            counts["unknown"] += int(np.count_nonzero(ids[start : start + (1 << 20)] == dictionary.unk()))
    return counts


def _check_text(files: list[Path]) -> None:
    numbers = []
    for path in files:
        number = 0
        for number, line in enumerate(LineReader(path), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise InputError(f"{path}:{number}: not UTF-8 ({error}); prepare the text again") from None
        if not number:
            raise InputError(f"{path}: empty; prepare the text again, with more of it or without it")
        numbers.append(number)
    for path, number in zip(files, numbers, strict=True):
        if number != numbers[0]:
            raise InputError(
                f"{files[0]} has {numbers[0]} lines but {path} has {number}: "
                "they belong together line by line; prepare the text again"
            )


def import_task() -> None:
    """Make fairseq know `--task ppa_alignment`, as `--user-dir` does."""
    import ppa_fairseq.tasks.ppa_alignment  # noqa: F401
