"""What newer Python, NumPy and torch break in fairseq, mended from outside; each line with its reason."""

import argparse
import atexit
import gc
import re
import sys
import types
import warnings
from importlib import metadata

from ppa_fairseq.utils.errors import InputError

# Known noise of fairseq 0.12 on newer libraries: category and start of the message, a regular expression
# (hydra begins some with a line break). The comments tell who causes it, and why it may be left unsaid.
NOISE = (
    # fairseq.dataclass.utils still imports compose and initialize from hydra.experimental.
    (UserWarning, r"\s*hydra\.experimental\.\w+\(\) is no longer experimental"),
    # fairseq calls hydra.main and initialize as in hydra 1.0, without version_base; hydra < 1.4 is pinned.
    (UserWarning, r"\s*The version_base parameter is not specified"),
    # fairseq/config/config.yaml begins with "# @package _group_", which hydra 1.3 still understands.
    (UserWarning, r"\s*In '.*': Usage of deprecated keyword in package header"),
    # hydra_init stores the schema of FairseqConfig under the name of the config file.
    (UserWarning, r"\s*'.*' is validated against ConfigStore schema with the same name"),
    # convert_namespace_to_omegaconf calls compose(strict=False).
    (UserWarning, r"\s*The strict flag in the compose API is deprecated"),
    # fairseq's iterators pin memory wherever they run.
    (UserWarning, r"'pin_memory' argument is set as true but no accelerator is found"),
    # Trainer makes torch.cuda.amp.GradScaler and autocast by their old names; they act as before.
    (FutureWarning, r"`torch\.cuda\.amp\.\w+\(args\.\.\.\)` is deprecated"),
)


def apply() -> None:
    """Mend what fairseq 0.12 expects of older libraries. Safe to call twice.

    Raises:
        InputError: upstream fairseq is installed where it cannot work.
    """
    refuse_upstream_fairseq()
    restore_numpy_names()
    silence_known_noise()
    atexit.unregister(end_gloo)
    atexit.register(end_gloo)
    if (
        "torch" in sys.modules
    ):  # as it is when fairseq imports the plugin; `ppa` commands without torch start faster
        prepare_torch_load()


def refuse_upstream_fairseq() -> None:
    """Stop where upstream `fairseq` shares the folder of a re-build, or cannot be imported at all.

    Every distribution of fairseq owns the folder fairseq/: the one installed last overwrote the other.
    """
    installed = {
        name: version for name in ("fairseq", "ve-fairseq", "fairseq-fixed") if (version := version_of(name))
    }
    if "fairseq" not in installed or (len(installed) == 1 and sys.version_info < (3, 11)):
        return
    found = " and ".join(f"{name} {version}" for name, version in installed.items())
    why = "they own the same folder" if len(installed) > 1 else "it cannot be imported on Python >= 3.11"
    raise InputError(
        f"found {found} in {sys.prefix}: {why}; run: pip uninstall -y {' '.join(installed)} "
        "&& pip install -c constraints.txt -e .  (or let scripts/setup_env.sh make a fresh .venv)"
    )


def version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def restore_numpy_names() -> None:
    """Put back the aliases that NumPy 1.24 and 2.0 removed; fairseq.data uses np.int and np.compat.long."""
    import numpy as np

    for name, kind in (("int", int), ("float", float), ("bool", bool), ("object", object)):
        if name not in vars(np):
            setattr(np, name, kind)
    if "compat" not in vars(np):
        np.compat = types.SimpleNamespace(long=int)


def silence_known_noise() -> None:
    """Hide the warnings in `NOISE` and no others, so that a user sees the training log."""
    for category, message in NOISE:
        warnings.filterwarnings("ignore", message=message, category=category)


def end_gloo() -> None:
    """End the process groups of a rank on CPU before Python ends; fairseq leaves that to torch, which can abort.

    A thread of gloo may still hold the tensors of the last collective. Freed while the interpreter ends they take the
    whole rank with them, by SIGABRT (pytorch/pytorch#179291).
    """
    dist = sys.modules.get("torch.distributed")
    if dist and dist.is_available() and dist.is_initialized() and dist.get_backend() == "gloo":
        if fairseqs := sys.modules.get("fairseq.distributed.utils"):
            vars(fairseqs.get_global_group).pop("_global_group", None)  # its own, which no one else can let go
        dist.destroy_process_group()
        gc.collect()  # the trainer and its wrapped model hold the group, and one another


def prepare_torch_load() -> None:
    """Let torch.load read fairseq's checkpoints under weights_only, its default since 2.6, and refuse others soon."""
    import torch

    torch.serialization.add_safe_globals([argparse.Namespace])
    torch.serialization.re = _BoundedSearch()


class _BoundedSearch:
    # torch.load searches the message of its own refusal by a pattern that takes n² steps at a word of n characters,
    # and such words come from the file: 40,000 of them are half a minute, a million are hours.
    LONGEST = 1000

    def __getattr__(self, name):
        return getattr(re, name)

    def search(self, pattern, string, flags=0):
        return re.search(pattern, string[: self.LONGEST], flags)
