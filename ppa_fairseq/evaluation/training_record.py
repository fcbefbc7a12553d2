"""What a checkpoint says about its training: the languages, and why this update was kept."""

import math
from dataclasses import dataclass

from ppa_fairseq.checkpoints.weights import Checkpoint


@dataclass(frozen=True)
class TrainingRecord:
    """Facts about a training by `fairseq-train`; each is None if the checkpoint does not have it."""

    train_langs: str | None  # "en" or "en,de,fr"
    code_switch: bool | None
    metric: str | None  # fairseq's --best-checkpoint-metric
    highest: bool | None  # whether the highest value of the metric is the best
    value: float | None  # of the metric, at this checkpoint
    best: float | None  # of the metric, until this checkpoint

    def __str__(self) -> str:
        """One line for a report; empty if nothing is known."""
        facts = []
        if self.train_langs:
            switched = {True: " with code-switching", False: " without code-switching"}
            facts.append(f"trained on {self.train_langs}{switched.get(self.code_switch, '')}")
        if self.metric and self.value is not None:
            if self.best is None or self.value == self.best:
                extreme = "highest" if self.highest else "lowest"
                facts.append(f"chosen for the {extreme} {self.metric} in validation ({self.value:.4g})")
            else:
                facts.append(
                    f"not the update that {self.metric} would choose ({self.value:.4g} in validation; "
                    f"the best was {self.best:.4g})"
                )
        return ", ".join(facts)


def training_record(model: Checkpoint) -> TrainingRecord | None:
    """The record in a checkpoint of `fairseq-train`; None for an import and for a Hugging Face folder."""
    if not model.training.get("checkpoint"):
        return None
    task, rule, state = (model.training[part] for part in ("task", "checkpoint", "extra_state"))
    return TrainingRecord(
        _text(task.get("train_langs")),
        task.get("code_switch"),
        _text(rule.get("best_checkpoint_metric")),
        rule.get("maximize_best_checkpoint_metric"),
        _number(state.get("val_loss")),
        _number(state.get("best")),
    )


def _text(value) -> str | None:
    return value if isinstance(value, str) and value.isprintable() else None


def _number(value) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
