"""The loss of PPA (Pan et al. 2021): momentum contrast of sentences plus TLM."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics

from ppa_fairseq.fairseq_compat.arguments import check_values
from ppa_fairseq.utils.errors import InputError

FIRST = 10  # position in the log line; fairseq's own values start at 100


@dataclass
class PPACriterionConfig(FairseqDataclass):
    temperature: float = field(default=0.05, metadata={"help": "temperature of the contrastive softmax"})
    contrastive_weight: float = field(
        default=1.0, metadata={"help": "weight of the contrastive loss; 0 switches it off"}
    )
    tlm_weight: float = field(default=1.0, metadata={"help": "weight of the TLM loss; 0 switches it off"})
    negatives: ChoiceEnum(["queue", "in-batch", "both"]) = field(
        default="queue",
        metadata={
            "help": "queue: keys of the momentum encoder (the paper's); in-batch: the other translations of a rank's "
            "batch, with gradient on both sides and no momentum encoder; both"
        },
    )
    no_pivot_aware: bool = field(
        default=False,
        metadata={"help": "use a key as a negative even if it has the same sentence in --pivot as the query"},
    )


@register_criterion("ppa", dataclass=PPACriterionConfig)
class PPACriterion(FairseqCriterion):
    """contrastive_weight · mean over N pairs of InfoNCE + tlm_weight · mean over M masked tokens of cross-entropy.

    Each mean is over the whole update: all batches of ``--update-freq`` and all ranks. fairseq divides the summed
    gradient by the number of pairs. So the sum over masked tokens is multiplied by the update's pairs per masked token
    (``pairs_per_masked``), which the task's iterator counts ahead. In validation it is the batch's own.
    """

    # In the order of the log line.
    TLM_METRICS = ("loss", "tlm", "tlm_acc")
    CONTRASTIVE_METRICS = ("contrastive", "contrastive_acc", "pos_sim", "hard_neg_sim", "false_neg", "queue_fill")

    def __init__(self, cfg: PPACriterionConfig, task):
        super().__init__(task)
        check_values(cfg)
        if cfg.contrastive_weight == cfg.tlm_weight == 0:
            raise InputError("--contrastive-weight and --tlm-weight are both 0; set one above 0")
        self.cfg = cfg
        self._attempt = 0

    @classmethod
    def metrics_of(cls, contrastive: bool) -> tuple[str, ...]:
        """Names of the values that a validation logs, with the contrastive loss or without."""
        return cls.TLM_METRICS + cls.CONTRASTIVE_METRICS * contrastive

    def train(self, mode: bool = True) -> "PPACriterion":
        """Count attempts at an update. fairseq's trainer calls this at the start of each, also of a repeated one."""
        self._attempt += mode
        return super().train(mode)

    def forward(self, model, sample, reduce=True):
        """Compute the loss of N pairs with M masked tokens; in training mode, also stage their keys in the queue.

        Returns:
            the loss summed over pairs, N, and values to log (sums, which can be added over ranks).
        """
        pairs, masked = sample["nsentences"], len(sample["target"])
        output = model(**sample["net_input"])
        logged = {"nsentences": pairs, "ntokens": sample["ntokens"], "sample_size": pairs, "masked": masked}

        logits, target = output["logits"].float(), sample["target"]  # (M, V), (M,)
        tlm = F.cross_entropy(logits, target, reduction="sum")
        pairs_per_masked = sample.get("pairs_per_masked", pairs / max(masked, 1))
        logged["tlm"] = tlm.detach()
        of_target = logits.detach().gather(1, target[:, None])  # (M, 1)
        logged["tlm_correct"] = (of_target == logits.detach().amax(1, keepdim=True)).sum()  # argmax is slow on a CPU
        loss = self.cfg.tlm_weight * (pairs_per_masked * tlm).float()

        if self.cfg.contrastive_weight > 0:
            with torch.autocast(tlm.device.type, enabled=False):  # fp16 cosines are too coarse for a low temperature
                contrastive, statistics = self.contrast(model.queue, output, sample["pivot"])
            logged |= statistics
            loss = loss + self.cfg.contrastive_weight * contrastive
            if model.training and model.queue is not None:
                model.queue.stage(output["key"], sample["pivot"], self._attempt)
        logged["loss"] = loss.detach()
        return loss, pairs, logged

    def contrast(self, queue, output: dict, pivots: torch.Tensor):
        """Return the contrastive loss, summed over N pairs, and values to log.

        With a queue it is InfoNCE (MoCo, equation 1): each query against its key and the queue's keys. In-batch, it is
        :func:`in_batch_loss`; with both, the queue's keys are further negatives there.

        *pivots* (N,) are the hashes of the pairs' sentences in --pivot. Two keys with the same pivot are not used as
        negatives for each other.
        """
        query, pivot_aware = output["query"], not self.cfg.no_pivot_aware
        negatives, false_negatives, filled = None, pivots.new_zeros(()), 0
        if queue is not None:
            is_negative, false_negatives = queue.find_negatives(pivots, pivot_aware)
            negatives = (query @ queue.keys.T).masked_fill(~is_negative, -math.inf)  # (N, K) cosines
            filled = queue.filled
        if "translation" in output:
            loss, cosines = in_batch_loss(
                query, output["translation"], pivots if pivot_aware else None, self.cfg.temperature, negatives
            )
            positive = cosines.diagonal()  # (N,)
            filled = filled + len(query) - 1
            own = torch.eye(*cosines.shape, dtype=torch.bool, device=cosines.device)
            negatives = cosines.masked_fill(own, -math.inf)  # (N, N + K)
        else:
            positive = (query * output["key"]).sum(-1)  # (N,) cosines
            logits = torch.cat([positive[:, None], negatives], dim=1) / self.cfg.temperature  # (N, 1 + K)
            loss = F.cross_entropy(logits, pivots.new_zeros(len(query)), reduction="sum")
        with torch.no_grad():
            hardest = negatives.max(dim=1).values  # (N,), -inf without negatives
            statistics = {
                "contrastive": loss.detach(),
                "contrastive_correct": (positive > hardest).sum(),
                "positive_similarity": positive.sum(),
                "hardest_negative": hardest.clamp(min=-1.0).sum(),
                "false_negatives": false_negatives,
                "filled": filled * len(query),
                "contrasted": len(query),
            }
        return loss, statistics

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Log both losses (base 2, as fairseq does), and whether the contrast is too easy or the vectors collapse."""

        def total(key):
            return sum(log.get(key, 0) for log in logging_outputs)

        def mean(name, key, count, scale=1.0, digits=3):
            if count:
                position = (PPACriterion.TLM_METRICS + PPACriterion.CONTRASTIVE_METRICS).index(name)
                metrics.log_scalar(name, scale * total(key) / count, count, FIRST + position, round=digits)

        pairs, masked, contrasted = total("nsentences"), total("masked"), total("contrasted")
        bits = 1 / math.log(2)
        compared = contrasted if total("filled") else 0  # with an empty queue every query is right
        mean("loss", "loss", pairs, bits)
        mean("contrastive", "contrastive", compared, bits)
        mean("tlm", "tlm", masked, bits)
        mean("contrastive_acc", "contrastive_correct", compared, 100.0, 1)
        mean("tlm_acc", "tlm_correct", masked, 100.0, 1)
        mean("pos_sim", "positive_similarity", contrasted)
        mean("hard_neg_sim", "hardest_negative", compared)
        mean("false_neg", "false_negatives", contrasted)
        mean("queue_fill", "filled", contrasted, digits=0)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def in_batch_loss(
    query: torch.Tensor,
    translation: torch.Tensor,
    pivots: torch.Tensor | None,
    temperature: float,
    queued: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Let each of N sentences find its translation in the batch, and each translation its sentence, by a softmax.

    The multiple negatives ranking loss (Henderson et al. 2017), both directions averaged, gradient on both sides.

    Args:
        query, translation: (N, D) of unit length.
        pivots: (N,); two pairs with the same pivot are not used as negatives for each other. None: all pairs are.
        queued: (N, K) cosines of the queries to further negatives, -inf for those that are not used.

    Returns:
        the loss summed over pairs, and the queries' cosines (N, N + K).
    """
    cosines = query @ translation.T  # (N, N)
    if pivots is not None:
        same = (pivots[:, None] == pivots) & ~torch.eye(len(pivots), dtype=torch.bool, device=pivots.device)
        cosines = cosines.masked_fill(same, -math.inf)
    target = torch.arange(len(query), device=query.device)
    backward = F.cross_entropy(cosines.T / temperature, target, reduction="sum")
    if queued is not None:
        cosines = torch.cat([cosines, queued], dim=1)  # (N, N + K)
    forward = F.cross_entropy(cosines / temperature, target, reduction="sum")
    return (forward + backward) / 2, cosines
