"""What fairseq 0.12 needs from its process with current versions of Python, torch and hydra: one fault a function.

`prepare` runs when fairseq sets up a task, chooses an architecture or loads a dictionary, and not on import.

Private names in this package, for want of public ones: `end_groups_at_exit` and `bound_waiting` set fairseq's
`get_global_group._global_group`, and the former calls torch's `_abort_process_group`; `optimizers.py` here and
`modules/momentum_encoder.py` call `torch._foreach_copy_`, `_lerp_`, `_mul_`, `_norm` and `_sub`, which take all weights
in one call.
"""

import argparse
import atexit
import ctypes
import functools
import gc
import os
import signal
import sys
import warnings
from datetime import timedelta

from ppa_fairseq.utils.errors import one_line

# Warnings that a user of fairseq can do nothing about: category and start of the message, a regular expression.
# hydra begins some of them with a line break.
NOISE = (
    # fairseq.dataclass.utils imports compose and initialize from hydra.experimental.
    (UserWarning, r"\s*hydra\.experimental\.\w+\(\) is no longer experimental"),
    # fairseq calls hydra.main and initialize without version_base; setup.cfg excludes hydra 1.4.
    (UserWarning, r"\s*The version_base parameter is not specified"),
    # fairseq/config/config.yaml begins with "# @package _group_".
    (UserWarning, r"\s*In '.*': Usage of deprecated keyword in package header"),
    # hydra_init stores the schema of FairseqConfig under the name of the config file.
    (UserWarning, r"\s*'.*' is validated against ConfigStore schema with the same name"),
    # convert_namespace_to_omegaconf calls compose(strict=False).
    (UserWarning, r"\s*The strict flag in the compose API is deprecated"),
    # fairseq's iterators pin memory on every machine.
    (UserWarning, r"'pin_memory' argument is set as true but no accelerator is found"),
    # Trainer uses GradScaler and autocast under their old names.
    (FutureWarning, r"`torch\.cuda\.amp\.\w+\(args\.\.\.\)` is deprecated"),
)
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@functools.cache
def prepare() -> None:
    """Prepare this process for fairseq, once."""
    silence_known_noise()
    allow_namespace_in_torch_load()
    show_input_errors_as_one_line()
    end_groups_at_exit()
    die_with_launcher()


def silence_known_noise() -> None:
    """Hide the warnings in `NOISE` and no others, so that the training log stays readable."""
    for category, message in NOISE:
        warnings.filterwarnings("ignore", message=message, category=category)


def allow_namespace_in_torch_load() -> None:
    """Let fairseq's `torch.load` read its own checkpoints.

    Since torch 2.6, `weights_only` is the default. fairseq stores parts of its config as `argparse.Namespace`.
    """
    import torch

    torch.serialization.add_safe_globals([argparse.Namespace])


def show_input_errors_as_one_line() -> None:
    """Print bad input, a file that the system refuses and Ctrl-C as one line; other errors keep their traceback."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # else hydra prints its own traceback and skips the hook
    before = sys.excepthook

    def show(kind, error, trace):
        if isinstance(error, KeyboardInterrupt):
            end_interrupted()
        elif message := one_line(error) or lost_ranks(error):
            print(f"ppa_fairseq: error: {message}", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = show


def lost_ranks(error: BaseException) -> str | None:
    """Return the line that a user reads where nccl, or the network between ranks, failed."""
    import torch.distributed as dist

    if not (dist.is_available() and isinstance(error, dist.DistError)):
        return None
    reason = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return (
        f"the ranks lost each other ({type(error).__name__}: {reason}); look for a rank that failed before this one, "
        "or set NCCL_DEBUG=INFO; the same command resumes from the last checkpoint"
    )


def end_interrupted() -> None:
    """Die of SIGINT at once; Python would first wait for the data workers, for seconds."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # else torchrun reports the interrupt
        # Not sys.stderr: torch.distributed delays what an excepthook writes there.
        message = "interrupted; the same command resumes from the last checkpoint in --save-dir, if there is one"
        print(f"ppa_fairseq: error: {message}", file=sys.__stderr__, flush=True)
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def end_groups_at_exit() -> None:
    """Destroy the process groups of a rank before Python ends; fairseq never does.

    A thread of gloo may still hold the tensors of the last collective. If Python frees them while it ends, the rank
    dies of SIGABRT after a complete training (pytorch/pytorch#179291). nccl warns, and may hang the other ranks.
    """
    atexit.register(_end_groups)


def _end_groups() -> None:
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return
    if fairseq_distributed := sys.modules.get("fairseq.distributed.utils"):
        vars(fairseq_distributed.get_global_group).pop("_global_group", None)
    if dist.get_backend() == "nccl":
        dist.distributed_c10d._abort_process_group()  # waits for nobody, also where this rank failed
    else:
        dist.destroy_process_group()
    gc.collect()  # the trainer and its wrapped model hold the group, and each other


def die_with_launcher() -> None:
    """On Linux, let a rank die when torchrun dies, by `kill -9` too.

    Otherwise the rank trains on unseen and writes into --save-dir beside the training that replaces it.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def bound_waiting(seconds: int) -> None:
    """Let --heartbeat-timeout also end a rank that waits for another rank inside a collective.

    fairseq's heartbeat sends SIGINT, which Python handles only after the collective. torch's own limit is 30 minutes
    with gloo and 10 with nccl. Call this after the ranks have met and before fairseq makes its own group.
    """
    import torch.distributed as dist
    from fairseq.distributed.utils import get_global_group

    if seconds > 0 and dist.is_initialized():
        get_global_group._global_group = dist.new_group(timeout=timedelta(seconds=seconds))
