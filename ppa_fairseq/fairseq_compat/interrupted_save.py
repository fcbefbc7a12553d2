"""Exact resume: brings --save-dir into the state that fairseq expects, after a training that died at any moment.

fairseq writes a checkpoint beside its place and renames it, but then copies it over checkpoint_best.pt and
checkpoint_last.pt: a process that dies in between leaves an older or a truncated copy, and of a missing
checkpoint_last.pt fairseq makes a new training. Here the copies are made again, each in one step.
"""

import logging
import re
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

from ppa_fairseq.checkpoints.weights import load_pickle
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import atomic_path

logger = logging.getLogger(__name__)
LAST, BEST = "checkpoint_last.pt", "checkpoint_best.pt"
KEPT_BEST = re.compile(r"checkpoint\.best_.+\.pt")  # --keep-best-checkpoints
SAVED = re.compile(r"checkpoint(\d+|_\d+_\d+|_best|\.best_.+)\.pt")  # whatever fairseq may write before LAST


class Progress(NamedTuple):
    """How far the training of a checkpoint was."""

    updates: int
    resumable: bool  # with optimizer state; else fairseq counts its updates from 0
    is_best: bool  # of all validations until then


def finish_last_save(folder: Path) -> None:
    """Make *folder* what it would be, had the last save ended: checkpoint_last.pt is the newest complete checkpoint.

    Removes what dead writes left (``*.tmp``); what is a link there becomes a copy. Where checkpoint_last.pt is complete
    and the newest, as it is after any save that ended, only its table of contents is read. Safe to be killed and run
    again.

    Raises:
        InputError: there are checkpoints, and none of them is complete.
        OSError: the copy cannot be written.
    """
    for left in (*folder.glob("checkpoint*.pt.tmp"), *folder.glob(".checkpoint*.pt.*.tmp")):
        left.unlink(missing_ok=True)
    _copy_again(folder)
    for link in (folder / BEST, folder / LAST):
        if link.is_symlink() and link.exists():  # fairseq would write through it, over the checkpoint that it leads to
            with atomic_path(link, follow_symlinks=False) as beside:
                shutil.copyfile(link, beside)


def _copy_again(folder: Path) -> None:
    """The copies that fairseq makes of a checkpoint when it has written it, if it came to write it and no further."""
    last = folder / LAST
    last_complete = is_complete(last)
    # By the time of the last change to the directory entry: a user who moved or linked an older one to LAST meant it.
    saved = [path for path in folder.glob("checkpoint*.pt") if SAVED.fullmatch(path.name)]
    newer = [path for path in saved if not last_complete or changed(path) > changed(last)]
    newest = next((path for path in sorted(newer, key=changed, reverse=True) if is_complete(path)), None)
    if newest is None:
        if not last_complete and (saved or last.exists()):
            raise InputError(
                f"{last if last.exists() else folder}: incomplete, as of a write that was cut off, and no complete "
                "checkpoint stands beside it: delete the checkpoint*.pt there to start anew, or name a complete one by "
                "--restore-file"
            )
        return
    progress = read_progress(newest)
    if last_complete and progress.updates <= read_progress(last).updates:  # a folder copied file by file, say
        return
    state = "is older" if last_complete else "is incomplete" if last.exists() else "is missing"
    logger.warning(
        f"{last} {state}: the last save was cut off; going on from {newest.name}, complete at {progress.updates} "
        "updates (to go back instead, name a checkpoint by --restore-file)"
    )
    copies = [path for path in saved if KEPT_BEST.fullmatch(path.name) and not is_complete(path)]
    best = folder / BEST
    if progress.is_best and not (is_complete(best) and read_progress(best).updates == progress.updates):
        copies.append(best)
    for copy in (*copies, last):  # in fairseq's order: LAST tells that all is done
        with atomic_path(copy, follow_symlinks=False) as beside:  # a link leads to another checkpoint
            shutil.copyfile(newest, beside)


def is_complete(path: Path) -> bool:
    """Whether a write to *path* came to its end: the table of contents, the last that torch.save writes, is there."""
    try:
        with zipfile.ZipFile(path):
            return True
    except (FileNotFoundError, zipfile.BadZipFile):
        return False


def changed(path: Path) -> int:
    """When the entry *path* of its folder was last written, moved or linked, in ns."""
    return path.lstat().st_ctime_ns


def read_progress(path: Path) -> Progress:
    """What a checkpoint tells of its training, its tensors unread. Raises InputError if it is none of fairseq's."""
    content = load_pickle(path)
    try:
        validation = content["extra_state"].get("val_loss")
        return Progress(
            updates=content["optimizer_history"][-1]["num_updates"],
            resumable=content.get("last_optimizer_state") is not None,
            is_best=validation is not None and validation == content["extra_state"].get("best"),
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: no checkpoint of a training ({type(error).__name__}: {error})") from error
