"""What `ppa binarize` has to do: text files, each to become an indexed dataset, and those that belong together."""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ppa_fairseq.data.nli.encoder import FIELDS
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import atomic_path


class TextFile(NamedTuple):
    """A text file, the dataset to make of it (without .bin and .idx), and the dictionary that tells its ids."""

    text: Path
    output: Path
    dictionary: Path

    @property
    def is_label(self) -> bool:
        """Whether it has labels, for which fairseq's plain dictionary is."""
        return self.text.suffix == ".label"


@dataclass(frozen=True)
class Job(ABC):
    """The text *name* in the folder *text*: files by split that are line by line of one another."""

    text: Path
    name: str
    dictionary: Path
    destination: Path

    @property
    @abstractmethod
    def splits(self) -> list[str]:
        """Those that the text has."""

    @abstractmethod
    def files(self, split: str) -> list[TextFile]:
        """Of one split."""

    @abstractmethod
    def dictionary_copy(self, file: TextFile) -> Path:
        """Where the dictionary of an output of `files` shall lie."""

    def all_files(self) -> list[TextFile]:
        """Those of all splits. Raises InputError if one is missing."""
        files = [file for split in self.splits for file in self.files(split)]
        for path, *_ in files:
            if not path.is_file():
                raise InputError(f"{path}: no such file, but those that belong to it are there; prepare the text again")
        return files

    def count(self, rows: dict[Path, Counter]) -> dict[str, Counter]:
        """By split the numbers of pairs, tokens ([SEP] included) and [UNK] among these, of `binarize`'s counts.

        Raises InputError if files that belong together are unequal in length.
        """
        counts = {}
        for split in self.splits:
            first, *others = files = self.files(split)
            for file in others:
                if rows[file.text]["rows"] != rows[first.text]["rows"]:
                    raise InputError(
                        f"{first.text} has {rows[first.text]['rows']} lines but {file.text} has "
                        f"{rows[file.text]['rows']}: they belong together line by line; prepare the text again"
                    )
            counts[split] = Counter(pairs=rows[first.text]["rows"])
            for file in files:
                if not file.is_label:
                    counts[split] += Counter({name: rows[file.text][name] for name in ("tokens", "unknown")})
        return counts


class PairJob(Job):
    """One language pair of `ppa prepare-bitext`."""

    @property
    def splits(self) -> list[str]:
        return [split for split in ("train", "valid") if any(self.text.glob(f"{split}.{self.name}.*"))]

    def files(self, split: str) -> list[TextFile]:
        names = [f"{split}.{self.name}.{language}" for language in self.name.split("-")]
        return [TextFile(self.text / name, self.destination / name, self.dictionary) for name in names]

    def dictionary_copy(self, file: TextFile) -> Path:
        return self.destination / f"dict{file.output.suffix}.txt"


class NLIJob(Job):
    """One language of `ppa prepare-xnli`."""

    @property
    def splits(self) -> list[str]:
        return [split for split in ("train", "valid", "test") if any((self.text / self.name).glob(f"{split}.*"))]

    def files(self, split: str) -> list[TextFile]:
        text, out = self.text / self.name, self.destination / self.name
        dictionaries = {part: self.text / "labels.txt" if part == "label" else self.dictionary for part in FIELDS}
        return [TextFile(text / f"{split}.{part}", out / part / split, dictionaries[part]) for part in FIELDS]

    def dictionary_copy(self, file: TextFile) -> Path:
        return file.output.parent / "dict.txt"


def save_dictionaries(jobs: list[Job]) -> None:
    """Put the dictionaries beside the datasets-to-be, in folders that are made."""
    _load.cache_clear()  # the file may be another than it was
    copies = {job.dictionary_copy(file): file for job in jobs for file in job.all_files()}
    for path, file in copies.items():
        with atomic_path(path) as beside:
            _load(file.dictionary, file.is_label).save(str(beside))


def binarize(file: TextFile) -> Counter:
    """Make the dataset of one file; its numbers of rows, tokens and [UNK]. Raises InputError if it cannot."""
    from ppa_fairseq.data.indexed_text import binarize_text

    return binarize_text(file.text, str(file.output), _load(file.dictionary, file.is_label))


@lru_cache(maxsize=2)
def _load(path: Path, is_label: bool):
    from fairseq.data import Dictionary

    from ppa_fairseq.data.dictionary import WordPieceDictionary

    return (Dictionary if is_label else WordPieceDictionary).load(str(path))
