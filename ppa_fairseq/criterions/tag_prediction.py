"""The loss of tagging: a class for each word, at its first token."""

import torch.nn.functional as F
from fairseq.criterions import register_criterion
from fairseq.dataclass import FairseqDataclass

from ppa_fairseq.criterions._finetuning import FinetuningCriterion


@register_criterion("tag_prediction", dataclass=FairseqDataclass)
class TagPredictionCriterion(FinetuningCriterion):
    """Cross-entropy over the tokens that have a class: those with a target of 0 or more."""

    def forward(self, model, sample, reduce=True):
        """Return the loss summed over W words, W, and values to log (sums, which can be added over ranks)."""
        target, words = sample["target"], sample["nwords"]  # (T,)
        tagged = target >= 0
        logits, target = model(**sample["net_input"])[tagged].float(), target[tagged]  # (W, K), (W,)
        loss = F.cross_entropy(logits, target, reduction="sum")
        logged = {
            "loss": loss.detach(),
            "ncorrect": (logits.argmax(1) == target).sum(),
            "nsentences": sample["nsentences"],
            "ntokens": sample["ntokens"],
            "sample_size": words,
        }
        return loss, words, logged
