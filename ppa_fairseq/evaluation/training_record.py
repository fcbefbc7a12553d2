"""What a checkpoint tells of its training: on which languages, and by which rule it was chosen."""

import sys
from dataclasses import dataclass
from pathlib import Path

from ppa_fairseq.checkpoints.format import MODEL_FILE, as_dict, scalars
from ppa_fairseq.checkpoints.weights import load_pickle
from ppa_fairseq.utils.errors import InputError


@dataclass(frozen=True)
class TrainingRecord:
    """Each is None where the checkpoint says nothing of it."""

    train_langs: str | None  # "en" or "en,de,fr"
    code_switch: bool | None
    metric: str | None  # fairseq's --best-checkpoint-metric
    highest: bool | None  # whether the highest value of the metric is the best
    value: float | None  # of the metric, at this checkpoint
    best: float | None  # of the metric, until this checkpoint

    def __str__(self) -> str:
        """One line for a report; empty where nothing is known."""
        told = []
        if self.train_langs:
            switched = {True: " with code-switching", False: " without code-switching"}
            told.append(f"trained on {self.train_langs}{switched.get(self.code_switch, '')}")
        if self.metric and self.value is not None:
            if self.best is None or self.value == self.best:
                extreme = "highest" if self.highest else "lowest"
                told.append(f"chosen for the {extreme} {self.metric} in validation ({self.value:.4g})")
            else:
                told.append(
                    f"not the update that {self.metric} would choose ({self.value:.4g} in validation; "
                    f"the best was {self.best:.4g})"
                )
        return ", ".join(told)


def read_record(path: Path) -> TrainingRecord | None:
    """The record in a checkpoint of `fairseq-train`; None for an import and for a Hugging Face folder.

    What is no text on one line, or no finite number, counts as not said. Raises InputError if it is no checkpoint.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        return None
    content = load_pickle(file)
    try:
        cfg = as_dict(content["cfg"])
        parts = cfg.get("task"), cfg.get("checkpoint"), content.get("extra_state")
        task, rule, state = map(scalars, parts)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{file}: no checkpoint of fairseq ({error}); give another") from error
    if not rule:
        return None
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
    return float(value) if isinstance(value, (int, float)) and abs(value) <= sys.float_info.max else None
