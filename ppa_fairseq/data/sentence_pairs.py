"""Two sentences in one sequence: [CLS] first [SEP] second [SEP], truncated to a maximum length."""

import numpy as np
import torch

from ppa_fairseq.modules.packing import pack


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of two sentences to keep so that they fit into *room* together.

    Cut the longer one to the length of the other, then both in turn, like the "longest_first" of `tokenizers`.
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    longer = room - shorter
    return (shorter, longer) if first <= second else (longer, shorter)


class PairLayout:
    """Lays two sentences into one sequence as the family of the base model does.

    Args:
        dictionary: knows bos, eos, the ids ``between`` the first eos and the second sentence, and the ``second_type``.
        max_length: of a sequence, special tokens included.
    """

    def __init__(self, dictionary, max_length: int):
        self.bos = np.array([dictionary.bos()])
        self.eos = np.array([dictionary.eos()])
        self.middle = np.array([dictionary.eos(), *dictionary.between])
        self.second_type = dictionary.second_type
        self.specials = 2 + len(self.middle)  # special tokens of a sequence
        self.room = max_length - self.specials

    def length(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the lengths (N,) of the sequences for sentences of these lengths, (N,) each."""
        return np.minimum(first + second, self.room) + self.specials

    def lay(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return token ids and token types, (L,) each, for two sentences of ids without special tokens."""
        kept_first, kept_second = longest_first(len(first), len(second), self.room)
        parts = self.bos, first[:kept_first], self.middle, second[:kept_second], self.eos
        tokens = np.concatenate(parts).astype(np.int64)
        token_types = np.zeros(len(tokens), dtype=np.int64)
        token_types[len(tokens) - kept_second - 1 :] = self.second_type
        return tokens, token_types


def gather(columns: list[np.ndarray], language: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return ``columns[language[i]][row[i]]`` for every entry *i*, (E, ...)."""
    result = np.empty((len(row), *columns[0].shape[1:]), dtype=columns[0].dtype)
    for number, values in enumerate(columns):
        here = language == number
        result[here] = values[row[here]]
    return result


def collate(samples: list[dict]) -> dict:
    """Batch N laid-out pairs: ``net_input`` packed, ``id`` and ``language`` (N,), counts."""
    packed = pack([s["tokens"] for s in samples], [s["token_types"] for s in samples])
    return {
        "id": torch.tensor([s["id"] for s in samples]),
        "language": torch.tensor([s["language"] for s in samples]),
        "net_input": packed,
        "nsentences": len(samples),
        "ntokens": len(packed["tokens"]),
    }
