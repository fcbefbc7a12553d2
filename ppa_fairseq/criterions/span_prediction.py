"""The loss of extractive question answering: the answer's first and last token."""

import math

import torch
import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics


@register_criterion("span_prediction", dataclass=FairseqDataclass)
class SpanPredictionCriterion(FairseqCriterion):
    """Mean of two cross-entropies over the tokens of the context and [CLS], which means "not in this window"."""

    def __init__(self, cfg: FairseqDataclass, task):
        super().__init__(task)

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

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Log the loss (base 2) and the percentage of windows in which first and last token are right."""
        windows = sum(log["nsentences"] for log in logging_outputs)
        if windows:
            loss = sum(log["loss"] for log in logging_outputs)
            metrics.log_scalar("loss", loss / windows / math.log(2), windows, round=3)
            correct = sum(log["ncorrect"] for log in logging_outputs)
            metrics.log_scalar("accuracy", 100.0 * correct / windows, windows, round=2)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
