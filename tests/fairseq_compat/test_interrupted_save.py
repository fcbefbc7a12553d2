"""A save that was interrupted at any moment is finished; a folder belongs to one training."""

import errno
import functools
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers.ranks import Forked

from ppa_fairseq.fairseq_compat import resume, save_dir_lock
from ppa_fairseq.fairseq_compat.interrupted_save import BEST, LAST, finish_last_save, read_progress
from ppa_fairseq.utils.errors import InputError

KEPT = "checkpoint.best_loss_1.0000.pt"  # --keep-best-checkpoints


def hold_lock(folder, ready):
    save_dir_lock.lock(folder)
    if not os.fork():  # as a data worker, which may live longer
        time.sleep(2)
        os._exit(0)
    ready.touch()
    time.sleep(60)


def test_a_second_training_in_the_same_folder_is_refused(tmp_path, monkeypatch):
    """Until the first one has ended, however it did."""
    folder, ready = tmp_path / "checkpoints", tmp_path / "ready"
    first = Forked(lambda: hold_lock(folder, ready), tmp_path / "log")
    while not ready.exists():
        time.sleep(0.01)
    monkeypatch.setattr(save_dir_lock, "PATIENCE", 0)
    with pytest.raises(InputError, match=rf"another training \(process {first.pid} on .*\) writes here"):
        save_dir_lock.lock(folder)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    save_dir_lock.lock(folder)


def test_without_locks_the_file_that_another_training_may_write_stays(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(save_dir_lock.fcntl, "lockf", no_locks)
    unfinished = tmp_path / "checkpoint_1_8.pt.tmp"
    unfinished.touch()
    resume._take_on_first_rank(tmp_path, finishes=True)
    assert unfinished.exists() and "this file system has no locks" in caplog.text
    monkeypatch.undo()
    resume._take_on_first_rank(tmp_path, finishes=True)
    assert not unfinished.exists()


def save(path, updates, validation=None, best=None):
    """What `finish_last_save` reads of a checkpoint; its bytes differ with the updates."""
    extra = {"val_loss": validation, "best": best}
    history = [{"num_updates": updates}]
    content = {"model": torch.full((50,), updates), "optimizer_history": history, "extra_state": extra}
    torch.save(content | {"last_optimizer_state": {}}, path)


def cut(path):
    os.truncate(path, 3 * path.stat().st_size // 4)


@pytest.fixture
def folder(tmp_path):
    """After two saves that ended: at 10 updates, the best so far, and at 20."""
    save(tmp_path / "checkpoint_1_10.pt", 10, validation=2.0, best=2.0)
    shutil.copy(tmp_path / "checkpoint_1_10.pt", tmp_path / BEST)
    save(tmp_path / "checkpoint_1_20.pt", 20, validation=3.0, best=2.0)
    shutil.copy(tmp_path / "checkpoint_1_20.pt", tmp_path / LAST)
    time.sleep(0.02)  # more than a tick of the file system's clock
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def updates(path):
    return read_progress(path).updates


def linked_back(folder):
    (folder / LAST).unlink()
    (folder / LAST).symlink_to("checkpoint_1_10.pt")


def copied_elsewhere(folder):
    for path in sorted(folder.iterdir(), reverse=True):  # LAST comes first, and is the oldest
        shutil.copy(path, folder / "copy")
        os.replace(folder / "copy", path)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: None,
        lambda folder: cut(folder / "checkpoint_1_10.pt"),
        lambda folder: os.replace(folder / "checkpoint_1_10.pt", folder / LAST),
        linked_back,
        copied_elsewhere,
        lambda folder: shutil.rmtree(folder),
    ],
    ids=["complete", "cut elsewhere", "moved", "linked", "copied", "no folder"],
)
def test_a_folder_without_an_interrupted_save_does_not_change(folder, change):
    change(folder)
    before = contents(folder) if folder.exists() else None
    finish_last_save(folder)
    assert (contents(folder) if folder.exists() else None) == before
    assert not (folder / LAST).is_symlink()  # fairseq would overwrite what it leads to


@pytest.mark.parametrize(
    ("change", "expected", "best", "message"),
    [
        (lambda f: cut(f / LAST), 20, 10, "is incomplete.*resuming from checkpoint_1_20.pt, complete at 20 updates"),
        (lambda f: (f / LAST).unlink(), 20, 10, "is missing: .* resuming from checkpoint_1_20.pt"),
        (lambda f: [cut(f / LAST), cut(f / "checkpoint_1_20.pt")], 10, 10, "resuming from checkpoint_best.pt"),
        (lambda f: save(f / "checkpoint_2_30.pt", 30, 1.0, 1.0), 30, 30, "is older: .*from checkpoint_2_30.pt"),
        (lambda f: save(f / "checkpoint_2_30.pt", 30, 2.5, 2.0), 30, 10, "is older"),
        (lambda f: [save(f / BEST, 30, 1.0, 1.0), cut(f / LAST)], 30, 30, "resuming from checkpoint_best.pt"),
        (lambda f: [linked_back(f), save(f / "checkpoint_2_30.pt", 30, 2.5, 2.0)], 30, 10, "is older"),
        (lambda f: [save(f / KEPT, 1), cut(f / KEPT), save(f / "checkpoint_2_30.pt", 30, 1, 1)], 30, 30, "is older"),
    ],
    ids=["cut", "missing", "only best", "new best", "newer", "best cut from last", "linked", "kept best"],
)
def test_an_interrupted_save_is_finished(folder, caplog, change, expected, best, message):
    change(folder)
    (folder / "checkpoint_1_20.pt.tmp").write_bytes(b"a write that died")
    finish_last_save(folder)
    assert (updates(folder / LAST), updates(folder / BEST)) == (expected, best)
    assert {updates(path) for path in folder.glob(KEPT)} <= {expected}
    assert not list(folder.glob("*.tmp"))
    assert re.search(message, caplog.text)
    caplog.clear()
    before = contents(folder)
    finish_last_save(folder)
    assert contents(folder) == before and not caplog.text


def test_a_folder_without_a_complete_checkpoint_is_refused_unchanged(folder):
    for path in folder.iterdir():
        cut(path)
    before = contents(folder)
    with pytest.raises(InputError, match="checkpoint_last.pt: incomplete, .* delete the checkpoint.* to start again"):
        finish_last_save(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("dies_at", [1, 2], ids=["best", "last"])
def test_finishing_a_save_may_be_killed_itself(folder, monkeypatch, dies_at):
    """After half of the best checkpoint, or of the last."""
    save(folder / "checkpoint_2_30.pt", 30, 1.0, 1.0)
    cut(folder / BEST)
    copy, copied = shutil.copyfile, []

    def half(source, target):
        copied.append(copy(source, target))
        if len(copied) == dies_at:
            cut(Path(target))
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", half)
        assert Forked(lambda: finish_last_save(folder), folder / "log").wait() == -signal.SIGKILL
    finish_last_save(folder)
    assert updates(folder / LAST) == updates(folder / BEST) == 30
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("fault", ["another folder", "none complete"])
def test_all_ranks_refuse_alike(folder, tmp_path_factory, fault):
    """Also a rank that sees no checkpoint, or another one: it would start a new training beside the others."""
    meet = tmp_path_factory.mktemp("ranks")
    folders = [folder, meet if fault == "another folder" else folder]
    if fault == "none complete":
        for path in folder.iterdir():
            cut(path)

    def prepare(rank):
        dist.init_process_group("gloo", init_method=f"file://{meet}/ranks", rank=rank, world_size=2)
        resume._take_on_first_rank(folders[rank], True)
        resume._check_all_ranks_see(folders[rank] / LAST)

    ranks = [Forked(functools.partial(prepare, rank), meet / f"log{rank}") for rank in range(2)]
    message = "is not the one on" if fault == "another folder" else "checkpoint_last.pt: incomplete"
    for rank in ranks:
        assert rank.wait() == 1
        assert re.search(f"^(.rank..: )?ppa_fairseq: error: .*{message}", rank.log.read_text(), re.MULTILINE)
