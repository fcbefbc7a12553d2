"""Which pairs to keep, and whether a kept pair belongs to train or valid."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice

import numpy as np

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer
from ppa_fairseq.data.bitext.row import Row, parse_score
from ppa_fairseq.data.word_by_word import WordByWord
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.extras import load_extra

# Why a pair is dropped; the first reason that applies is counted.
REASONS = {
    "columns": "more or fewer tab-separated columns than most lines of the file",
    "format": "a line is no JSON object, or a column holds no text",
    "encoding": "a side is not UTF-8",
    "no score": "the score is not a number",
    "score": "the score is below --min-score",
    "control": "control characters (NUL, a CR inside), U+FFFD, or a special token ([SEP], </s>, ...) in the text",
    "empty": "a side has no text",
    "identical": "both sides are the same",
    "duplicate": "the same pair occurred before",
    "short": "a side has fewer than --min-tokens tokens",
    "long": "both sides together have more than --max-tokens tokens, or a line has over 32 KiB",
    "ratio": "one side has more than --max-ratio times the tokens of the other",
    "overlap": "the sides share more than --max-overlap of the words of the side with fewer",
    "language": "--check-language finds a side in another language",
    "spare valid": "belongs to the validation split, which already has --max-valid pairs",
    "spare train": "read together with the last of the --max-train pairs",
}
UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ufffd]|\[(?:CLS|SEP|PAD|MASK)\]|<(?:/?s|pad|mask)>")
NOT_WORD = re.compile(r"\W+")
CERTAIN = 0.5  # probability of another language


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
    languages: tuple[str, str] = ("", "")
    scores: list[float] = field(default_factory=list)


def read_batches(
    rows: Iterator[Row],
    size: int,
    pivot_side: int,
    languages: tuple[str, str] = ("", ""),
    min_score: float | None = None,
) -> Iterator[Batch]:
    """Batches of *size* lines each, without the pairs that can be dropped before tokenization.

    *min_score* None: the rows have no scores. Else the batch has those of all its rows that have one.
    """
    seen = SeenPairs()
    while chunk := list(islice(rows, size)):
        pairs, dropped, scores = [], Counter(), []
        for first, second, broken, _, score in chunk:
            first, second = first.strip(), second.strip()
            if not broken and min_score is not None:
                value = parse_score(score)
                broken = "no score" if value is None else "score" if value < min_score else ""
                scores += [] if value is None else [value]
            if reason := broken or text_fault(first, second):
                dropped[reason] += 1
            else:
                pairs.append((first, second))
        digests = b"".join(blake2b(f"{a}\t{b}".encode(), digest_size=8).digest() for a, b in pairs)
        new = [pairs[i] for i in np.flatnonzero(seen.add(np.frombuffer(digests, dtype=np.uint64)))]
        dropped["duplicate"] += len(pairs) - len(new)
        broken_lines = [(row.broken, row.where) for row in chunk if row.broken]
        yield Batch(new, pivot_side, len(chunk), dropped, broken_lines, languages, scores)


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
    max_ratio: float | None = None  # of the sides' tokens
    max_overlap: float | None = None  # share of the words of the side with fewer
    check_language: bool = False

    def __post_init__(self):
        tokenizer = ModelTokenizer(self.texts, self.source)
        self.words = WordByWord(tokenizer.backend, tokenizer.symbols)
        self.other_language = LanguageCheck() if self.check_language else None

    def __call__(self, batch: Batch) -> tuple[dict[str, list[tuple[str, str]]], Counter]:
        """The kept pairs by split, as tokens joined by spaces, and the number of dropped ones by reason."""
        lines = self.words.lines([sentence for pair in batch.pairs for sentence in pair])
        splits, dropped = {"train": [], "valid": []}, Counter()
        for pair, first, second in zip(batch.pairs, lines[::2], lines[1::2], strict=True):
            lengths = [line.count(" ") + 1 if line else 0 for line in (first, second)]
            if reason := self._fault(pair, lengths, batch.languages):
                dropped[reason] += 1
            else:
                split = "valid" if is_valid(pair[batch.pivot_side], self.valid_share) else "train"
                splits[split].append((first, second))
        return splits, dropped

    def _fault(self, pair: tuple[str, str], lengths: list[int], languages: tuple[str, str]) -> str | None:
        """The reason to drop a pair with these numbers of tokens, if there is one."""
        if min(lengths) < self.min_tokens:
            return "short"
        if sum(lengths) > self.max_tokens:
            return "long"
        if self.max_ratio and max(lengths) > self.max_ratio * min(lengths):
            return "ratio"
        if self.max_overlap is not None and word_overlap(*pair) > self.max_overlap:
            return "overlap"
        return "language" if self.other_language and any(map(self.other_language, pair, languages)) else None


class LanguageCheck:
    """Tells whether a sentence is in another language than it should be, by py3langid.

    A short sentence is often taken for another language with little certainty, so that does not count.
    """

    def __init__(self):
        langid = load_extra("py3langid.langid", "sources", "--check-language")
        self.identifier = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)

    def __call__(self, sentence: str, language: str) -> bool:
        found, probability = self.identifier.classify(sentence)
        return found != code_of(language) and probability > CERTAIN

    def refuse_unknown(self, languages: Iterable[str]) -> None:
        """Raise InputError if it does not know one of these."""
        if unknown := [language for language in languages if code_of(language) not in self.identifier.labels]:
            known = ", ".join(sorted(self.identifier.labels))
            raise InputError(f"--check-language: {unknown[0]} is not a language of py3langid, which knows {known}")


def code_of(language: str) -> str:
    """The language of a code without its script or country: zh of zh_CN."""
    return language.split("_")[0].lower()


def word_overlap(first: str, second: str) -> float:
    """The share of words that two sentences have in common, of the different words of the one with fewer."""
    sides = [{word for word in NOT_WORD.split(side.casefold()) if word} for side in (first, second)]
    return len(sides[0] & sides[1]) / max(1, min(map(len, sides)))


def is_valid(sentence: str, share: float) -> bool:
    """Whether a pair with this pivot sentence belongs to the validation split, which takes *share* of all.

    Depends on the sentence alone, ignoring case, spaces and punctuation: a sentence is in the same split in every
    language pair, every corpus and every run.
    """
    words = NOT_WORD.sub("", sentence.casefold()).encode()
    return int.from_bytes(blake2b(words, digest_size=8).digest(), "little") < share * 2**64
