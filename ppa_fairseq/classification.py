"""Sentence pairs to class logits: batches of like length, packed, [CLS] of the last layer through the head."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from fairseq.utils import apply_to_sample

from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.embedding import batches_by_length
from ppa_fairseq.errors import InputError
from ppa_fairseq.models.bert_encoder import BertEncoder
from ppa_fairseq.models.heads import ClassificationHead
from ppa_fairseq.models.packing import pack
from ppa_fairseq.tokenizer import build_tokenizer, symbols
from ppa_fairseq.weights import CLASSIFICATION_HEAD, Checkpoint, no_values, part

# Pairs tokenized at a time: enough to sort by length, whatever the size of the data.
WINDOW = 2**14
UNNAMED = re.compile(r"LABEL_\d+")  # what transformers calls the classes of a model that was told no names


class PairClassifier:
    """Classifies pairs of sentences with one fine-tuned model, in fp32.

    Args:
        model: a checkpoint with a classification head; it is moved to the GPU when there is one (and not `cpu`).
        source: names the model in messages.
        max_length: longer sequences are cut to it, specials included, the longer sentence first.
        batch_tokens: tokens in one batch; a longer pair makes a batch of its own.

    Attributes:
        labels: the names of the K classes.
        truncated: pairs that were cut so far.

    Raises:
        InputError: no classification head, a length that the position table can't hold, one token type where the
            family needs two.
    """

    def __init__(
        self, model: Checkpoint, source: str, max_length: int = 128, batch_tokens: int = 4096, cpu: bool = False
    ):
        head = part(model.state, CLASSIFICATION_HEAD)
        if not head:
            raise InputError(f"{source}: no classification head; fine-tune it first, by `--task xnli_codeswitch`")
        dictionary = WordPieceDictionary(symbols(model.tokenizer, source), source=source)
        if dictionary.second_type >= model.shape.token_types:
            raise InputError(f"{source}: has one token type, but the second sentence of a pair needs another")
        with no_values():
            self.encoder = BertEncoder(None, model.shape)
            self.head = ClassificationHead(model.shape.dim, len(model.labels), model.shape.dropout)
        self.layout = PairLayout(dictionary, max_length)
        shortest, longest = self.layout.specials + 2, self.encoder.max_positions()
        if not shortest <= max_length <= longest:
            raise InputError(
                f"--max-length {max_length}: the encoder has {longest} positions; give {shortest} to {longest}"
            )
        self.device = torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")
        for module, state in ((self.encoder, part(model.state, "encoder.")), (self.head, head)):
            module.load_state_dict(state, assign=True)
            module.float().eval().to(self.device)
        self.tokenizer = build_tokenizer(model.tokenizer, source)
        self.labels = model.labels
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.truncated = 0

    @torch.inference_mode()
    def __call__(
        self, first: Sequence[str], second: Sequence[str], progress: Callable[[int], object] = lambda done: None
    ) -> np.ndarray:
        """Logits of N pairs in their order, (N, K) fp32.

        `progress` is called with the number of pairs done since its last call. Raises InputError if the model gives
        logits that are not finite.
        """
        logits = np.empty((len(first), len(self.labels)), dtype=np.float32)
        for start in range(0, len(first), WINDOW):
            end = start + WINDOW
            pairs = list(zip(self.pieces(first[start:end]), self.pieces(second[start:end]), strict=True))
            counts = np.array([(len(one), len(other)) for one, other in pairs]).T  # (2, N)
            self.truncated += int((counts.sum(0) > self.layout.room).sum())
            lengths = self.layout.length(*counts)
            for batch in batches_by_length(lengths.tolist(), self.batch_tokens):
                tokens, token_types = zip(*(self.layout.lay(*pairs[i]) for i in batch), strict=True)
                packed = pack(list(map(torch.from_numpy, tokens)), list(map(torch.from_numpy, token_types)))
                packed = apply_to_sample(lambda tensor: tensor.to(self.device), packed)
                features = self.encoder(**packed, first_tokens_only=True)["hidden"]  # (B, C)
                logits[start + np.array(batch)] = self.head(features).cpu().numpy()
                progress(len(batch))
        if not np.isfinite(logits).all():
            raise InputError("the classifier gives logits that are not finite: its weights are NaN or infinite")
        return logits

    def pieces(self, sentences: Sequence[str]) -> list[np.ndarray]:
        encodings = self.tokenizer.encode_batch_fast(list(sentences), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]


def class_ids(labels: Sequence[str], wanted: Sequence[str], names: Sequence[str] | None = None) -> list[int]:
    """The id of each `wanted` class among a model's `labels`, whose order and letter case are free.

    `names` are the user's, in the order of ids, for a model that has none of its own. Raises InputError if the
    model's classes are others, or nothing says what they are.
    """
    if all(map(UNNAMED.fullmatch, labels)):
        if names is None:
            raise InputError(
                f"its classes are called {', '.join(labels)}, which does not say what they are: "
                f"give their names in this order, as in --labels {','.join(wanted)}"
            )
        if len(names) != len(labels):
            raise InputError(f"--labels has {len(names)} names, but there are {len(labels)} classes")
        labels = names
    lowered = [label.strip().lower() for label in labels]
    if sorted(lowered) != sorted(wanted):
        raise InputError(
            f"{len(labels)} classes ({', '.join(labels)}), but the data has {len(wanted)} ({', '.join(wanted)}): "
            "give a model that was fine-tuned on such data"
        )
    return [lowered.index(label) for label in wanted]
