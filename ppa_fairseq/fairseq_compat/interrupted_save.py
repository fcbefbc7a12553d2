"""Finish a save that was interrupted, so that fairseq resumes from the newest complete checkpoint.

fairseq writes a checkpoint to a temporary file and renames it, but then copies it to checkpoint_best.pt and
checkpoint_last.pt. A process that dies in between leaves an older or a truncated copy, and without checkpoint_last.pt
fairseq starts a new training. This repeats the copies, each in one step.
"""

import logging
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

from ppa_fairseq.checkpoints.format import as_dict
from ppa_fairseq.checkpoints.weights import load_pickle
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
LAST, BEST = "checkpoint_last.pt", "checkpoint_best.pt"
KEPT_BEST = re.compile(r"checkpoint\.best_.+\.pt")  # --keep-best-checkpoints
SAVED = re.compile(r"checkpoint(\d+|_\d+_\d+|_best|\.best_.+)\.pt")  # what fairseq writes before LAST


class Progress(NamedTuple):
    """The state of a training in its checkpoint."""

    updates: int
    resumable: bool  # with optimizer state
    is_best: bool  # of all validations until then
    hours: float
    bad_validations: int  # in a row without a better one, as --patience counts them
    cfg: dict[str, dict]


def finish_last_save(folder: Path, is_locked: bool = True) -> None:
    """Bring *folder* to the state after a complete save: checkpoint_last.pt is the newest complete checkpoint.

    Remove temporary files of interrupted writes, unless without a lock another training may be writing them. Replace
    links by copies. If this is killed, run it again.

    Raises:
        InputError: there are checkpoints, but no complete one.
        OSError: writing a copy failed.
    """
    for left in folder.glob("checkpoint*.pt.tmp") if is_locked else ():
        left.unlink()
    _repeat_copies(folder)
    for link in (folder / BEST, folder / LAST):
        if link.is_symlink() and link.exists():  # fairseq would overwrite the checkpoint that it points to
            _copy(link, link)


def _repeat_copies(folder: Path) -> None:
    last = folder / LAST
    last_complete = is_complete(last)
    # By the change of the directory entry: a user who moved or linked an older checkpoint to LAST wants that one.
    saved = [path for path in folder.glob("checkpoint*.pt") if SAVED.fullmatch(path.name)]
    newer = [path for path in saved if not last_complete or changed(path) > changed(last)]
    newest = next((path for path in sorted(newer, key=changed, reverse=True) if is_complete(path)), None)
    if newest is None:
        if not last_complete and (saved or last.exists()):
            raise InputError(
                f"{last if last.exists() else folder}: incomplete, and there is no complete checkpoint beside it; "
                "delete the checkpoint*.pt there to start again, or name a complete one by --restore-file"
            )
        return
    progress = read_progress(newest)
    if last_complete and progress.updates <= read_progress(last).updates:  # a folder that was copied file by file
        return
    state = "is older" if last_complete else "is incomplete" if last.exists() else "is missing"
    logger.warning(
        f"{last} {state}: the last save was interrupted; resuming from {newest.name}, complete at {progress.updates} "
        "updates (to resume from another checkpoint, name it by --restore-file)"
    )
    copies = [path for path in saved if KEPT_BEST.fullmatch(path.name) and not is_complete(path)]
    best = folder / BEST
    if progress.is_best and not (is_complete(best) and read_progress(best).updates == progress.updates):
        copies.append(best)
    for copy in (*copies, last):  # LAST comes last, as in fairseq: once it is complete, the save is
        _copy(newest, copy)


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(target.name + ".tmp")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)  # a link itself, and not what it leads to


def is_complete(path: Path) -> bool:
    """Whether *path* was written to its end: torch.save writes the table of contents last."""
    try:
        with zipfile.ZipFile(path):
            return True
    except (FileNotFoundError, zipfile.BadZipFile):
        return False


def changed(path: Path) -> int:
    """When the directory entry *path* was last written, moved or linked, in ns."""
    return path.lstat().st_ctime_ns


def read_progress(path: Path) -> Progress:
    """Read the state of the training in a checkpoint. Its code is never run, its tensors are not read.

    Raises InputError if it is not a checkpoint of fairseq.
    """
    content = load_pickle(path)
    try:
        extra = content["extra_state"]
        validation = extra.get("val_loss")
        early_stop = [own["early_stop"] for own in extra.values() if isinstance(own, dict) and "early_stop" in own]
        cfg = content.get("cfg") or {}
        return Progress(
            updates=content["optimizer_history"][-1]["num_updates"],
            resumable=content.get("last_optimizer_state") is not None,
            is_best=validation is not None and validation == extra.get("best"),
            hours=extra.get("previous_training_time", 0) / 3600,
            bad_validations=early_stop[0]["num_runs"] if early_stop else 0,
            cfg={name: as_dict(cfg.get(name)) for name in ("common", "model", "task")},
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: not a checkpoint of a training ({type(error).__name__}: {error})") from error
