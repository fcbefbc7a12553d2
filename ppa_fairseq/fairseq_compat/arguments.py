"""Flags that fairseq takes, and then dies of in the first update, or trains something else with than was meant.

`check_command_line` sees all flags of `fairseq-train`. `fairseq-hydra-train` and `fairseq-validate` show the plugin
parts of the config alone, one after the other: `check_values` and `check_parts` look at what is there.
"""

import ast
import math
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass

from ppa_fairseq.checkpoints.weights import HEAD_NAME
from ppa_fairseq.fairseq_compat.known_errors import MOMENTUM_OF_TWO, NO_BATCH_SIZE, NO_OPTIMIZER
from ppa_fairseq.utils.errors import InputError, shown

HIGHEST_SEED = 4 * 10**9  # NumPy's limit is 2³² - 1, and epochs are added


@dataclass(frozen=True)
class Range:
    """Finite numbers from *low* to *high*."""

    low: float
    high: float = math.inf
    low_too: bool = True

    def has(self, number: float) -> bool:
        above = number >= self.low if self.low_too else number > self.low
        return above and number <= self.high and number < math.inf

    def __str__(self) -> str:
        low = f"{'at least' if self.low_too else 'over'} {self.low:,}"
        return f"{low} and finite" if self.high == math.inf else f"{low} and at most {self.high:,}"


AT_LEAST_0, AT_LEAST_1, OVER_0 = Range(0), Range(1), Range(0, low_too=False)
SHARE = Range(0, 1)
RANGES = {
    "adam_eps": AT_LEAST_0,
    "attention_dropout": SHARE,
    "batch_size": AT_LEAST_1,
    "contrastive_weight": AT_LEAST_0,
    "dropout": SHARE,
    "head_dropout": SHARE,
    "log_interval": AT_LEAST_1,
    "lr": AT_LEAST_0,
    "mask_prob": Range(0, 1, low_too=False),
    "max_tokens": AT_LEAST_1,
    "momentum": SHARE,
    "num_workers": AT_LEAST_0,
    "projection_dim": Range(1, 2**31),
    "queue_size": Range(1, 2**31),
    "sampling_exponent": Range(0, 10),  # sizes to the power of much more are no numbers
    "seed": Range(0, HIGHEST_SEED),
    "temperature": OVER_0,
    "tlm_weight": AT_LEAST_0,
    "tokens_at_once": AT_LEAST_0,
    "update_freq": AT_LEAST_1,
    "warmup_updates": AT_LEAST_0,
    "weight_decay": AT_LEAST_0,
}
# Of fairseq's sentence_prediction: what the classifier has one of, and what takes the names of labels for numbers.
FIXED = {
    "classification_head_name": HEAD_NAME,
    "regression_target": False,
    "report_acc_and_f1": False,
    "report_mcc": False,
    "report_pearson_and_spearman": False,
}
GOES_WITH = {  # task: its model and its criterion
    "ppa_alignment": ("ppa", "ppa"),
    "xnli_codeswitch": ("ppa_classifier", "sentence_prediction"),
    "mlqa_codeswitch": ("ppa_reader", "span_prediction"),
}


def check_command_line(args: Namespace) -> None:
    """Raise InputError if the flags of `fairseq-train` contradict one another, one is missing or out of its range."""
    check_parts(args.task, args.arch, args.criterion)
    check_values(args)
    if args.optimizer is None:
        raise InputError(NO_OPTIMIZER)
    if args.batch_size is None and args.max_tokens is None:
        raise InputError(NO_BATCH_SIZE)
    if args.save_dir == "":
        raise InputError("--save-dir is empty: give a folder")
    if hasattr(args, "adam_betas"):
        read_betas(args.adam_betas)
    if args.lr_scheduler == "polynomial_decay":
        check_decay(args.total_num_update)
    if (args.optimizer, args.task) == ("nag", "ppa_alignment"):
        raise InputError(MOMENTUM_OF_TWO)


def check_values(cfg) -> None:
    """Raise InputError if a flag in *cfg*, a command line or a part of a config, is out of its range."""
    for name, allowed in RANGES.items():
        values = getattr(cfg, name, None)
        for value in values if isinstance(values, Sequence) else [values]:
            if isinstance(value, (int, float)) and not allowed.has(value):
                raise InputError(f"{flag(name)} must be {allowed}, not {value}")
    for name, value in FIXED.items():
        if getattr(cfg, name, value) != value:
            raise InputError(f"{flag(name)}: --task xnli_codeswitch cannot have it: leave it out")


def check_parts(task: str | None, arch: str | None = None, criterion: str | None = None) -> None:
    """Raise InputError unless they go together, if one of them is this plugin's. None: not known, not looked at."""
    from fairseq.criterions import CRITERION_REGISTRY
    from fairseq.models import ARCH_MODEL_INV_REGISTRY, ARCH_MODEL_NAME_REGISTRY, MODEL_REGISTRY
    from fairseq.tasks import TASK_REGISTRY

    def are(name: str | None, wanted: str, registry: dict) -> bool:
        """Whether it is that one, or a class that somebody derived from it."""
        return name == wanted or name in registry and issubclass(registry[name], registry.get(wanted, ()))

    found = ARCH_MODEL_NAME_REGISTRY.get(arch, arch)
    by_task = [name for name in GOES_WITH if are(task, name, TASK_REGISTRY)]
    by_model = [name for name, (model, _) in GOES_WITH.items() if are(found, model, MODEL_REGISTRY)]
    for its_task in by_task or by_model:
        model, its_criterion = GOES_WITH[its_task]
        parts = [
            (task, its_task, TASK_REGISTRY),
            (found, model, MODEL_REGISTRY),
            (criterion, its_criterion, CRITERION_REGISTRY),
        ]
        if not all(name is None or are(name, wanted, registry) for name, wanted, registry in parts):
            flags = {"task": task, "arch": arch, "criterion": criterion}
            given = " ".join(f"--{part} {name}" for part, name in flags.items() if name)
            archs = " or ".join(name for name in ARCH_MODEL_INV_REGISTRY[model] if name != model)
            raise InputError(
                f"{given} do not go together: give --task {its_task} --criterion {its_criterion} --arch {archs}"
            )


def check_decay(updates: float | str | None) -> None:
    """Raise InputError unless *updates*, --total-num-update as it was given, is a number over 0."""
    try:
        sound = OVER_0.has(float(updates))
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise InputError(
            "--lr-scheduler polynomial_decay: give --total-num-update, after which the rate is 0: what --max-update is"
        )


def read_betas(value) -> tuple[float, float]:
    """What --adam-betas tells, as text or as numbers. Raises InputError if that is no two numbers from 0 to below 1."""
    try:
        first, second = map(float, ast.literal_eval(value) if isinstance(value, str) else value)
    except (ValueError, SyntaxError, TypeError):
        first = second = math.nan
    if not (0 <= first < 1 and 0 <= second < 1):
        raise InputError(f"--adam-betas {shown(value)}: give two numbers from 0 to below 1, as '(0.9, 0.999)'")
    return first, second


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")
