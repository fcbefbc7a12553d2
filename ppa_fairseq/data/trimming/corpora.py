"""Text of one language, or of a language pair, as batches of sentences with their language."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ppa_fairseq.data.bitext.reader import Bitext, parse_bitext
from ppa_fairseq.data.text_files import LANGUAGE, MAX_LINE, LineReader, unpacked_name
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import why_no_file

BATCH = 2000  # sentences of a language


@dataclass
class Monolingual:
    """Files of one language, a sentence a line."""

    language: str
    paths: list[Path]
    readers: list[LineReader] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all files, as they lie on the disk."""
        return sum(path.stat().st_size for path in self.paths)

    @property
    def position(self) -> int:
        """Bytes of these that are read."""
        return sum(reader.position for reader in self.readers)

    def rows(self) -> Iterator[tuple[str] | None]:
        self.readers = [LineReader(path) for path in self.paths]
        for reader in self.readers:
            for line in reader:
                yield _decoded(line)


def parse_corpus(text: str) -> Bitext | Monolingual:
    """`de-en=a.tsv.xz` as `parse_bitext` takes it, or `de=a.txt,b.txt.gz`. Raises InputError on anything else."""
    name, _, paths = text.partition("=")
    if "-" in name or not paths:
        return parse_bitext(text)
    if not LANGUAGE.fullmatch(name):
        raise InputError(f"{name}: expected a language code, as in de=text.txt, or a pair, as in de-en=bitext.tsv")
    for path in map(Path, paths.split(",")):
        unpacked_name(path)
        if not path.is_file():
            raise InputError(f"{path}: {why_no_file(path)}; {name} needs a text file")
    return Monolingual(name, list(map(Path, paths.split(","))))


def languages_of(corpus: Bitext | Monolingual) -> list[str]:
    return [corpus.language] if isinstance(corpus, Monolingual) else [corpus.first_lang, corpus.second_lang]


def sentences_of(corpus: Bitext | Monolingual, columns: tuple[int, int]) -> Iterator[tuple[str, list[str], int]]:
    """Batches: language, sentences, and how many lines were left out as they cannot be read (not UTF-8, too long)."""
    if isinstance(corpus, Monolingual):
        rows = corpus.rows()
    else:
        corpus.readers.clear()  # of an earlier reading
        rows = (None if row.broken else (row.first, row.second) for row in corpus.rows(columns))
    languages = languages_of(corpus)
    while chunk := list(islice(rows, BATCH)):
        whole = [row for row in chunk if row is not None]
        sides = zip(*whole, strict=True) if whole else [()] * len(languages)
        for language, sentences in zip(languages, sides, strict=True):
            yield language, list(sentences), len(chunk) - len(whole)


def _decoded(line: bytes) -> tuple[str] | None:
    try:
        return (line.decode(),) if len(line) <= MAX_LINE else None
    except UnicodeDecodeError:
        return None
