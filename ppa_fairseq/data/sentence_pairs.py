"""Two sentences in one sequence: [CLS] first [SEP] second [SEP], cut where they are too long."""

import numpy as np
import torch

from ppa_fairseq.modules.packing import pack


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many WordPieces of two sentences stay where *room* are to be had in all.

    The longer one is cut until both are as long, then both in turn, as `tokenizers` does by "longest_first".
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    longer = room - shorter
    return (shorter, longer) if first <= second else (longer, shorter)


class PairLayout:
    """Lays two sentences into one sequence as the base model's family does (*dictionary* knows it).

    Args:
        dictionary: gives bos, eos, what stands ``between`` beyond the first eos, and the ``second_type``.
        max_length: of a sequence, its specials included.
    """

    def __init__(self, dictionary, max_length: int):
        self.bos = np.array([dictionary.bos()])
        self.eos = np.array([dictionary.eos()])
        self.middle = np.array([dictionary.eos(), *dictionary.between])
        self.second_type = dictionary.second_type
        self.room = max_length - self.specials

    @property
    def specials(self) -> int:
        """Tokens of a sequence that are no WordPieces of a sentence."""
        return 2 + len(self.middle)

    def length(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Tokens of the sequences of sentences of so many WordPieces, each (N,)."""
        return np.minimum(first + second, self.room) + self.specials

    def lay(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and token types, (L,) each, of two sentences given as ids without specials."""
        kept_first, kept_second = longest_first(len(first), len(second), self.room)
        parts = self.bos, first[:kept_first], self.middle, second[:kept_second], self.eos
        tokens = np.concatenate(parts).astype(np.int64)
        token_types = np.zeros(len(tokens), dtype=np.int64)
        token_types[len(tokens) - kept_second - 1 :] = self.second_type
        return tokens, token_types


def gather(columns: list[np.ndarray], language: np.ndarray, row: np.ndarray) -> np.ndarray:
    """``columns[language[i]][row[i]]`` for every entry *i*; (E,)."""
    result = np.empty(len(row), dtype=columns[0].dtype)
    for number, values in enumerate(columns):
        here = language == number
        result[here] = values[row[here]]
    return result


def collate(samples: list[dict]) -> dict:
    """What every batch of N laid-out pairs has: ``net_input`` packed, ``id``, ``language`` (N,), counts."""
    packed = pack([s["tokens"] for s in samples], [s["token_types"] for s in samples])
    return {
        "id": torch.tensor([s["id"] for s in samples]),
        "language": torch.tensor([s["language"] for s in samples]),
        "net_input": packed,
        "nsentences": len(samples),
        "ntokens": len(packed["tokens"]),
    }
