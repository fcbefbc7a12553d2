"""Which pairs to keep, and whether a kept pair belongs to train or valid."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

import numpy as np

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer
from ppa_fairseq.data.bitext.reader import Row
from ppa_fairseq.data.word_by_word import WordByWord

# Why a pair is dropped; the first reason that applies is counted.
REASONS = {
    "columns": "more or fewer tab-separated columns than most lines of the file",
    "encoding": "a side is not UTF-8",
    "control": "control characters (NUL, a CR inside), U+FFFD, or a special token ([SEP], </s>, ...) in the text",
    "empty": "a side has no text",
    "identical": "both sides are the same",
    "duplicate": "the same pair occurred before",
    "short": "a side has fewer than --min-tokens tokens",
    "long": "both sides together have more than --max-tokens tokens, or a line has over 32 KiB",
    "spare valid": "belongs to the validation split, which already has --max-valid pairs",
    "spare train": "read together with the last of the --max-train pairs",
}
UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ufffd]|\[(?:CLS|SEP|PAD|MASK)\]|<(?:/?s|pad|mask)>")
NOT_WORD = re.compile(r"\W+")


class SeenPairs:
    """Hashes of the pairs seen so far: 8 bytes per pair, in sorted runs, each at least twice as long as the next."""

    def __init__(self):
        self.runs: list[np.ndarray] = []  # each (n,) uint64, ascending

    def add(self, hashes: np.ndarray) -> np.ndarray:
        """Add *hashes* (N,) uint64; return which of them are new, (N,) bool."""
        values, first = np.unique(hashes, return_index=True)
        new = np.ones(len(values), dtype=bool)
        for run in self.runs:
            new &= run[np.searchsorted(run, values).clip(max=len(run) - 1)] != values
        run = values[new]
        while self.runs and len(self.runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self.runs.pop(), run]))
        if len(run):
            self.runs.append(run)
        is_new = np.zeros(len(hashes), dtype=bool)
        is_new[first[new]] = True
        return is_new


@dataclass
class Batch:
    """Pairs to tokenize, out of `read` lines; `dropped` counts the others by reason."""

    pairs: list[tuple[str, str]]
    pivot_side: int  # 0 or 1: the side whose sentence decides the split
    read: int
    dropped: Counter
    broken_lines: list[tuple[str, str]]  # (reason, file:line: fault)


def read_batches(rows: Iterator[Row], size: int, pivot_side: int) -> Iterator[Batch]:
    """Batches of *size* lines each, without the pairs that can be dropped before tokenization."""
    seen = SeenPairs()
    while chunk := list(islice(rows, size)):
        pairs, dropped = [], Counter()
        for first, second, broken, _ in chunk:
            first, second = first.strip(), second.strip()
            if reason := broken or text_fault(first, second):
                dropped[reason] += 1
            else:
                pairs.append((first, second))
        digests = b"".join(blake2b(f"{a}\t{b}".encode(), digest_size=8).digest() for a, b in pairs)
        new = [pairs[i] for i in np.flatnonzero(seen.add(np.frombuffer(digests, dtype=np.uint64)))]
        dropped["duplicate"] += len(pairs) - len(new)
        yield Batch(new, pivot_side, len(chunk), dropped, [(row.broken, row.where) for row in chunk if row.broken])


def text_fault(first: str, second: str) -> str | None:
    """The reason to drop a pair because of its text, if there is one."""
    if UNSAFE.search(first) or UNSAFE.search(second):
        return "control"
    if not first or not second:
        return "empty"
    return "identical" if first == second else None


@dataclass
class PairEncoder:
    """Tokenizes pairs in a worker process, drops those too short or too long, and splits them into train and valid."""

    texts: dict[str, str]  # the tokenizer's files (`tokenizer.read_files`)
    source: str  # their name in messages
    min_tokens: int  # on each side
    max_tokens: int  # of both sides together, without [CLS] and [SEP]
    valid_share: float  # the share of all pairs that makes the validation split

    def __post_init__(self):
        tokenizer = ModelTokenizer(self.texts, self.source)
        self.words = WordByWord(tokenizer.backend, tokenizer.symbols)

    def __call__(self, batch: Batch) -> tuple[dict[str, list[tuple[str, str]]], Counter]:
        """The kept pairs by split, as tokens joined by spaces, and the number of dropped ones by reason."""
        lines = self.words.lines([sentence for pair in batch.pairs for sentence in pair])
        splits, dropped = {"train": [], "valid": []}, Counter()
        for pair, first, second in zip(batch.pairs, lines[::2], lines[1::2], strict=True):
            lengths = [line.count(" ") + 1 if line else 0 for line in (first, second)]
            if min(lengths) < self.min_tokens:
                dropped["short"] += 1
            elif sum(lengths) > self.max_tokens:
                dropped["long"] += 1
            else:
                split = "valid" if is_valid(pair[batch.pivot_side], self.valid_share) else "train"
                splits[split].append((first, second))
        return splits, dropped


def is_valid(sentence: str, share: float) -> bool:
    """Whether a pair with this pivot sentence belongs to the validation split, which takes *share* of all.

    Depends on the sentence alone, ignoring case, spaces and punctuation: a sentence is in the same split in every
    language pair, every corpus and every run.
    """
    words = NOT_WORD.sub("", sentence.casefold()).encode()
    return int.from_bytes(blake2b(words, digest_size=8).digest(), "little") < share * 2**64
