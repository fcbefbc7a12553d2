"""Sentence pairs as WordPiece symbols joined by spaces, in worker processes."""

import os
from collections import Counter
from dataclasses import dataclass

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer
from ppa_fairseq.data.bitext.filters import Batch, LengthLimits, is_valid
from ppa_fairseq.data.word_by_word import WordByWord


@dataclass
class Encoded:
    """What became of a batch: the kept pairs by split, in order, and how many were dropped why."""

    splits: dict[str, list[tuple[str, str]]]
    dropped: Counter


class PairEncoder:
    """Tokenizes pairs and judges what needs their WordPieces.

    *texts* are the tokenizer's files (`tokenizer.read_files`), *source* names them in messages; *valid_share*
    of all pairs make the validation split.
    """

    def __init__(self, texts: dict[str, str], source: str, limits: LengthLimits, valid_share: float):
        tokenizer = ModelTokenizer(texts, source)
        self.words = WordByWord(tokenizer.backend, tokenizer.symbols)
        self.limits = limits
        self.valid_share = valid_share

    def encode(self, batch: Batch) -> Encoded:
        """Encode the batch's pairs, judge their lengths and part them into train and valid."""
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


_encoder: PairEncoder  # of this worker process


def set_up_worker(*arguments) -> None:
    """Make the worker's PairEncoder of its *arguments*."""
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes use the cores already
    _encoder = PairEncoder(*arguments)


def encode_in_worker(batch: Batch) -> Encoded:
    """`PairEncoder.encode` of this worker process."""
    return _encoder.encode(batch)
