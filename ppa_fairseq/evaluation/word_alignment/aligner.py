"""Word alignments from contextual similarity, without training: which words of two sentences translate each other.

Two tokens are linked if each selects the other: by a softmax over dot products above a threshold (Dou and Neubig 2021,
"Word Alignment by Fine-tuning Embeddings on Parallel Corpora"), or as nearest neighbours by cosine (Jalili Sabet et al.
2020, "SimAlign", argmax). Two words are linked if any of their tokens are.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Encoding
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ppa_fairseq.data.word_pairs import Words
from ppa_fairseq.evaluation.embedding import PackedEncoder, batches_by_length

METHODS = ("softmax", "argmax")
THRESHOLD = 0.001
NO_WORD = -1  # the word number of [CLS], [SEP] and padding


class WordAligner(PackedEncoder):
    """Aligns the words of sentence pairs by each of its layers and methods.

    Args:
        methods: of METHODS.
        threshold: the probability that a softmax must exceed in both directions.

    The other arguments and errors are those of `PackedEncoder`.
    """

    def __init__(self, encoder, tokenizer, layers, methods: Sequence[str], threshold: float = THRESHOLD, **limits):
        super().__init__(encoder, tokenizer, layers, **limits)
        self.methods = list(methods)
        self.threshold = threshold

    @torch.inference_mode()
    def __call__(
        self, pairs: Sequence[Words], progress: Callable[[int], object] = lambda done: None
    ) -> dict[tuple[int, str], list[np.ndarray]]:
        """{(layer, method): links of each of the N pairs, (links, 2) word numbers from 0, ascending}.

        `progress` is called with the number of pairs done since its last call. A word without tokens has no links: it
        was cut off, or has only control characters.

        Raises:
            InputError: the encoder's vectors are not finite.
        """
        sides = [self.tokenizer.encode_batch(list(side), is_pretokenized=True) for side in zip(*pairs, strict=True)]
        ids = [[self.ids(encoding) for encoding in side] for side in sides]
        words = [[self.words(encoding) for encoding in side] for side in sides]
        links = {(layer, method): [np.empty(0)] * len(pairs) for layer in self.layers for method in self.methods}
        lengths = [len(source) + len(target) for source, target in zip(*ids, strict=True)]
        for batch in batches_by_length(lengths, self.batch_tokens):
            layers, cu_seqlens = self.encode([side[i] for side in ids for i in batch])
            word = torch.cat([side[i] for side in words for i in batch]).to(self.device)  # (T,)
            # Padding points at the batch's first token, a [CLS], which is not a word either.
            places = torch.arange(len(word), device=self.device).split(cu_seqlens.diff().tolist())
            source, target = (
                pad_sequence(side, batch_first=True) for side in (places[: len(batch)], places[len(batch) :])
            )  # (B, S), (B, T)
            for layer, hidden in zip(self.layers, layers, strict=True):
                for method in self.methods:
                    found = link_tokens(
                        hidden[source], hidden[target], word[source], word[target], method, self.threshold
                    )  # (B, S, T)
                    for i, pair_links in zip(batch, link_words(found, word[source], word[target]), strict=True):
                        links[layer, method][i] = pair_links
            progress(len(batch))
        return links

    def words(self, encoding: Encoding) -> Tensor:
        """The number of the word that each token of `ids` belongs to, (L,)."""
        words = [NO_WORD if word is None else word for word in encoding.word_ids]
        return torch.tensor(words if len(words) <= self.max_length else [*words[: self.max_length - 1], NO_WORD])


def link_tokens(
    source: Tensor, target: Tensor, source_words: Tensor, target_words: Tensor, method: str, threshold: float
) -> Tensor:
    """Which tokens of B pairs are linked, (B, S, T) bool, by their vectors (B, S, C) and (B, T, C).

    Tokens whose number in *source_words* (B, S) or *target_words* (B, T) is NO_WORD have no links.
    """
    if method == "argmax":
        source, target = F.normalize(source, dim=-1), F.normalize(target, dim=-1)
    real = (source_words != NO_WORD).unsqueeze(2) & (target_words != NO_WORD).unsqueeze(1)  # (B, S, T)
    scores = (source @ target.transpose(1, 2)).masked_fill(~real, -torch.inf)  # (B, S, T)
    if method == "softmax":  # NaN for a line without words, never above the threshold
        return (scores.softmax(2) > threshold) & (scores.softmax(1) > threshold)
    nearest = [torch.zeros_like(real).scatter_(side, scores.argmax(side, keepdim=True), True) for side in (1, 2)]
    return real & nearest[0] & nearest[1]


def link_words(linked: Tensor, source_words: Tensor, target_words: Tensor) -> list[np.ndarray]:
    """The links between words of B pairs, each (links, 2), ascending, from the links between tokens, (B, S, T)."""
    pair, source, target = linked.nonzero(as_tuple=True)
    links = torch.stack([pair, source_words[pair, source], target_words[pair, target]], dim=1).unique(dim=0)
    counts = links[:, 0].bincount(minlength=len(linked)).tolist()
    return np.split(links[:, 1:].cpu().numpy(), np.cumsum(counts)[:-1])
