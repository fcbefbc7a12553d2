"""How well a model predicts masked tokens of text: what alignment made it forget, or learn.

Tokens are chosen as in TLM, but [MASK] replaces all of them: a token that stays visible can be copied. [UNK] is never
chosen: it is easy to predict, and a language with many unknown characters would look easy.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ppa_fairseq.checkpoints.weights import LM_HEAD, Checkpoint, part
from ppa_fairseq.data.bitext.masking import MaskingScheme, mask_tokens
from ppa_fairseq.evaluation.embedding import batches_by_length
from ppa_fairseq.evaluation.pair_model import PairModel
from ppa_fairseq.modules.bert import SelectedPositions
from ppa_fairseq.utils.errors import InputError

EPOCH = 1  # of the masks: each sentence is masked once
MAX_BITS = 1024  # above this, the perplexity (2 to the power of the bits) overflows
Sequences = list[tuple[np.ndarray, np.ndarray]]  # token ids and token types of each sequence


class Score(NamedTuple):
    """The masked tokens of a text: their number, the mean -log2 of their probability, the percentage right."""

    masked: int
    bits: float
    accuracy: float


class MaskedLM(PairModel):
    """A checkpoint's encoder and MLM head on masked sentences, and on pairs in PPA's TLM layout.

    Args:
        probability: the share of each sequence's tokens to mask; at least one token.
        seed: of the masks. They depend on it, on the sequence's place in the text and on its length in tokens, so they
            are the same for all models of one vocabulary, in any batches.

    The other arguments and errors are those of `PairModel`.

    Attributes:
        xlm_tlm: whether the model was trained with XLM's TLM layout, which this class does not use.
        trained: whether the MLM head was ever trained; the biases of a new one are zero.
    """

    head_prefix = LM_HEAD
    head_name = "MLM head"
    task = "ppa_alignment"

    def __init__(
        self, model: Checkpoint, source: str, probability: float = 0.15, seed: int = 1, max_length: int = 128, **limits
    ):
        super().__init__(model, source, max_length, **limits)
        special = self.special
        maskable = np.ones(model.shape.vocab_size, dtype=bool)
        maskable[special.special_ids()] = False
        maskable[special.unk()] = False
        no_ids = np.zeros(0, dtype=np.int64)
        self.scheme = MaskingScheme(probability, maskable, special.mask(), no_ids, mask_share=1.0, random_share=0.0)
        self.seed = seed
        self.xlm_tlm = model.xlm_tlm
        biases = [weight for name, weight in part(model.state, LM_HEAD).items() if name.endswith("bias")]
        self.trained = not biases or any(bool(bias.any()) for bias in biases)

    def sentences(self, texts: Sequence[str]) -> Sequences:
        """Lay out each sentence as [CLS] text [SEP], cut to the maximum length."""
        rows = []
        for ids in self.token_ids(texts):
            kept = ids[: self.max_length - 2]
            self.truncated += len(kept) < len(ids)
            tokens = np.concatenate([self.layout.bos, kept, self.layout.eos])
            rows.append((tokens, np.zeros_like(tokens)))
        return rows

    def pairs(self, first: Sequence[str], second: Sequence[str]) -> Sequences:
        """Lay out each pair in one sequence, cut to the maximum length."""
        sides = list(zip(self.token_ids(first), self.token_ids(second), strict=True))
        self.truncated += sum(len(one) + len(other) > self.layout.room for one, other in sides)
        return [self.layout.lay(*pair) for pair in sides]

    @torch.inference_mode()
    def __call__(self, sequences: Sequences, progress: Callable[[int], object] = lambda done: None) -> Score:
        """Mask and predict all sequences. `progress` is called with the number of sequences done since its last call.

        Raises:
            InputError: no token can be masked; the model's loss is not finite.
        """
        lengths = np.array([len(tokens) for tokens, _ in sequences])
        flat = np.concatenate([tokens for tokens, _ in sequences])  # (T,) of all sequences
        starts = np.cumsum(lengths) - lengths
        masked, chosen = mask_tokens(flat, lengths, np.arange(len(lengths)), self.scheme, self.seed, EPOCH)
        if not len(chosen):
            raise InputError("no token of the text can be masked: the vocabulary knows none of its characters")
        is_masked = np.zeros(len(flat), dtype=bool)
        is_masked[chosen] = True
        bits, correct = 0.0, 0
        for batch in batches_by_length(lengths.tolist(), self.batch_tokens):
            spans = [slice(starts[i], starts[i] + lengths[i]) for i in batch]
            packed = self.pack([(masked[span], sequences[i][1]) for i, span in zip(batch, spans, strict=True)])
            places = np.flatnonzero(np.concatenate([is_masked[span] for span in spans]))  # (M,) in the batch
            target = np.concatenate([flat[span][is_masked[span]] for span in spans])  # (M,)
            target = torch.from_numpy(target).to(self.device)
            counts = [int(is_masked[span].sum()) for span in spans]
            selected = SelectedPositions(torch.from_numpy(places).to(self.device), counts)

            def predict(packed=packed, selected=selected) -> torch.Tensor:
                hidden = self.encoder(**packed, selected=selected)["hidden"]  # (M, C)
                return self.head(hidden, self.encoder.embed_tokens.weight)

            logits = self.precision(predict)  # (M, V)
            bits += F.cross_entropy(logits, target, reduction="none").double().sum().item() / math.log(2)
            correct += int((logits.argmax(-1) == target).sum())
            progress(len(batch))
        bits /= len(chosen)
        if not bits < MAX_BITS:
            raise InputError("the model's loss is not finite or over 1024 bits: its weights are NaN or too large")
        return Score(len(chosen), bits, 100 * correct / len(chosen))
