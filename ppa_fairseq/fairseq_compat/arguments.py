"""Flags with which fairseq 0.12 would die in the first update or silently train something else.

Architecture functions call `fix_training_args`: fairseq runs them on the command line of `fairseq-train` after its own
changes. `fairseq-hydra-train` and `fairseq-validate` only pass the plugin its parts of the config, one by one. There,
`check_values`, `check_parts` and `refuse_lone_ranks` check each part.
"""

import logging
import os
from argparse import Namespace
from collections.abc import Sequence
from math import inf

from ppa_fairseq.fairseq_compat.environment import prepare
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
RANGES = {  # lowest and highest value
    "attention_dropout": (0, 1),
    "batch_size": (1, inf),
    "contrastive_weight": (0, inf),
    "dropout": (0, 1),
    "head_dropout": (0, 1),
    "log_interval": (1, inf),
    "lora_alpha": (1, inf),
    "lora_rank": (0, inf),
    "lr": (0, inf),
    "mask_prob": (0, 1),
    "max_tokens": (1, inf),
    "momentum": (0, 1),
    "projection_dim": (1, inf),
    "queue_size": (1, inf),
    "sampling_exponent": (0, 10),  # far above, powers of corpus sizes overflow
    "temperature": (0, inf),
    "tlm_weight": (0, inf),
    "tokens_at_once": (0, inf),
    "update_freq": (1, inf),
}
NOT_0 = ("mask_prob", "temperature")
SCALED_LOSS = ("fp16", "amp")  # fairseq handles overflows by CUDA; without it, the scaler of --amp ignores them
SHARDED = {"ddp_backend": "fully_sharded", "zero_sharding": "os"}
PARTNERS = {  # task: its model and its criterion; of two tasks with one model, the general one last
    "ppa_alignment": ("ppa", "ppa"),
    "xnli_codeswitch": ("ppa_classifier", "sentence_prediction"),
    "mlqa_codeswitch": ("ppa_reader", "span_prediction"),
    "ppa_classification": ("ppa_classifier", "sentence_prediction"),
    "ppa_tagging": ("ppa_tagger", "tag_prediction"),
}


def fix_training_args(args: Namespace) -> None:
    """Correct the command line of `fairseq-train` in place where only one meaning is possible; refuse the rest.

    Raises:
        InputError: flags contradict each other, one is missing or out of range, or fairseq would start no rank.
    """
    import torch

    prepare()
    if getattr(args, "bf16", False):
        args.tpu = False  # fairseq.options reads --bf16 as a request for a TPU, and dies without torch_xla
    if not hasattr(args, "distributed_world_size"):  # not a command line but a model's config
        return
    check_parts(args.task, args.arch, args.criterion)
    check_values(args)
    if args.optimizer is None:
        raise InputError("--optimizer is missing; add one, such as --optimizer fused_adamw")
    check_device(args)
    on_cpu = args.cpu or not torch.cuda.is_available()
    if is_launched_rank() and args.distributed_init_method is None:
        join_launched_ranks(args)
    elif args.cpu and args.distributed_init_method is None and args.distributed_world_size == torch.cuda.device_count():
        args.distributed_world_size = 1  # fairseq's default is a rank for each GPU
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


def check_device(cfg) -> None:
    """Raise InputError if *cfg* sets a precision that needs a GPU, and there is none that torch can use."""
    import torch

    for flag in (*SCALED_LOSS, "bf16"):
        if not getattr(cfg, flag) or torch.cuda.is_available() and not cfg.cpu or flag == "bf16" and cfg.cpu:
            continue
        why = "" if cfg.cpu else f", and torch can use none: {why_no_gpu()}"
        instead = "add --cpu" if flag == "bf16" else f"remove --{flag}, or use --cpu --bf16"
        raise InputError(f"--{flag} needs a GPU{why}; on a CPU {instead}")


def why_no_gpu() -> str:
    """Return why torch has no GPU to use, in its own words: a driver too old, none, a torch without CUDA."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).partition(". ")[0]
    return "no reason found"


def check_values(cfg) -> None:
    """Raise InputError if a flag in *cfg*, a command line or a part of a config, is out of its range or cannot work."""
    for name, value in SHARDED.items():
        if str(getattr(cfg, name, None)) == value:
            raise InputError(
                f"--{name.replace('_', '-')} {value}: the momentum encoder follows whole weights, not shards of them; "
                "omit the flag"
            )
    for name, (low, high) in RANGES.items():
        values = getattr(cfg, name, None)
        for value in values if isinstance(values, Sequence) else [values]:
            if not isinstance(value, (int, float)):
                continue
            if not low <= value <= high or value == inf or value == 0 and name in NOT_0:
                lowest = "over 0" if name in NOT_0 else f"at least {low}"
                highest = "finite" if high == inf else f"at most {high}"
                raise InputError(f"--{name.replace('_', '-')} must be {lowest} and {highest}, not {value}")


def check_parts(task: str | None, arch: str | None = None, criterion: str | None = None) -> None:
    """Raise InputError if one part is this plugin's and the others do not fit it. None stands for an unknown part.

    A part that is derived from one of this plugin's fits, too.
    """
    from fairseq.criterions import CRITERION_REGISTRY
    from fairseq.models import ARCH_MODEL_INV_REGISTRY, ARCH_MODEL_NAME_REGISTRY, MODEL_REGISTRY
    from fairseq.tasks import TASK_REGISTRY

    registries = (TASK_REGISTRY, MODEL_REGISTRY, CRITERION_REGISTRY)
    given = (task, ARCH_MODEL_NAME_REGISTRY.get(arch, arch), criterion)
    of_model = {its_model: its_task for its_task, (its_model, _) in PARTNERS.items()}
    its_task = task if task in PARTNERS else of_model.get(given[1])
    if its_task is None:
        return
    ours = (its_task, *PARTNERS[its_task])
    fits = (
        name is None or issubclass(registry.get(name, object), registry[own])
        for name, own, registry in zip(given, ours, registries, strict=True)
    )
    if not all(fits):
        _, its_model, its_criterion = ours
        archs = " or ".join(name for name in ARCH_MODEL_INV_REGISTRY[its_model] if name != its_model)
        raise InputError(
            f"--task {task} --arch {arch} --criterion {criterion} do not fit together; use --task {its_task} "
            f"--criterion {its_criterion} --arch {archs}"
        )


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
