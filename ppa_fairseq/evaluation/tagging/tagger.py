"""Sentences in words to a tag for each word: packed batches of similar length; the head reads a word's first token."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ppa_fairseq.checkpoints.weights import TAGGING_HEAD, Checkpoint
from ppa_fairseq.data.tagging.words import encode_words
from ppa_fairseq.evaluation.embedding import batches_by_length
from ppa_fairseq.evaluation.pair_model import PairModel
from ppa_fairseq.evaluation.precision import NOT_FINITE
from ppa_fairseq.utils.errors import InputError


class Tagger(PairModel):
    """Tags words with one fine-tuned model; arguments and errors are those of `PairModel`.

    Attributes:
        labels: the names of the K tags.
    """

    head_prefix = TAGGING_HEAD
    head_name = "tagging head"
    task = "ppa_tagging"

    def __init__(self, model: Checkpoint, source: str, max_length: int | None = None, **limits):
        super().__init__(model, source, max_length, **limits, sentences=1)
        self.labels = model.labels

    @torch.inference_mode()
    def __call__(
        self, sentences: Sequence[Sequence[str]], progress: Callable[[int], object] = lambda done: None
    ) -> list[list[str | None]]:
        """The tag of each word of N sentences; None for a word without tokens, or beyond `max_length`.

        `progress` is called with the number of sentences done since its last call. Raises InputError if the logits are
        not finite.
        """
        tags: list[list[str | None]] = [[] for _ in sentences]
        encoded = list(encode_words(self.tokenizer, sentences))
        counts = np.array([len(ids) for ids, _ in encoded])
        self.truncated += int((counts > self.layout.room).sum())
        for batch in batches_by_length(self.layout.length(counts).tolist(), self.batch_tokens):
            packed = self.pack([self.layout.lay(encoded[i][0]) for i in batch])
            logits = self.precision(lambda packed=packed: self.head(self.encoder(**packed)["hidden"]))  # (T, K)
            if not logits.isfinite().all():
                raise InputError(f"the tagger's logits are not finite: {NOT_FINITE[self.precision.dtype]}")
            classes = logits.argmax(1).cpu().split(packed["lengths"])
            for i, of_tokens in zip(batch, classes, strict=True):
                names = [self.labels[number] for number in of_tokens[1:-1].tolist()]
                tags[i] = [names[place] if 0 <= place < len(names) else None for place in encoded[i][1]]
            progress(len(batch))
        return tags
