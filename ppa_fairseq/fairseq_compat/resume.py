"""Find and validate the checkpoint to resume from, before fairseq loads it, and keep what fairseq does not save.

fairseq itself resumes from whatever is in --save-dir, or starts a new training without a word.
"""

import filecmp
import logging
import os
import socket
import sys
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import torch.distributed as dist
from fairseq import utils
from fairseq.file_io import PathManager
from fairseq.logging import metrics

from ppa_fairseq.checkpoints.format import MODEL_FILE
from ppa_fairseq.fairseq_compat.interrupted_save import LAST, Progress, finish_last_save, is_complete, read_progress
from ppa_fairseq.fairseq_compat.save_dir_lock import lock
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
PRECISIONS = ("fp16", "memory_efficient_fp16", "bf16", "memory_efficient_bf16", "amp")
# They fix which weights have optimizer state; of numbers only whether they are 0 matters.
TRAINED = ("contrastive_weight", "tlm_weight", "freeze_encoder", "freeze_embeddings", "train_layers")


def prepare(cfg, model_cfg, same: tuple[str, ...]) -> None:
    """Lock --save-dir and check what a training will resume from. Exit if it has nothing left to do.

    Args:
        cfg: the task's config.
        same: fields of *cfg* or *model_cfg* that a checkpoint in --save-dir must agree with, beside --pretrained.

    Raises:
        InputError: the checkpoint is missing, hostile, of another training, or not resumable.
    """
    folder = Path(cfg.save_dir)
    last = folder / _with_suffix(LAST, cfg)
    by_default = cfg.restore_file == LAST  # another name is given on purpose
    finishes = by_default and not cfg.no_last_checkpoints
    _take_on_first_rank(folder, finishes)
    if finishes and dist.is_initialized():
        _check_all_ranks_see(folder / LAST)
    if by_default and last.exists():
        progress = read_progress(last)  # refuses a hostile file
        _refuse_other_adapters(last, progress, model_cfg)
        _refuse_another_training(last, progress, cfg, model_cfg, ("pretrained", *same))
        if not cfg.reset_optimizer:  # else updates are counted from 0 again
            _exit_if_done(last, progress, cfg)
            _refuse_another_precision(last, progress, cfg)
    elif named := _named(cfg):
        progress = read_progress(named)
        if not (cfg.reset_optimizer or cfg.finetune_from_model):
            _refuse_another_precision(named, progress, cfg)
        _refuse_other_adapters(named, progress, model_cfg)


def _take_on_first_rank(folder: Path, finishes: bool) -> None:
    """Lock *folder* on rank 0 while the others wait, and finish its last save. An error is raised on all ranks."""
    failed: list[Exception | None] = [None]
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            is_locked = lock(folder)
            if finishes:
                finish_last_save(folder, is_locked)
        except (InputError, OSError) as error:
            failed = [error]
    if dist.is_initialized():
        dist.broadcast_object_list(failed, src=0)
    if failed[0] is not None:
        raise failed[0]


def _check_all_ranks_see(last: Path) -> None:
    """Raise InputError unless all ranks see the same checkpoint: one without would start a new training."""
    here = (socket.gethostname(), read_progress(last).updates if is_complete(last) else -1)
    found = [here] * dist.get_world_size()
    dist.all_gather_object(found, here)
    first, updates = found[0]
    for host, others in found:
        if others != updates:
            raise InputError(
                f"{last} on {host} is not the one on {first}, where rank 0 saves; let the machines share --save-dir, "
                "or copy the newest one to all of them (to start again, delete it on all of them)"
            )


def _named(cfg) -> Path | None:
    """The file that a flag names and fairseq loads if --save-dir has none."""
    flags = {
        "restore-file": None if cfg.restore_file == LAST else _with_suffix(cfg.restore_file, cfg),
        "continue-once": cfg.continue_once,
        "finetune-from-model": cfg.finetune_from_model,
    }
    for flag, name in flags.items():
        if name is not None:
            if not PathManager.isfile(name):
                raise InputError(f"--{flag} {name}: no such file; give the path of a checkpoint, or omit the flag")
            return Path(PathManager.get_local_path(name))
    return None


def _with_suffix(name: str, cfg) -> str:
    return name.replace(".pt", f"{cfg.checkpoint_suffix}.pt")


def _refuse_another_training(last: Path, progress: Progress, cfg, model_cfg, same: tuple[str, ...]) -> None:
    for name in same:
        part, owner = ("model", model_cfg) if hasattr(model_cfg, name) else ("task", cfg)
        now, then = getattr(owner, name), progress.cfg[part].get(name)
        if name not in progress.cfg[part] or str(then) == str(now):  # an older version did not write it
            continue
        if name in TRAINED:
            same_weights = bool(then) == bool(now) and not isinstance(now, str)
            agrees, advice = cfg.reset_optimizer or same_weights, ", or add --reset-optimizer"
        else:
            agrees = name == "pretrained" and then and now and _same_weights(then, now)
            advice = f", or resume it anyway by --restore-file {last}"
        if not agrees:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{last} was trained with {flag} {then}, not {now}; set another --save-dir{advice}")


def _refuse_another_precision(path: Path, progress: Progress, cfg) -> None:
    """Raise InputError if the precision changes: the state of its optimizer fits no other."""
    if not progress.cfg["common"]:  # an older fairseq wrote it
        return
    then, now = (_precision(part) for part in (Namespace(**progress.cfg["common"]), cfg))
    if then != now:
        raise InputError(
            f"{path} was trained {then}, not {now}, and the state of its optimizer fits no other precision; train "
            f"{then} again, or start a new training in another --save-dir, with this checkpoint as --pretrained"
        )


def _precision(common) -> str:
    """The precision that a configuration sets, as "with --fp16"."""
    flags = [name for name in PRECISIONS if getattr(common, name, False)]
    if getattr(common, "fp16", False) and getattr(common, "fp16_no_flatten_grads", False):
        flags.append("fp16_no_flatten_grads")
    return "with " + " ".join("--" + name.replace("_", "-") for name in flags) if flags else "in fp32"


def _refuse_other_adapters(path: Path, progress: Progress, model_cfg) -> None:
    """Raise InputError unless the checkpoint has the adapters of this training: fairseq cannot load others."""
    was = progress.cfg["model"]
    for name in ["lora_rank", "train_layers"] if was.get("lora_rank") else ["lora_rank"]:
        flag, values = "--" + name.replace("_", "-"), (was.get(name), getattr(model_cfg, name, None))
        then, now = (f"with {flag} {value}" if value else f"without {flag}" for value in values)
        if then != now:
            raise InputError(
                f"{path} was trained {then}, not {now}; to start from it, set another --save-dir and --pretrained "
                f"{path}"
            )


def _same_weights(one: str, other: str) -> bool:
    """Whether two paths lead to the same file or folder, or to files with the same content."""
    paths = [Path(os.path.realpath(path)) for path in (one, other)]
    paths = [path / MODEL_FILE if (path / MODEL_FILE).is_file() else path for path in paths]
    return paths[0] == paths[1] or all(path.is_file() for path in paths) and filecmp.cmp(*paths, shallow=False)


def _exit_if_done(last: Path, progress: Progress, cfg) -> None:
    """Exit with status 0 if the training has ended: fairseq would train one more update, or many, and save."""
    ended = []
    if 0 < cfg.max_update <= progress.updates:
        ended.append(f"--max-update is {cfg.max_update}")
    if 0 < cfg.stop_time_hours < progress.hours:
        ended.append(f"it has trained for {progress.hours:.1f} hours and --stop-time-hours is {cfg.stop_time_hours}")
    if 0 < cfg.patience <= progress.bad_validations:
        ended.append(f"{progress.bad_validations} validations did not improve and --patience is {cfg.patience}")
    if ended:
        logger.info(f"{last}: training is done at {progress.updates} updates: {', '.join(ended)}")
        raise SystemExit(0)
    if not progress.resumable:
        raise InputError(
            f"{last} has no optimizer state (--no-save-optimizer-state), so training cannot resume; start a new one in "
            "another --save-dir, with this checkpoint as --pretrained"
        )


class WriteOnce:
    """Part of every checkpoint that fails when it is pickled a second time; loaded, it is an empty OrderedDict.

    If writing fails, fairseq retries into the same file, behind the first part. Nobody can read the result, yet fairseq
    takes it for the newest checkpoint and removes the older ones: a disk that is full for a moment would cost the whole
    training. With this the file stays a `*.tmp`, and the training ends.
    """

    def __init__(self):
        self.written = False

    def __reduce__(self):
        if self.written:
            raise InputError(
                "writing a checkpoint failed (disk full, or a network file system); earlier checkpoints are complete: "
                "free some space and repeat the command"
            )
        self.written = True
        return OrderedDict, ()


def extra_state(task: str) -> dict:
    """What fairseq does not save; the part under *task*, the name of its class, comes back on resume.

    On resume at the start of an epoch fairseq drops what it logged after the last line, and it forgets what --patience
    counts.
    """
    # fairseq moves to the CPU only what it saves itself: elsewhere a machine without GPU could not read the file.
    kept = {"train_inner": utils.move_to_cpu(metrics.get_meters("train_inner").state_dict())}
    if early_stop := {name: value for counts in _early_stop_counts() for name, value in counts.items()}:
        kept["early_stop"] = {"best": float(early_stop["best"]), "num_runs": early_stop["num_runs"]}
    return {task: kept, "write": WriteOnce()}


def restore_extra_state(state: dict) -> None:
    for counts in _early_stop_counts():
        counts.update(state.get("early_stop", {}))
    metrics.load_state_dict({"train_inner": state["train_inner"]})


def _early_stop_counts() -> list[dict]:
    """What --patience counts: fairseq keeps it as attributes of a function."""
    modules = [sys.modules.get(name) for name in ("fairseq_cli.train", "__main__")]  # the latter by `python -m`
    return [vars(module.should_stop_early) for module in modules if hasattr(module, "should_stop_early")]
