"""Ways in which fairseq 0.12 dies, or trains something else than was meant, without saying so.

Architecture functions call `fix_training_args`: fairseq runs them on the parsed command line of
`fairseq-train`, after its own last changes and before anything is started. The task's `setup_task` calls
`refuse_lone_ranks`: it is the first point that `fairseq-hydra-train` reaches as well.
"""

import logging
import os
import signal
import threading
from argparse import Namespace
from datetime import timedelta

from ppa_fairseq.utils.errors import HANGS, InputError

logger = logging.getLogger(__name__)

LAUNCH = "ppa launch --nproc {ranks}{cpu} -- <the arguments of fairseq-train>"


def fix_training_args(args: Namespace) -> None:
    """Set right in `args`, in place, what cannot work where only one thing can be meant; else refuse.

    Raises:
        InputError: flags contradict one another or are out of range; or several ranks were asked for, and none would
            be started.
    """
    import torch

    from ppa_fairseq.fairseq_compat.arguments import check_command_line

    if getattr(args, "bf16", False):
        args.tpu = False  # fairseq.options takes --bf16 for a wish for a TPU, and then dies without torch_xla
    if not hasattr(args, "distributed_world_size"):
        return
    check_command_line(args)
    if args.cpu or not torch.cuda.is_available():
        refuse_loss_scaling(args)
    if started_as_rank() and args.distributed_init_method is None:
        join_launched_ranks(args)
    if args.distributed_world_size == 1:
        return
    # Else rank 0 loads a checkpoint and sends the others a pickle that torch >= 2.6 refuses: no resume.
    args.load_checkpoint_on_all_dp_ranks = True
    if args.cpu or not torch.cuda.is_available():
        if not args.distributed_no_spawn and torch.cuda.device_count() == 0:
            # fairseq starts one process a GPU: none, waits for none of them, and exits 0.
            raise InputError(
                f"--distributed-world-size {args.distributed_world_size} on CPU would train nothing: "
                "fairseq starts one rank a GPU, and there is none; run: "
                + LAUNCH.format(ranks=args.distributed_world_size, cpu=" --cpu")
            )
        if args.distributed_backend == "nccl":
            args.distributed_backend = "gloo"  # nccl is for GPUs
        if args.ddp_backend in ("pytorch_ddp", "c10d"):
            logger.info("--ddp-backend legacy_ddp: fairseq's %s needs a GPU", args.ddp_backend)
            args.ddp_backend = (
                "legacy_ddp"  # the others pass device_ids, which torch refuses for a model on CPU
            )


def refuse_loss_scaling(args: Namespace) -> None:
    """Stop a training on CPU that would die at its first overflow, or take gradients that are not finite for good.

    Raises:
        InputError: --fp16 (its handling of overflows calls CUDA) or --amp (without CUDA its scaler lets all pass).
    """
    for flag in ("fp16", "amp"):
        if getattr(args, flag):
            raise InputError(f"--{flag} needs a GPU, as fairseq scales losses there alone; on CPU: --bf16, or neither")


def started_as_rank() -> bool:
    """Whether torchrun (or something that sets the same variables) started this process as one of several."""
    launched = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return launched and int(os.environ["WORLD_SIZE"]) > 1


def join_launched_ranks(args: Namespace) -> None:
    """Make a rank of torchrun join the others; without --distributed-world-size it would train alone."""
    args.distributed_world_size = int(os.environ["WORLD_SIZE"])
    args.distributed_rank = int(os.environ["RANK"])
    args.device_id = int(os.environ.get("LOCAL_RANK", 0))
    args.distributed_init_method = "env://"
    args.distributed_no_spawn = True


def refuse_lone_ranks() -> None:
    """Stop a training that was started as one of several ranks and does not know the others.

    Raises:
        InputError: torchrun or srun started several processes, and each would train by itself.
    """
    import torch.distributed

    ranks = os.environ["WORLD_SIZE"] if started_as_rank() else os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if int(ranks) > 1 and not torch.distributed.is_initialized():
        raise InputError(
            f"{ranks} processes were started, but this one would train alone, and so would the others; "
            "run (with --hydra for fairseq-hydra-train): " + LAUNCH.format(ranks=ranks, cpu=" [--cpu]")
        )


def bound_waiting(seconds: int) -> None:
    """Let --heartbeat-timeout end a rank that waits for another one: no signal reaches Python inside a collective.

    What torch's own limits are without it: 30 minutes with gloo, 10 with nccl.
    """
    import torch.distributed
    from fairseq.distributed import utils as distributed_utils

    if seconds > 0 and torch.distributed.is_initialized():
        group = distributed_utils.get_data_parallel_group()
        torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)
        tell_heartbeat_from_ctrl_c()


def tell_heartbeat_from_ctrl_c() -> None:
    """Let fairseq's heartbeat, which sends its own process SIGINT, raise InputError; Ctrl-C does what it did before."""
    fired, before = threading.Event(), signal.getsignal(signal.SIGINT)

    def interrupted(number, frame):
        if fired.is_set():
            raise InputError(HANGS)
        if callable(before):
            before(number, frame)

    # All that is ever logged there is that the signal is about to be sent.
    heartbeat = logging.getLogger("fairseq.distributed.distributed_timeout_wrapper")
    heartbeat.addFilter(lambda record: fired.set() or True)
    signal.signal(signal.SIGINT, interrupted)
