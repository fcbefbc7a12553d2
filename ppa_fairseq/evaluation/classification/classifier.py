"""Sentences or pairs to class logits: packed batches of similar length; the head reads [CLS] of the last layer."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, Checkpoint
from ppa_fairseq.evaluation.embedding import batches_by_length
from ppa_fairseq.evaluation.pair_model import PairModel
from ppa_fairseq.evaluation.precision import NOT_FINITE
from ppa_fairseq.utils.errors import InputError

UNNAMED = re.compile(r"LABEL_\d+")  # transformers' names for the classes of a model without names


class PairClassifier(PairModel):
    """Classifies sentences, or pairs of them, with one fine-tuned model; arguments and errors are those of `PairModel`.

    Sequences longer than `max_length` are cut to it, the longer sentence first.

    Attributes:
        labels: the names of the K classes.
    """

    head_prefix = CLASSIFICATION_HEAD
    head_name = "classification head"
    task = "ppa_classification"

    def __init__(self, model: Checkpoint, source: str, max_length: int = 128, **limits):
        super().__init__(model, source, max_length, **limits)
        self.labels = model.labels

    @torch.inference_mode()
    def __call__(
        self,
        first: Sequence[str],
        second: Sequence[str] | None = None,
        progress: Callable[[int], object] = lambda done: None,
    ) -> np.ndarray:
        """Logits of N sentences or pairs in their order, (N, K) fp32.

        `progress` is called with the number of them done since its last call. Raises InputError if the logits are not
        finite.
        """
        logits = np.empty((len(first), len(self.labels)), dtype=np.float32)
        texts = list(zip(*map(self.token_ids, [first] if second is None else [first, second]), strict=True))
        counts = np.array([list(map(len, sides)) for sides in texts]).T  # (1 or 2, N)
        self.truncated += int((counts.sum(0) > self.layout.room).sum())
        for batch in batches_by_length(self.layout.length(*counts).tolist(), self.batch_tokens):
            packed = self.pack([self.layout.lay(*texts[i]) for i in batch])
            found = self.precision(lambda packed=packed: self.head.classify(self.encoder, packed))
            logits[batch] = found.cpu().numpy()
            progress(len(batch))
        if not np.isfinite(logits).all():
            raise InputError(f"the classifier's logits are not finite: {NOT_FINITE[self.precision.dtype]}")
        return logits


def are_unnamed(labels: Sequence[str]) -> bool:
    """Whether a model numbers its classes instead of naming them."""
    return all(map(UNNAMED.fullmatch, labels))


def class_ids(labels: Sequence[str], classes: Sequence[str], names: Sequence[str] | None = None) -> list[int]:
    """The id of each of the data's `classes` among a model's `labels`, in any order and letter case.

    `names` are the user's, in the order of ids, for a model without names. Raises InputError if the model has other
    classes, or nobody names them.
    """
    if are_unnamed(labels):
        if names is None:
            raise InputError(
                f"its classes have no names ({', '.join(labels)}); give their names in this order, as in --labels "
                f"{','.join(classes)}"
            )
        labels = names
    lowered, expected = ([name.strip().lower() for name in names] for names in (labels, classes))
    if sorted(lowered) != sorted(expected):
        raise InputError(
            f"{len(labels)} classes ({', '.join(labels)}), but the data has {len(classes)} ({', '.join(classes)}); "
            "give a model that was fine-tuned on such data"
        )
    return [lowered.index(label) for label in expected]
