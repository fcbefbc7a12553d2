"""Tokenize NLI rows and write them as text of token symbols, the rows of all languages side by side."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer

from ppa_fairseq.checkpoints.families import family_of
from ppa_fairseq.data.nli.reader import LABELS, NO_CONSENSUS, NLIExample
from ppa_fairseq.utils.errors import InputError

FIELDS = ("input0", "input1", "label")  # fairseq's names: premise, hypothesis, label


@dataclass
class RowCounts:
    """Counts of the rows of one split: `read` is always the `rows` kept and all of `dropped`."""

    read: int = 0
    labels: Counter = field(default_factory=Counter)  # kept rows by label
    dropped: Counter = field(default_factory=Counter)  # rows by reason
    tokens: Counter = field(default_factory=Counter)  # of the kept rows by language
    unknown: Counter = field(default_factory=Counter)  # of these, [UNK]

    @property
    def rows(self) -> int:
        return self.labels.total()

    def as_dict(self) -> dict:
        """What statistics.json holds."""
        languages = {
            language: {"tokens": tokens, "unknown": self.unknown[language]} for language, tokens in self.tokens.items()
        }
        labels = {label: self.labels[label] for label in LABELS}
        return {
            "read": self.read, "rows": self.rows, "labels": labels, "dropped": self.dropped, "languages": languages,
        }  # fmt: skip


class RowWriter:
    """Writes `{language}/{split}.{input0,input1,label}` in *folder*, a row a line, and counts.

    Args:
        symbols: of the tokenizer's ids.
    """

    def __init__(self, folder: Path, split: str, languages: Sequence[str], tokenizer: Tokenizer, symbols: list[str]):
        self.split = split
        self.languages = languages
        self.tokenizer = tokenizer
        self.symbols = symbols
        self.unknown = tokenizer.token_to_id(family_of(symbols).unk)
        self.counts = RowCounts()
        self._paths = {(name, part): folder / name / f"{split}.{part}" for name in languages for part in FIELDS}

    def __enter__(self) -> "RowWriter":
        self._stack = ExitStack()
        for path in self._paths.values():
            path.parent.mkdir(exist_ok=True)
        self._files = {
            key: self._stack.enter_context(open(path, "w", encoding="utf-8", newline="\n"))
            for key, path in self._paths.items()
        }
        return self

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    def write(self, rows: list[tuple[NLIExample, ...]]) -> None:
        """Write *rows*, each an example in every language. Drop a row in all languages at once.

        Dropped is a row without consensus, and in the training split one with a sentence without tokens. Raises
        InputError on the latter in another split: no row of a benchmark may vanish.
        """
        counts = self.counts
        counts.read += len(rows)
        agreed = [row for row in rows if all(example.label != NO_CONSENSUS for example in row)]
        if len(agreed) < len(rows):
            counts.dropped["no consensus"] += len(rows) - len(agreed)
        sentences = [text for row in agreed for example in row for text in (example.premise, example.hypothesis)]
        encodings = iter(self.tokenizer.encode_batch_fast(sentences, add_special_tokens=False))
        for row in agreed:
            pairs = [(next(encodings).ids, next(encodings).ids) for _ in row]
            if empty := next((example for example, pair in zip(row, pairs, strict=True) if not all(pair)), None):
                if self.split != "train":
                    raise InputError(
                        f"{empty.place}: the premise or the hypothesis is empty or has no token; correct it, or remove "
                        "the row in every language"
                    )
                counts.dropped["empty"] += 1
                continue
            counts.labels[row[0].label] += 1
            for language, pair in zip(self.languages, pairs, strict=True):
                for part, ids in zip(FIELDS, pair, strict=False):
                    self._files[language, part].write(" ".join(map(self.symbols.__getitem__, ids)) + "\n")
                    counts.tokens[language] += len(ids)
                    counts.unknown[language] += ids.count(self.unknown)
                self._files[language, "label"].write(row[0].label + "\n")
