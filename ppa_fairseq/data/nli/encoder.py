"""NLI rows as WordPiece symbols joined by spaces, in worker processes."""

import os
from collections import Counter
from dataclasses import dataclass, field

from ppa_fairseq.checkpoints import tokenizer_files as tokenizer
from ppa_fairseq.checkpoints.families import family_of
from ppa_fairseq.data.nli.reader import NO_CONSENSUS, NLIExample
from ppa_fairseq.utils.errors import InputError

FIELDS = ("input0", "input1", "label")  # fairseq's names: premise, hypothesis, label
# Why a row is dropped, in every language at once.
REASONS = {
    "no consensus": "the annotators agreed on no label (-)",
    "empty": "a premise or a hypothesis, in any language, without a WordPiece",
}


@dataclass(frozen=True)
class RowBatch:
    """Rows of one split, each with an example in every language of *languages*."""

    split: str
    languages: tuple[str, ...]
    rows: list[tuple[NLIExample, ...]]


@dataclass
class RowCounts:
    """What became of rows: `read` is always the `rows` that were kept and all of `dropped`."""

    read: int = 0
    labels: Counter = field(default_factory=Counter)  # kept rows by label
    dropped: Counter = field(default_factory=Counter)  # rows by reason
    pieces: Counter = field(default_factory=Counter)  # WordPieces of the kept rows by language
    unknown: Counter = field(default_factory=Counter)  # of these, [UNK]

    @property
    def rows(self) -> int:
        return self.labels.total()

    def add(self, other: "RowCounts") -> None:
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)
        assert self.read == self.rows + self.dropped.total()


@dataclass
class EncodedRows:
    """A batch as text: `lines` by language and field (input0, input1, label), as many in each."""

    lines: dict[tuple[str, str], list[str]]
    counts: RowCounts


class RowEncoder:
    """Tokenizes rows. *texts* are the tokenizer's files (`tokenizer.read_files`), *source* names them in messages."""

    def __init__(self, texts: dict[str, str], source: str):
        self.tokenizer = tokenizer.build_tokenizer(texts, source)
        self.symbols = tokenizer.symbols(texts, source)
        self.unknown = self.tokenizer.token_to_id(family_of(self.symbols).unk)

    def encode(self, batch: RowBatch) -> EncodedRows:
        """Encode the batch. A row that is dropped is dropped in every language, so that they stay side by side.

        Dropped is what has no consensus, and of the training split what has an empty sentence. Raises InputError on
        an empty sentence of another split: a benchmark's rows must not vanish.
        """
        lines = {(language, part): [] for language in batch.languages for part in FIELDS}
        rows = [row for row in batch.rows if all(example.label != NO_CONSENSUS for example in row)]
        counts = RowCounts(len(batch.rows), dropped=Counter({"no consensus": len(batch.rows) - len(rows)}))
        sentences = [text for row in rows for example in row for text in (example.premise, example.hypothesis)]
        encodings = iter(self.tokenizer.encode_batch_fast(sentences, add_special_tokens=False))
        for row in rows:
            ids = [(next(encodings).ids, next(encodings).ids) for _ in row]
            empty = next((example for example, pair in zip(row, ids, strict=True) if not all(pair)), None)
            if empty:
                if batch.split != "train":
                    raise InputError(
                        f"{empty.place}: the premise or the hypothesis is empty or has no WordPiece; correct it, or "
                        "remove the row in every language"
                    )
                counts.dropped["empty"] += 1
                continue
            counts.labels[row[0].label] += 1
            for language, (premise, hypothesis) in zip(batch.languages, ids, strict=True):
                for part, line in zip(FIELDS, (self._line(premise), self._line(hypothesis), row[0].label), strict=True):
                    lines[language, part].append(line)
                counts.pieces[language] += len(premise) + len(hypothesis)
                counts.unknown[language] += premise.count(self.unknown) + hypothesis.count(self.unknown)
        return EncodedRows(lines, counts)

    def _line(self, ids: list[int]) -> str:
        # Not `Encoding.tokens`: the fast encoding leaves them empty.
        return " ".join(map(self.symbols.__getitem__, ids))


_encoder: RowEncoder  # of this worker process


def set_up_worker(*arguments) -> None:
    """Make the worker's RowEncoder of its *arguments*."""
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes use the cores already
    _encoder = RowEncoder(*arguments)


def encode_in_worker(batch: RowBatch) -> EncodedRows:
    """`RowEncoder.encode` of this worker process."""
    return _encoder.encode(batch)
