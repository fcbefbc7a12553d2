"""Vectors of a frozen encoder, as features of a probe."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ppa_fairseq.data.labelled import Example
from ppa_fairseq.evaluation.embedding import SentenceEmbedder, batches_by_length

Progress = Callable[[int], object]


def features(embedder: SentenceEmbedder, examples: Sequence[Example], kind: str, progress: Progress) -> np.ndarray:
    """Compute the features of all labelled units of some examples, fp32, in their order.

    - sentences: (N, C), the sentence vector;
    - pairs: (N, 4 C), [u, v, |u − v|, u · v] of the two sentence vectors (Conneau et al. 2017);
    - tags: (words, C), the vector of each word's first token; zeros for a word without tokens.
    """
    if kind == "tags":
        return word_vectors(embedder, [example.parts for example in examples], progress)
    sides = [
        embedder([example.parts[side] for example in examples], progress)[embedder.poolings[0]][0].numpy()
        for side in range(len(examples[0].parts))
    ]
    if kind == "sentences":
        return sides[0]
    u, v = sides
    return np.concatenate([u, v, np.abs(u - v), u * v], axis=1)


@torch.inference_mode()
def word_vectors(embedder: SentenceEmbedder, sentences: Sequence[list[str]], progress: Progress) -> np.ndarray:
    """Compute the last selected layer's vector of each word's first token: (words of all sentences, C)."""
    encodings = embedder.tokenizer.encode_batch([list(words) for words in sentences], is_pretokenized=True)
    ids = [embedder.ids(encoding) for encoding in encodings]
    starts = np.cumsum([0, *map(len, sentences)])
    vectors = np.zeros((starts[-1], embedder.shape.dim), dtype=np.float32)
    for batch in batches_by_length([len(one) for one in ids], embedder.batch_tokens):
        layers, cu_seqlens = embedder.encode([ids[number] for number in batch])
        hidden, begins = layers[-1].float().cpu().numpy(), cu_seqlens.tolist()
        for number, begin in zip(batch, begins, strict=False):
            last = len(ids[number]) - 1  # [SEP], also of a sentence that was cut
            for token in range(last - 1, 0, -1):  # backwards: the first token of a word is written last
                if (word := encodings[number].word_ids[token]) is not None:
                    vectors[starts[number] + word] = hidden[begin + token]
        progress(len(batch))
    return vectors
