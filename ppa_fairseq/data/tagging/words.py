"""Words to tokens: each word is tokenized by itself."""

from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer


def encode_words(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield token ids (L,) of each sentence, without special tokens, and where each word's first is, (W,).

    A word without tokens is at -1.
    """
    for words, encoding in zip(
        sentences,
        tokenizer.encode_batch([list(words) for words in sentences], is_pretokenized=True, add_special_tokens=False),
        strict=True,
    ):
        first = np.full(len(words), -1)
        of_token = encoding.word_ids
        for place in range(len(of_token) - 1, -1, -1):  # backwards: the first token of a word is written last
            first[of_token[place]] = place
        yield np.array(encoding.ids, dtype=np.int64), first
