"""Flags with which fairseq 0.12 would die in the first update or silently train something else.

Architecture functions call `fix_training_args`: fairseq runs them on the command line of `fairseq-train` after its own
changes. `fairseq-hydra-train` and `fairseq-validate` only pass the plugin its parts of the config, one by one. There,
`check_values`, `check_parts` and `refuse_lone_ranks` check each part.
"""

import ast
import logging
import math
import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass

from ppa_fairseq.checkpoints.weights import HEAD_NAME
from ppa_fairseq.fairseq_compat.environment import prepare
from ppa_fairseq.utils.errors import InputError, quote

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Range:
    """Finite numbers from *low*, with or without *low* itself, to *high*."""

    low: float
    high: float = math.inf
    includes_low: bool = True

    def __contains__(self, number: float) -> bool:
        above = number >= self.low if self.includes_low else number > self.low
        return above and number <= self.high and number < math.inf

    def __str__(self) -> str:
        low = f"{'at least' if self.includes_low else 'over'} {self.low:,}"
        return f"{low} and finite" if self.high == math.inf else f"{low} and at most {self.high:,}"


AT_LEAST_0, AT_LEAST_1, OVER_0, SHARE = Range(0), Range(1), Range(0, includes_low=False), Range(0, 1)
RANGES = {
    "adam_eps": AT_LEAST_0,
    "attention_dropout": SHARE,
    "batch_size": AT_LEAST_1,
    "contrastive_weight": AT_LEAST_0,
    "dropout": SHARE,
    "head_dropout": SHARE,
    "log_interval": AT_LEAST_1,
    "lr": AT_LEAST_0,
    "mask_prob": Range(0, 1, includes_low=False),
    "max_tokens": AT_LEAST_1,
    "momentum": SHARE,
    "num_workers": AT_LEAST_0,
    "projection_dim": Range(1, 2**31),
    "queue_size": Range(1, 2**31),
    "sampling_exponent": Range(0, 10),  # far above, powers of corpus sizes overflow
    "seed": Range(0, 4 * 10**9),  # NumPy's limit is 2³² - 1, and fairseq adds epochs
    "temperature": OVER_0,
    "tlm_weight": AT_LEAST_0,
    "tokens_at_once": AT_LEAST_0,
    "update_freq": AT_LEAST_1,
    "warmup_updates": AT_LEAST_0,
    "weight_decay": AT_LEAST_0,
}
# Flags of fairseq's sentence_prediction that its classifier here has only one value for.
FIXED = {
    "classification_head_name": HEAD_NAME,
    "regression_target": False,
    "report_acc_and_f1": False,
    "report_mcc": False,
    "report_pearson_and_spearman": False,
}
PARTNERS = {  # task: its model and its criterion
    "ppa_alignment": ("ppa", "ppa"),
    "xnli_codeswitch": ("ppa_classifier", "sentence_prediction"),
    "mlqa_codeswitch": ("ppa_reader", "span_prediction"),
}


def fix_training_args(args: Namespace) -> None:
    """Correct the command line of `fairseq-train` in place where only one meaning is possible; refuse the rest.

    Raises:
        InputError: flags contradict each other, one is missing or out of range, or fairseq would start no rank.
    """
    prepare()
    if getattr(args, "bf16", False):
        args.tpu = False  # fairseq.options reads --bf16 as a request for a TPU, and dies without torch_xla
    if not hasattr(args, "distributed_world_size"):  # not a command line but a model's config
        return
    check_command_line(args)
    on_cpu = _is_on_cpu(args)
    if on_cpu:
        refuse_loss_scaling(args)
    if is_launched_rank() and args.distributed_init_method is None:
        join_launched_ranks(args)
    if args.distributed_world_size == 1:
        return
    # By default rank 0 loads a checkpoint and sends the others a pickle that torch >= 2.6 refuses.
    args.load_checkpoint_on_all_dp_ranks = True
    if on_cpu:
        if not args.distributed_no_spawn:  # fairseq starts one process per GPU: none, and exits with 0
            raise InputError(
                f"--distributed-world-size {args.distributed_world_size}: fairseq starts ranks on GPUs only; "
                f"on CPU run: torchrun --nproc_per_node {args.distributed_world_size} -m fairseq_cli.train ARGUMENTS"
            )
        if args.distributed_backend == "nccl":
            args.distributed_backend = "gloo"  # nccl needs GPUs
        if args.ddp_backend in ("pytorch_ddp", "c10d"):
            logger.info("--ddp-backend legacy_ddp: fairseq's %s needs a GPU", args.ddp_backend)
            args.ddp_backend = "legacy_ddp"


def check_command_line(args: Namespace) -> None:
    """Raise InputError if flags of `fairseq-train` contradict each other, one is missing or out of range."""
    check_parts(args.task, args.arch, args.criterion)
    check_values(args)
    if args.optimizer is None:
        raise InputError("--optimizer is missing; add one, such as --optimizer fused_adamw")
    if args.batch_size is None and args.max_tokens is None:
        raise InputError("--batch-size and --max-tokens are missing; add one, such as --batch-size 32")
    if args.save_dir == "":
        raise InputError("--save-dir is empty; name a folder")
    if hasattr(args, "adam_betas"):
        read_betas(args.adam_betas)
    if args.lr_scheduler == "polynomial_decay" and not _is_over_0(args.total_num_update):
        raise InputError("--lr-scheduler polynomial_decay: add --total-num-update with the value of --max-update")
    if (args.optimizer, args.task) == ("nag", "ppa_alignment"):
        raise InputError("--optimizer nag: its --momentum conflicts with the model's; choose another, such as adam")


def check_values(cfg) -> None:
    """Raise InputError if a flag in *cfg*, a command line or a part of a config, is out of its range."""
    for name, allowed in RANGES.items():
        values = getattr(cfg, name, None)
        for value in values if isinstance(values, Sequence) else [values]:
            if isinstance(value, (int, float)) and value not in allowed:
                raise InputError(f"{_flag(name)} must be {allowed}, not {value}")
    for name, value in FIXED.items():
        if getattr(cfg, name, value) != value:
            raise InputError(f"{_flag(name)}: --task xnli_codeswitch does not support it; remove the flag")


def check_parts(task: str | None, arch: str | None = None, criterion: str | None = None) -> None:
    """Raise InputError if one part is this plugin's and the others do not fit it. None stands for an unknown part."""
    from fairseq.criterions import CRITERION_REGISTRY
    from fairseq.models import ARCH_MODEL_INV_REGISTRY, ARCH_MODEL_NAME_REGISTRY, MODEL_REGISTRY
    from fairseq.tasks import TASK_REGISTRY

    def fits(name: str | None, ours: str, registry: dict) -> bool:
        """Whether *name* is *ours* or a class derived from it."""
        return name == ours or name in registry and issubclass(registry[name], registry.get(ours, ()))

    found = ARCH_MODEL_NAME_REGISTRY.get(arch, arch)
    by_task = [name for name in PARTNERS if fits(task, name, TASK_REGISTRY)]
    by_model = [name for name, (model, _) in PARTNERS.items() if fits(found, model, MODEL_REGISTRY)]
    for its_task in by_task or by_model:
        model, its_criterion = PARTNERS[its_task]
        parts = [
            (task, its_task, TASK_REGISTRY),
            (found, model, MODEL_REGISTRY),
            (criterion, its_criterion, CRITERION_REGISTRY),
        ]
        if not all(name is None or fits(name, ours, registry) for name, ours, registry in parts):
            flags = {"task": task, "arch": arch, "criterion": criterion}
            given = " ".join(f"--{part} {name}" for part, name in flags.items() if name)
            archs = " or ".join(name for name in ARCH_MODEL_INV_REGISTRY[model] if name != model)
            raise InputError(
                f"{given} do not fit together; use --task {its_task} --criterion {its_criterion} --arch {archs}"
            )


def read_betas(value) -> tuple[float, float]:
    """Parse --adam-betas, text or numbers. Raise InputError unless it is two numbers from 0 to below 1."""
    try:
        first, second = map(float, ast.literal_eval(value) if isinstance(value, str) else value)
    except (ValueError, SyntaxError, TypeError):
        first = second = math.nan
    if not (0 <= first < 1 and 0 <= second < 1):
        raise InputError(f"--adam-betas {quote(value)}: give two numbers from 0 to below 1, as '(0.9, 0.999)'")
    return first, second


def refuse_loss_scaling(args: Namespace) -> None:
    """Raise InputError if --fp16 or --amp is set on CPU.

    fairseq handles overflows of --fp16 with CUDA calls. Without CUDA the scaler of --amp ignores overflows.
    """
    for flag in ("fp16", "amp"):
        if getattr(args, flag):
            raise InputError(f"--{flag} needs a GPU; on CPU remove the flag or use --bf16")


def join_launched_ranks(args: Namespace) -> None:
    """Let a rank of torchrun join the others; without --distributed-world-size fairseq would train it alone."""
    args.distributed_world_size = int(os.environ["WORLD_SIZE"])
    args.distributed_rank = int(os.environ["RANK"])
    args.device_id = int(os.environ.get("LOCAL_RANK", 0))
    args.distributed_init_method = "env://"
    args.distributed_no_spawn = True


def is_launched_rank() -> bool:
    """Whether torchrun (or a program that sets the same variables) started this process as one of several."""
    launched = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return launched and int(os.environ["WORLD_SIZE"]) > 1


def refuse_lone_ranks() -> None:
    """Raise InputError if torchrun or srun started several processes and each would train alone."""
    import torch.distributed

    ranks = os.environ["WORLD_SIZE"] if is_launched_rank() else os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if int(ranks) > 1 and not torch.distributed.is_initialized():
        raise InputError(
            f"{ranks} processes were started, and each would train alone; start them with torchrun, one torchrun per "
            "machine; for fairseq_cli.hydra_train, scripts/recipes/ppa_mbert.yaml lists the settings"
        )


def _is_on_cpu(args: Namespace) -> bool:
    import torch

    return args.cpu or not torch.cuda.is_available()


def _is_over_0(number: float | str | None) -> bool:
    try:
        return float(number) in OVER_0
    except (TypeError, ValueError):
        return False


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
