"""What the losses of fine-tuning share: loss and accuracy over labelled units."""

import math

from fairseq.criterions import FairseqCriterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics


class FinetuningCriterion(FairseqCriterion):
    """A loss that logs its sum, `sample_size`, and the number of units that are right, `ncorrect`."""

    def __init__(self, cfg: FairseqDataclass, task):
        super().__init__(task)

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Log the loss (base 2) and the percentage of units that are right."""
        units = sum(log["sample_size"] for log in logging_outputs)
        if units:
            loss = sum(log["loss"] for log in logging_outputs)
            metrics.log_scalar("loss", loss / units / math.log(2), units, round=3)
            correct = sum(log["ncorrect"] for log in logging_outputs)
            metrics.log_scalar("accuracy", 100.0 * correct / units, units, round=2)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
