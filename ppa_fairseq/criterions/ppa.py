"""The loss of PPA: momentum contrast over sentences plus translation language modelling over words."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics

from ppa_fairseq.fairseq_compat.arguments import check_values
from ppa_fairseq.utils.errors import InputError

FIRST = 10  # fairseq's priority of what a criterion logs; its trainer's come from 100 on


@dataclass
class PPACriterionConfig(FairseqDataclass):
    temperature: float = field(default=0.05, metadata={"help": "of the contrastive softmax"})
    contrastive_weight: float = field(default=1.0, metadata={"help": "weight of the contrastive loss; 0 leaves it out"})
    tlm_weight: float = field(default=1.0, metadata={"help": "weight of the TLM loss; 0 leaves it out"})
    no_pivot_aware: bool = field(
        default=False,
        metadata={"help": "count a key as a negative even if its side in --pivot is the query's own sentence"},
    )


@register_criterion("ppa", dataclass=PPACriterionConfig)
class PPACriterion(FairseqCriterion):
    """contrastive_weight · mean over N pairs of InfoNCE + tlm_weight · mean over M masked tokens of cross-entropy.

    Each part has its own mean, and each mean is over the whole update: all micro-batches of ``--update-freq`` and all
    ranks. fairseq divides the summed gradient by the number of pairs, so the TLM sum is scaled by pairs per masked
    token of the update, which the task's iterator counts ahead (``pairs_per_masked``). In validation a batch stands for
    itself.
    """

    OF_WORDS = ("loss", "tlm", "tlm_acc")  # with the next line, in the order of the log
    OF_SENTENCES = ("contrastive", "contrastive_acc", "pos_sim", "hard_neg_sim", "false_neg", "queue_fill")

    def __init__(self, cfg: PPACriterionConfig, task):
        super().__init__(task)
        check_values(cfg)
        if cfg.contrastive_weight == cfg.tlm_weight == 0:
            raise InputError("--contrastive-weight and --tlm-weight are both 0: nothing would be trained")
        self.cfg = cfg
        self._attempt = 0

    @classmethod
    def metrics_of(cls, contrastive: bool) -> tuple[str, ...]:
        """The names that a validation gives to what it logs, with the contrastive part or without."""
        return cls.OF_WORDS + cls.OF_SENTENCES * contrastive

    def train(self, mode: bool = True) -> "PPACriterion":
        """fairseq's trainer calls this once at the start of each attempt at an update, a failed one's repeat too."""
        self._attempt += mode
        return super().train(mode)

    def forward(self, model, sample, reduce=True):
        """The loss of one batch.

        Returns:
            the loss summed over pairs, the number of pairs N, and what is logged (sums, so that ranks can be added).
            Keys of a training batch are staged in the model's queue.
        """
        pairs, masked = sample["nsentences"], len(sample["target"])
        output = model(**sample["net_input"])
        logged = {"nsentences": pairs, "ntokens": sample["ntokens"], "sample_size": pairs, "masked": masked}

        tlm = F.cross_entropy(output["logits"].float(), sample["target"], reduction="sum")
        pairs_per_masked = sample.get("pairs_per_masked", pairs / max(masked, 1))
        logged["tlm"] = tlm.detach()
        logged["tlm_correct"] = (output["logits"].detach().argmax(-1) == sample["target"]).sum()
        loss = self.cfg.tlm_weight * (pairs_per_masked * tlm).float()

        # Batches of validation have both parts whatever the weights are, and fairseq's dummy may be one of them.
        if self.cfg.contrastive_weight > 0:
            with torch.autocast(tlm.device.type, enabled=False):  # at this temperature fp16 cosines are too coarse
                contrastive, seen = self.contrast(model.queue, output["query"], output["key"], sample["pivot"])
            logged |= seen
            loss = loss + self.cfg.contrastive_weight * contrastive
            if model.training:
                model.queue.stage(output["key"], sample["pivot"], self._attempt)
        logged["loss"] = loss.detach()
        return loss, pairs, logged

    def contrast(self, queue, query: torch.Tensor, key: torch.Tensor, pivots: torch.Tensor):
        """InfoNCE of *query* against its *key* (both (N, D)) and the keys in *queue*, summed over the N pairs."""
        positive = (query * key).sum(-1, keepdim=True)  # (N, 1) cosine
        negative = query @ queue.keys.T  # (N, K)
        is_negative, false_negatives = queue.is_negative(pivots, not self.cfg.no_pivot_aware)
        negative = negative.masked_fill(~is_negative, -math.inf)
        logits = torch.cat([positive, negative], dim=1) / self.cfg.temperature  # (N, 1 + K)
        target = torch.zeros(len(query), dtype=torch.int64, device=query.device)
        loss = F.cross_entropy(logits, target, reduction="sum")
        with torch.no_grad():
            hardest = negative.max(dim=1).values  # (N,), -inf without negatives
            seen = {
                "contrastive": loss.detach(),
                "contrastive_correct": (positive[:, 0] > hardest).sum(),
                "positive_similarity": positive.sum(),
                "hardest_negative": hardest.clamp(min=-1.0).sum(),
                "false_negatives": false_negatives,
                "filled": queue.filled * len(query),
                "contrasted": len(query),
            }
        return loss, seen

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Log both losses (base 2, as fairseq does) and what tells whether the contrast is too easy or collapsing."""

        def total(key):
            return sum(log.get(key, 0) for log in logging_outputs)

        def mean(name, key, count, scale=1.0, digits=3):
            if count:
                # What is told from the second update on has its place nonetheless, as checkpoints keep the order.
                priority = FIRST + (PPACriterion.OF_WORDS + PPACriterion.OF_SENTENCES).index(name)
                metrics.log_scalar(name, scale * total(key) / count, count, priority, round=digits)

        pairs, masked, contrasted = total("nsentences"), total("masked"), total("contrasted")
        bits = 1 / math.log(2)
        told = contrasted if total("filled") else 0  # against an empty queue every query is right
        mean("loss", "loss", pairs, bits)
        mean("contrastive", "contrastive", told, bits)
        mean("tlm", "tlm", masked, bits)
        mean("contrastive_acc", "contrastive_correct", told, 100.0, 1)
        mean("tlm_acc", "tlm_correct", masked, 100.0, 1)
        mean("pos_sim", "positive_similarity", contrasted)
        mean("hard_neg_sim", "hardest_negative", told)
        mean("false_neg", "false_negatives", contrasted)
        mean("queue_fill", "filled", contrasted, digits=0)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
