"""The loss of extractive question answering: the answer's first and last token."""

import math

import torch
import torch.nn.functional as F
from fairseq.criterions import register_criterion
from fairseq.dataclass import FairseqDataclass

from ppa_fairseq.criterions._finetuning import FinetuningCriterion


@register_criterion("span_prediction", dataclass=FairseqDataclass)
class SpanPredictionCriterion(FinetuningCriterion):
    """Mean of two cross-entropies over the tokens of the context and [CLS], which means "not in this window"."""

    def forward(self, model, sample, reduce=True):
        """Return the loss summed over N windows, N, and values to log (sums, which can be added over ranks)."""
        packed, windows = sample["net_input"], sample["nsentences"]
        logits = model(**packed).float().masked_fill(~sample["choices"][:, None], -math.inf)  # (T, 2)
        sequence = torch.repeat_interleave(
            torch.arange(windows, device=logits.device), packed["cu_seqlens"].diff().long(), output_size=len(logits)
        )  # (T,)
        padded = logits.new_full((windows, packed["max_length"], 2), -math.inf)
        padded = padded.index_put((sequence, packed["positions"]), logits)  # (N, L, 2)
        target = sample["target"]  # (N, 2)
        loss = F.cross_entropy(padded, target, reduction="sum") / 2
        logged = {
            "loss": loss.detach(),
            "ncorrect": (padded.argmax(1) == target).all(1).sum(),
            "nsentences": windows,
            "ntokens": sample["ntokens"],
            "sample_size": windows,
        }
        return loss, windows, logged
