"""Sentence pairs as WordPiece symbols joined by spaces, in worker processes."""

import os
from collections import Counter
from dataclasses import dataclass

from ppa_fairseq import tokenizer
from ppa_fairseq.data.bitext_filters import Batch, LengthLimits, is_valid


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
        self.tokenizer = tokenizer.build_tokenizer(texts, source)
        self.symbols = tokenizer.symbols(texts, source)
        self.limits = limits
        self.valid_share = valid_share

    def encode(self, batch: Batch) -> Encoded:
        """Encode the batch's pairs, judge their lengths and part them into train and valid."""
        sentences = [sentence for pair in batch.pairs for sentence in pair]
        encodings = self.tokenizer.encode_batch_fast(sentences, add_special_tokens=False)
        result = Encoded({"train": [], "valid": []}, Counter())
        for pair, first, second in zip(batch.pairs, encodings[::2], encodings[1::2], strict=True):
            if reason := self.limits.fault(len(first), len(second)):
                result.dropped[reason] += 1
                continue
            split = "valid" if is_valid(pair[batch.pivot_side], self.valid_share) else "train"
            result.splits[split].append((self._line(first.ids), self._line(second.ids)))
        return result

    def _line(self, ids: list[int]) -> str:
        # Not `Encoding.tokens`: the fast encoding leaves them empty.
        return " ".join(map(self.symbols.__getitem__, ids))


_encoder: PairEncoder  # of this worker process


def set_up_worker(*arguments) -> None:
    """Make the worker's PairEncoder of its *arguments*."""
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes use the cores already
    _encoder = PairEncoder(*arguments)


def encode_in_worker(batch: Batch) -> Encoded:
    """`PairEncoder.encode` of this worker process."""
    return _encoder.encode(batch)
