"""Tokenize NLI rows and write them as text of token symbols, the rows of all languages side by side."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer
from ppa_fairseq.data.nli.reader import NO_CONSENSUS, NLIExample
from ppa_fairseq.utils.errors import InputError

BATCH = 4000  # sentences to tokenize at once
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


def write_rows(
    rows: Iterator[tuple[NLIExample, ...]],
    languages: Sequence[str],
    split: str,
    folder: Path,
    tokenizer: ModelTokenizer,
    report: Callable[[RowCounts], None],
) -> RowCounts:
    """Write `{language}/{split}.{input0,input1,label}` in *folder*, a row a line, and count.

    Drop a row in all languages at once: one without consensus, and in the training split one with a sentence without
    tokens. Raises InputError on the latter in another split: no row of a benchmark may vanish.

    Args:
        rows: an example in every language.
        report: gets the counts now and then.
    """
    counts, symbols, unknown = RowCounts(), tokenizer.symbols, tokenizer.unk()
    size = max(1, BATCH // (2 * len(languages)))
    with ExitStack() as stack:
        files = {}
        for language in languages:
            (folder / language).mkdir(exist_ok=True)
            for part in FIELDS:
                path = folder / language / f"{split}.{part}"
                files[language, part] = stack.enter_context(open(path, "w", encoding="utf-8", newline="\n"))
        while batch := list(islice(rows, size)):
            sentences = [text for row in batch for example in row for text in (example.premise, example.hypothesis)]
            encodings = iter(tokenizer.backend.encode_batch_fast(sentences, add_special_tokens=False))
            counts.read += len(batch)
            for row in batch:
                pairs = [(next(encodings).ids, next(encodings).ids) for _ in row]
                empty = next((example for example, pair in zip(row, pairs, strict=True) if not all(pair)), None)
                if any(example.label == NO_CONSENSUS for example in row):
                    counts.dropped["no consensus"] += 1
                elif empty and split == "train":
                    counts.dropped["empty"] += 1
                elif empty:
                    raise InputError(
                        f"{empty.place}: the premise or the hypothesis is empty or has no token; correct it, or remove "
                        "the row in every language"
                    )
                else:
                    counts.labels[row[0].label] += 1
                    for language, pair in zip(languages, pairs, strict=True):
                        for part, ids in zip(FIELDS, pair, strict=False):
                            files[language, part].write(" ".join(map(symbols.__getitem__, ids)) + "\n")
                            counts.tokens[language] += len(ids)
                            counts.unknown[language] += ids.count(unknown)
                        files[language, "label"].write(row[0].label + "\n")
            report(counts)
    return counts
