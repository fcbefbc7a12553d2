"""Sentence pairs as tokens joined by spaces, in worker processes."""

from collections import Counter
from dataclasses import dataclass

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer
from ppa_fairseq.data.bitext.filters import Batch, LengthLimits, is_valid
from ppa_fairseq.data.word_by_word import WordByWord


@dataclass
class Encoded:
    """Result of a batch: the kept pairs by split, in order, and the number of dropped ones by reason."""

    splits: dict[str, list[tuple[str, str]]]
    dropped: Counter


class PairEncoder:
    """Tokenizes pairs, and drops those that are too short or too long in tokens.

    *texts* are the tokenizer's files (`tokenizer.read_files`), *source* names them in messages; *valid_share*
    of all pairs make the validation split.
    """

    def __init__(self, texts: dict[str, str], source: str, limits: LengthLimits, valid_share: float):
        tokenizer = ModelTokenizer(texts, source)
        self.words = WordByWord(tokenizer.backend, tokenizer.symbols)
        self.limits = limits
        self.valid_share = valid_share

    def __call__(self, batch: Batch) -> Encoded:
        """Encode the batch's pairs, check their lengths and split them into train and valid."""
        lines = self.words.lines([sentence for pair in batch.pairs for sentence in pair])
        result = Encoded({"train": [], "valid": []}, Counter())
        for pair, first, second in zip(batch.pairs, lines[::2], lines[1::2], strict=True):
            if reason := self.limits.fault(_length(first), _length(second)):
                result.dropped[reason] += 1
                continue
            split = "valid" if is_valid(pair[batch.pivot_side], self.valid_share) else "train"
            result.splits[split].append((first, second))
        return result


def _length(line: str) -> int:
    return line.count(" ") + 1 if line else 0
