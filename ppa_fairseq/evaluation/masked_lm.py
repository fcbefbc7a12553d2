"""How well a model fills in masked pieces of text: what alignment made it forget, or learn.

The pieces are chosen as TLM's are, but all of them go behind [MASK]: one that is left as it is can be copied. [UNK] is
never chosen: to guess it is no skill, and a language of which much is unknown would look easy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from ppa_fairseq.checkpoints.weights import LM_HEAD, Checkpoint, part
from ppa_fairseq.data.bitext.masking import MaskingScheme, mask_tokens
from ppa_fairseq.evaluation.embedding import batches_by_length
from ppa_fairseq.evaluation.pair_model import PairModel
from ppa_fairseq.modules.bert import MaskedLMHead, SelectedPositions
from ppa_fairseq.utils.errors import InputError

EPOCH = 1  # of the masks: each sentence is masked once
MAX_BITS = 1024  # from here on the perplexity, 2 to their power, is no number


@dataclass(frozen=True)
class Score:
    """Of the masked pieces of a text: their number, mean -log2 of their probability, percent guessed right."""

    masked: int
    bits: float
    accuracy: float


class MaskedLM(PairModel):
    """A checkpoint's encoder and MLM head on masked sentences, and on pairs of them as PPA's TLM lays them out.

    Args:
        probability: share of each sequence's pieces that is masked, at least one.
        seed: of the masks, which are a function of it, the sequence's place in the text and its length in pieces: the
            same for all models of one vocabulary, whatever the batches are.

    The other arguments, and what is raised, are PairModel's.

    Attributes:
        truncated: sequences that were cut so far.
        xlm_tlm: whether its TLM laid pairs out in XLM's way, which it does not meet here.
        trained: whether the MLM head was ever trained; a new one's biases are zero.
    """

    head_prefix = LM_HEAD
    head_name = "MLM head"
    task = "ppa_alignment"

    def __init__(
        self,
        model: Checkpoint,
        source: str,
        probability: float = 0.15,
        seed: int = 1,
        max_length: int = 128,
        batch_tokens: int = 4096,
        cpu: bool = False,
    ):
        super().__init__(model, source, max_length, batch_tokens, cpu)
        scheme = MaskingScheme.for_dictionary(self.dictionary, probability)
        scheme.maskable[self.dictionary.unk()] = False
        self.scheme = replace(scheme, mask_share=1.0, random_share=0.0)
        self.seed = seed
        self.truncated = 0
        self.xlm_tlm = model.xlm_tlm
        head = part(model.state, LM_HEAD)
        self.trained = any(bool(head[name].any()) for name in head if name.endswith("bias"))

    def new_head(self, model: Checkpoint) -> MaskedLMHead:
        return MaskedLMHead(model.shape.dim, model.shape.vocab_size, model.shape.layer_norm_eps)

    def sentences(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Token ids and types of each sentence, [CLS] text [SEP], cut to the maximum length."""
        rows = []
        for ids in self.pieces(texts):
            kept = ids[: self.max_length - 2]
            self.truncated += len(kept) < len(ids)
            tokens = np.concatenate([self.layout.bos, kept, self.layout.eos])
            rows.append((tokens, np.zeros_like(tokens)))
        return rows

    def pairs(self, first: Sequence[str], second: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Token ids and types of each pair in one sequence, cut to the maximum length."""
        sides = list(zip(self.pieces(first), self.pieces(second), strict=True))
        self.truncated += sum(len(one) + len(other) > self.layout.room for one, other in sides)
        return [self.layout.lay(*pair) for pair in sides]

    @torch.inference_mode()
    def __call__(
        self, sequences: Sequence[tuple[np.ndarray, np.ndarray]], progress: Callable[[int], object] = lambda done: None
    ) -> Score:
        """Mask and guess all sequences. `progress` is called with the number of sequences done since its last call.

        Raises:
            InputError: not one piece can be masked; the model gives a loss that is not finite.
        """
        lengths = np.array([len(tokens) for tokens, _ in sequences])
        flat = np.concatenate([tokens for tokens, _ in sequences])  # (T,) of all sequences
        starts = np.cumsum(lengths) - lengths
        sequence = np.repeat(np.arange(len(sequences)), lengths)
        position = np.arange(len(flat)) - np.repeat(starts, lengths)
        masked, chosen = mask_tokens(
            flat, sequence, position, np.arange(len(sequences)), self.scheme, self.seed, EPOCH
        )
        if not len(chosen):
            raise InputError("no piece of the text can be masked: all of it is unknown to the vocabulary")
        is_masked = np.zeros(len(flat), dtype=bool)
        is_masked[chosen] = True
        bits, correct = 0.0, 0
        for batch in batches_by_length(lengths.tolist(), self.batch_tokens):
            spans = [slice(starts[i], starts[i] + lengths[i]) for i in batch]
            packed = self.pack([(masked[span], sequences[i][1]) for i, span in zip(batch, spans, strict=True)])
            wanted = np.flatnonzero(np.concatenate([is_masked[span] for span in spans]))  # (M,) in the batch
            target = np.concatenate([flat[span][is_masked[span]] for span in spans])  # (M,)
            target = torch.from_numpy(target).to(self.device)
            counts = [int(is_masked[span].sum()) for span in spans]
            read = SelectedPositions(torch.from_numpy(wanted).to(self.device), counts)
            hidden = self.encoder(**packed, selected=read)["hidden"]  # (M, C)
            logits = self.head(hidden, self.encoder.embed_tokens.weight).float()  # (M, V)
            bits += F.cross_entropy(logits, target, reduction="none").double().sum().item() / math.log(2)
            correct += int((logits.argmax(-1) == target).sum())
            progress(len(batch))
        bits /= len(chosen)
        if not bits < MAX_BITS:
            raise InputError("the model's loss is not finite, or nearly so: its weights are NaN or too large")
        return Score(len(chosen), bits, 100 * correct / len(chosen))
