"""What a training goes on from: found and judged before fairseq does it, which takes whatever is there, or nothing."""

import logging
from pathlib import Path

from fairseq.file_io import PathManager

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.fairseq_compat import same_checkpoint
from ppa_fairseq.fairseq_compat.interrupted_save import LAST, read_progress
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)


def check(cfg, same: list[tuple]) -> None:
    """Read what the training of *cfg*, a task's config, goes on from; exit if there is nothing left to do.

    Args:
        same: what must be as it was to go on from --save-dir: part of the config, name, value now.

    Raises:
        InputError: it is hostile, is not there, is another training's, or cannot be gone on from.
    """
    last = Path(cfg.save_dir) / LAST.replace(".pt", f"{cfg.checkpoint_suffix}.pt")
    by_default = cfg.restore_file == LAST  # another name was given on purpose
    if by_default and not cfg.no_last_checkpoints:
        same_checkpoint.settle(last.parent)
    if by_default and last.exists():
        old = checkpoint.read_cfg(last)  # if it is hostile, it is refused here: fairseq would read it whole
        _refuse_another_training(last, [(name, old[part].get(name), now) for part, name, now in same])
        _end_what_is_done(cfg, last)
    elif named := _named(cfg):
        checkpoint.read_cfg(named)


def _named(cfg) -> Path | None:
    """The file that fairseq goes on from where it takes none of --save-dir, if one was named."""
    if cfg.restore_file != LAST:
        if cfg.finetune_from_model is not None:
            raise InputError("--restore-file and --finetune-from-model: a training starts from one: give one")
        flag, name = "restore-file", cfg.restore_file.replace(".pt", f"{cfg.checkpoint_suffix}.pt")
    elif cfg.continue_once is not None:
        flag, name = "continue-once", cfg.continue_once
    elif cfg.finetune_from_model is not None:
        flag, name = "finetune-from-model", cfg.finetune_from_model
    else:
        return None
    if not PathManager.isfile(name):  # fairseq would start anew without a word
        what = "is a folder" if Path(name).is_dir() else "no such file"
        raise InputError(f"--{flag} {name}: {what}; give the whole path of a checkpoint, or leave the flag out")
    return Path(PathManager.get_local_path(name))


def _refuse_another_training(last: Path, compared: list[tuple]) -> None:
    """fairseq goes on from whatever it finds in --save-dir, and the encoder that was asked for would be gone."""
    for name, then, now in compared:
        if str(then) != str(now):
            flag = "--" + name.replace("_", "-")
            raise InputError(
                f"{last} is of a training with {flag} {then}, not {now}: give another --save-dir, or go on with it "
                f"all the same by --restore-file {last}"
            )


def _end_what_is_done(cfg, last: Path) -> None:
    """Exit where --max-update is reached: fairseq would look at it after one more update, and save that."""
    if cfg.reset_optimizer:  # it counts from 0 again
        return
    progress = read_progress(last)
    if 0 < cfg.max_update <= progress.updates:
        logger.info(f"{last} has {progress.updates} updates, --max-update is {cfg.max_update}: all is done")
        raise SystemExit(0)
    if not progress.resumable:
        raise InputError(
            f"{last} has no optimizer state (--no-save-optimizer-state), so that its training cannot go on: start "
            "anew in another --save-dir, with it as --pretrained"
        )
