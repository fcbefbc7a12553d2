"""One sentence or two in one sequence: [CLS] first [SEP] (second [SEP]), truncated to a maximum length."""

import numpy as np

NOTHING = np.array([], dtype=np.int64)


class PairLayout:
    """Lays two sentences, or one, into one sequence as the family of the base model does.

    Args:
        dictionary: knows bos, eos, the ids ``between`` the first eos and the second sentence, and the ``second_type``.
        max_length: of a sequence, special tokens included.
        sentences: of a sequence, 1 or 2.
    """

    def __init__(self, dictionary, max_length: int, sentences: int = 2):
        self.bos = np.array([dictionary.bos()])
        self.eos = np.array([dictionary.eos()])
        self.middle = np.array([dictionary.eos(), *dictionary.between]) if sentences == 2 else NOTHING
        self.second_type = dictionary.second_type if sentences == 2 else 0
        self.specials = 2 + len(self.middle)  # special tokens of a sequence
        self.room = max_length - self.specials

    def length(self, first: np.ndarray, second: np.ndarray | int = 0) -> np.ndarray:
        """Return the lengths (N,) of the sequences for sentences of these lengths, (N,) each."""
        return np.minimum(first + second, self.room) + self.specials

    def lay(self, first: np.ndarray, second: np.ndarray = NOTHING) -> tuple[np.ndarray, np.ndarray]:
        """Return token ids and token types, (L,) each, for sentences of ids without special tokens.

        Cut the longer one to the length of the other, then both in turn, like the "longest_first" of `tokenizers`.
        """
        if len(first) + len(second) > self.room:
            shorter = min(len(first), len(second), self.room // 2)
            longer = self.room - shorter
            kept = (shorter, longer) if len(first) <= len(second) else (longer, shorter)
            first, second = first[: kept[0]], second[: kept[1]]
        tokens = np.concatenate([self.bos, first, self.middle, second, self.eos]).astype(np.int64)
        token_types = np.zeros(len(tokens), dtype=np.int64)
        token_types[len(tokens) - len(second) - 1 :] = self.second_type
        return tokens, token_types
