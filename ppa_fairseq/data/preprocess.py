"""Many runs of `fairseq-preprocess` in worker processes, each on text files that belong together."""

import logging
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import ppa_fairseq
from ppa_fairseq.data.dictionary import read_symbols
from ppa_fairseq.data.nli.encoder import FIELDS
from ppa_fairseq.utils.errors import InputError, quote

SPLITS = ("train", "valid", "test")
PACKAGE = Path(ppa_fairseq.__file__).parent
AGAIN = "prepare the text again"


@dataclass(frozen=True)
class Job:
    """A language pair, or a language of NLI: its files and the runs of fairseq-preprocess that binarize them."""

    name: str
    files: dict[str, list[tuple[Path, Path]]]  # by split: text and dictionary of files that are parallel line by line
    runs: list[list[str]]  # arguments of fairseq-preprocess

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(text.stat().st_size for files in self.files.values() for text, _ in files)


def pair_job(folder: Path, pair: str, dictionary: Path, out: Path) -> Job:
    """The job for one language pair of `ppa prepare-bitext`. Raises InputError if a file is missing."""
    first, second = pair.split("-")
    splits = [split for split in SPLITS[:2] if any(folder.glob(f"{split}.{pair}.*"))]
    files = {split: [(folder / f"{split}.{pair}.{side}", dictionary) for side in (first, second)] for split in splits}
    run = ["--user-dir", PACKAGE, "--task", "ppa_alignment", "-s", first, "-t", second, "--destdir", out]
    run += ["--srcdict", dictionary, "--tgtdict", dictionary]
    for split in splits:
        run += [f"--{split}pref", folder / f"{split}.{pair}"]
    return _checked(Job(pair, files, [list(map(str, run))]))


def nli_job(folder: Path, language: str, dictionary: Path, out: Path) -> Job:
    """The job for one language of `ppa prepare-xnli`. Raises InputError if a file is missing."""
    dictionaries = {part: folder / "labels.txt" if part == "label" else dictionary for part in FIELDS}
    splits = [split for split in SPLITS if any((folder / language).glob(f"{split}.*"))]
    files = {
        split: [(folder / language / f"{split}.{part}", dictionaries[part]) for part in FIELDS] for split in splits
    }
    runs = []
    for part in FIELDS:
        run = ["--only-source", "--srcdict", dictionaries[part], "--destdir", out / language / part]
        run += [] if part == "label" else ["--user-dir", PACKAGE, "--task", "xnli_codeswitch"]
        for split in splits:
            run += [f"--{split}pref", folder / language / f"{split}.{part}"]
        runs.append(list(map(str, run)))
    return _checked(Job(language, files, runs))


def nli_languages(folder: Path) -> list[str]:
    """Languages of NLI in *folder*, sorted. Raises InputError if there is none."""
    languages = sorted({path.parent.name for part in FIELDS for path in folder.glob(f"*/*.{part}")})
    if not languages:
        raise InputError(f"{folder}: no LANGUAGE/train.{FIELDS[0]} nor any other split in it; {AGAIN}")
    return languages


def make_worker() -> Callable[[Job], dict[str, Counter]]:
    """Prepare this process to run jobs one after another; returns `run_job`."""
    from fairseq.tasks import import_tasks

    import_tasks(str(PACKAGE / "tasks"), "ppa_fairseq.tasks")  # else fairseq's parser does not know them
    logging.disable(logging.INFO)
    return run_job


def run_job(job: Job) -> dict[str, Counter]:
    """Check the files of a job, then binarize them. Returns the number of rows and tokens (with [SEP]) by split.

    Raises InputError on text that is not UTF-8, has a token outside its dictionary, or has another number of lines than
    the text parallel to it: fairseq would write [UNK], or fail in training.
    """
    from fairseq_cli import preprocess

    counts = {split: _count(files) for split, files in job.files.items()}
    for arguments in job.runs:
        sys.argv = ["fairseq-preprocess", *arguments]  # fairseq's parser also reads it by itself
        preprocess.cli_main()
        for handler in preprocess.logger.handlers[:]:  # fairseq adds one for each run
            preprocess.logger.removeHandler(handler)
            handler.close()
            Path(handler.baseFilename).unlink(missing_ok=True)  # a log of temporary paths
    return counts


def _checked(job: Job) -> Job:
    for files in job.files.values():
        for text, _ in files:
            if not text.is_file():
                raise InputError(f"{text}: no such file, but files that belong to it exist; {AGAIN}")
    return job


def _count(files: list[tuple[Path, Path]]) -> Counter:
    counts = [_count_file(text, dictionary) for text, dictionary in files]
    for (text, _), count in zip(files, counts, strict=True):
        if count["rows"] != counts[0]["rows"]:
            raise InputError(
                f"{files[0][0]} has {counts[0]['rows']} lines but {text} has {count['rows']}: they must be parallel "
                f"line by line; {AGAIN}"
            )
    tokens = sum(count["tokens"] for (text, _), count in zip(files, counts, strict=True) if text.suffix != ".label")
    return Counter(rows=counts[0]["rows"], tokens=tokens)


def _count_file(text: Path, dictionary: Path) -> Counter:
    symbols, number, size = _symbols(dictionary), 0, 0
    with open(text, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                tokens = line.decode().split()
            except UnicodeDecodeError as error:
                raise InputError(f"{text}:{number}: not UTF-8 ({error.reason}); {AGAIN}") from None
            if not symbols.issuperset(tokens):
                token = next(token for token in tokens if token not in symbols)
                raise InputError(f"{text}:{number}: {quote(token)} is not in {dictionary}; {AGAIN}, with its tokenizer")
            size += len(tokens) + 1
    if not number:
        raise InputError(f"{text}: empty; {AGAIN}, with more of it or without it")
    return Counter(rows=number, tokens=size)


@lru_cache(maxsize=2)
def _symbols(dictionary: Path) -> frozenset[str]:
    return frozenset(read_symbols(str(dictionary))[0])
