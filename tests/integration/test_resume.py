"""A training killed at any moment goes on, by the same command, and ends where an uninterrupted one does."""

import logging
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import kill_and_resume
import pytest
import torch
import torch.distributed as dist
from helpers.training import TINY_TRAINING, assert_same_training, run_training

from ppa_fairseq.fairseq_compat import interrupted_save as resume
from ppa_fairseq.fairseq_compat import same_checkpoint
from ppa_fairseq.fairseq_compat.interrupted_save import BEST, LAST, finish_last_save
from ppa_fairseq.utils.errors import InputError

NO_VALIDATION = "--disable-validation"


class Forked:
    """Functions, each in a child process of this one, which has everything imported already."""

    def __init__(self, functions, log):
        self.pids, self.codes = [], {}
        log.touch()
        for function in functions:
            pid = os.fork()
            if not pid:
                self._run(function, log)
            self.pids.append(pid)

    @staticmethod
    def _run(function, log):
        code = 1
        try:
            output = log.open("a", buffering=1)
            sys.stdout = sys.stderr = output
            form = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"
            logging.basicConfig(format=form, level=logging.INFO, stream=output, force=True)
            function()
            code = 0
        except SystemExit as end:
            code = int(bool(end.code))
            print(end.code)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def poll(self):
        for pid in self.pids:
            if pid not in self.codes:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self.codes[pid] = os.waitstatus_to_exitcode(status)
        return max(self.codes.values(), key=abs) if len(self.codes) == len(self.pids) else None

    def wait(self):
        while self.poll() is None:
            time.sleep(0.01)
        return self.poll()

    def kill(self, rng: random.Random):
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        self.wait()
        return "all"


def ranks_flags(rank, rendezvous):
    return f"""--distributed-world-size 2 --distributed-rank {rank} --device-id {rank} --distributed-no-spawn
        --distributed-init-method file://{rendezvous} --distributed-backend gloo --ddp-backend legacy_ddp
        --load-checkpoint-on-all-dp-ranks""".split()


@pytest.mark.parametrize(("ranks", "kills"), [(1, 4), (2, 3)])
def test_killed_at_random_moments(data_bin, tmp_path, ranks, kills):
    """With accumulation and a data worker; half of the kills while a checkpoint is being written."""
    settings = ["--update-freq", "2", "--num-workers", "1", "--save-interval-updates", "3"]
    settings += ["--keep-interval-updates", "1", "--max-update", "30"]
    settings += ["--lr-scheduler", "polynomial_decay", "--total-num-update", "30"]
    argv = [str(data_bin), *TINY_TRAINING, *settings, "--log-format", "json", "--log-interval", "2"]

    def start(name, log):
        rendezvous = tmp_path / f"{name}-{log.name}.ranks"
        flags = [ranks_flags(rank, rendezvous) for rank in range(2)] if ranks == 2 else [[]]
        return Forked([lambda more=more: run_training([*argv, *more], tmp_path / name) for more in flags], log)

    log, logs = tmp_path / "whole.log", tmp_path / "logs"
    assert start("whole", log).wait() == 0, log.read_text()[-3000:]
    seen = kill_and_resume.kill_repeatedly(
        lambda log: start("killed", log), tmp_path / "killed", logs, kills, updates=30, saving=0.03, seed=1
    )
    last_log = max(logs.iterdir()).read_text()
    assert (seen["kills"], seen["exit status"]) == (kills, 0), last_log[-3000:]
    assert not seen["kills while it starts up"]
    assert not seen["starts not from the newest complete checkpoint"]
    assert not kill_and_resume.compare(tmp_path / "whole", tmp_path / "killed", log, logs)


def test_which_dummy_batch_a_rank_gets_changes_nothing(data_bin, tmp_path):
    """Two ranks share 15 batches, so the last update of an epoch has a dummy: on resume it is one of validation."""
    argv = [str(data_bin), *TINY_TRAINING, "--update-freq", "2", "--dropout", "0.1"]

    def train(name, epochs):
        log = tmp_path / f"{name}{epochs}.log"
        flags = [ranks_flags(rank, tmp_path / f"{log.name}.ranks") for rank in range(2)]
        ends = ["--max-epoch", str(epochs)]
        ranks = Forked([lambda more=more: run_training([*argv, *ends, *more], tmp_path / name) for more in flags], log)
        assert ranks.wait() == 0, log.read_text()[-3000:]
        return torch.load(tmp_path / name / LAST, weights_only=True)

    whole = train("whole", 2)
    train("parts", 1)
    assert_same_training(whole, train("parts", 2))


def die_in_save(step):
    """Let this process kill itself in its second save: ``tmp``, ``rename`` or half of the copy number ``step``."""
    from fairseq import checkpoint_utils
    from fairseq.file_io import PathManager

    save, rename, copy = checkpoint_utils._torch_persistent_save, os.rename, shutil.copyfile
    counts = {"save": 0, "copy": 0}

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def die_in_write(obj, file):
        counts["save"] += 1
        counts["copy"] = 0
        if counts["save"] == 2 and step == "tmp":
            file.write(b"PK\x03\x04 half a checkpoint")
            file.flush()
            die()
        save(obj, file)

    def die_after_rename(source, target):
        rename(source, target)
        if counts["save"] == 2 and step == "rename":
            die()

    def die_in_copy(source, target):
        counts["copy"] += 1
        if counts["save"] == 2 and counts["copy"] == step:
            content = Path(source).read_bytes()
            Path(target).write_bytes(content[: len(content) // 2])
            die()
        return copy(source, target)

    checkpoint_utils._torch_persistent_save = die_in_write
    PathManager.rename = staticmethod(die_after_rename)
    shutil.copyfile = die_in_copy


INTERVAL = ["--save-interval-updates", "4", "--keep-interval-updates", "1", "--max-update", "10"]
# 3 updates each; the loss falls
EPOCHS = ["--batch-size", "40", "--max-update", "8"]


@pytest.mark.parametrize(
    ("saves", "step", "from_update"),
    [
        ([*INTERVAL, NO_VALIDATION], "tmp", 4),
        ([*INTERVAL, NO_VALIDATION], "rename", 8),
        (INTERVAL, 1, 8),  # to checkpoint_best.pt
        (INTERVAL, 2, 8),  # to checkpoint_last.pt
        (EPOCHS, 1, 6),  # checkpoint_best.pt is written first, and copied
        ([*EPOCHS, NO_VALIDATION], "tmp", 3),  # checkpoint_last.pt alone
    ],
)
def test_killed_at_each_step_of_a_save(train, tmp_path, caplog, saves, step, from_update):
    settings = ["--lr", "1e-3", *saves]
    whole = train(*settings, save_dir="whole")

    def doomed():
        die_in_save(step)
        train(*settings, save_dir="parts")

    log = tmp_path / "killed.log"
    assert Forked([doomed], log).wait() == -signal.SIGKILL, log.read_text()[-3000:]
    with caplog.at_level(logging.INFO):
        parts = train(*settings, save_dir="parts")
    assert f"@ {from_update} updates)" in next(line for line in caplog.messages if line.startswith("Loaded checkpoint"))
    assert_same_training(whole, parts)
    names = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("whole", "parts")]
    assert names[0] == names[1]
    if BEST in names[0]:
        best = [torch.load(tmp_path / name / BEST, weights_only=True) for name in ("whole", "parts")]
        assert_same_training(*best)


def test_lines_logged_across_epochs_are_the_same(train, monkeypatch):
    """fairseq drops the counts since the last line where it goes on at the start of an epoch."""
    from fairseq.logging.progress_bar import SimpleProgressBar

    told = {}

    def log(self, stats, tag=None, step=None):
        told[step] = {name: str(value) for name, value in stats.items() if name not in kill_and_resume.CLOCK}

    def collect(*arguments, save_dir):
        train(*arguments, NO_VALIDATION, save_dir=save_dir)
        lines = dict(told)
        told.clear()
        return lines

    monkeypatch.setattr(SimpleProgressBar, "log", log)
    whole = collect("--max-epoch", "2", save_dir="whole")
    parts = collect("--max-epoch", "1", save_dir="parts") | collect("--max-epoch", "2", save_dir="parts")
    assert 16 in whole and whole == parts  # 15 updates an epoch, a line every 4


def test_a_finished_training_stays_as_it_is(train, tmp_path):
    train("--max-update", "6", NO_VALIDATION)
    last = tmp_path / "checkpoints" / LAST
    before = last.read_bytes(), last.stat().st_mtime_ns
    with pytest.raises(SystemExit) as ended:
        train("--max-update", "6", NO_VALIDATION)
    assert ended.value.code == 0
    assert (last.read_bytes(), last.stat().st_mtime_ns) == before
    assert train("--max-update", "7", NO_VALIDATION)["optimizer_history"][-1]["num_updates"] == 7


def test_without_optimizer_state_nothing_goes_on(train):
    """fairseq would count updates, and the learning rate with them, from 0 again."""
    train("--max-update", "3", "--no-save-optimizer-state", NO_VALIDATION)
    with pytest.raises(InputError, match="has no optimizer state .*, so that its training cannot go on"):
        train("--max-update", "6", NO_VALIDATION)


def save(path, updates, validation=None, best=None):
    """What `finish_last_save` reads of a checkpoint; its bytes differ with the updates."""
    extra = {"val_loss": validation, "best": best}
    history = [{"num_updates": updates}]
    content = {"model": torch.full((50,), updates), "optimizer_history": history, "extra_state": extra}
    torch.save(content | {"last_optimizer_state": {}}, path)


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: 3 * len(content) // 4])


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
    return resume.read_progress(path).updates


def moved_back(folder):
    os.replace(folder / "checkpoint_1_10.pt", folder / LAST)


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
        moved_back,
        linked_back,
        copied_elsewhere,
        lambda folder: save(folder / "crash.pt", 30),
        lambda folder: [path.unlink() for path in folder.iterdir()],
        lambda folder: shutil.rmtree(folder),
    ],
)
def test_what_needs_no_repair_is_left_alone(folder, change):
    change(folder)
    before = contents(folder) if folder.exists() else None
    finish_last_save(folder)
    assert (contents(folder) if folder.exists() else None) == before


def test_a_newer_checkpoint_replaces_the_link_and_not_what_it_leads_to(folder):
    linked_back(folder)
    save(folder / "checkpoint_2_30.pt", 30)
    finish_last_save(folder)
    assert updates(folder / LAST) == 30 and updates(folder / "checkpoint_1_10.pt") == 10


def test_a_link_becomes_a_copy_as_fairseq_would_write_through_it(folder):
    linked_back(folder)
    finish_last_save(folder)
    assert not (folder / LAST).is_symlink() and updates(folder / LAST) == 10


@pytest.mark.parametrize(
    ("change", "expected", "best", "told"),
    [
        (lambda f: cut(f / LAST), 20, 10, "is incomplete.*going on from checkpoint_1_20.pt, complete at 20 updates"),
        (lambda f: (f / LAST).write_bytes(b""), 20, 10, "is incomplete"),
        (lambda f: (f / LAST).unlink(), 20, 10, "is missing: .* going on from checkpoint_1_20.pt"),
        (lambda f: [cut(f / LAST), cut(f / "checkpoint_1_20.pt")], 10, 10, "going on from checkpoint_best.pt"),
        (lambda f: [cut(f / LAST), (f / "checkpoint_1_20.pt").unlink(), (f / BEST).unlink()], 10, 10, "incomplete"),
        (lambda f: save(f / "checkpoint_2_30.pt", 30, 1.0, 1.0), 30, 30, "is older: .*on from checkpoint_2_30.pt"),
        (lambda f: save(f / "checkpoint_2_30.pt", 30, 2.5, 2.0), 30, 10, "is older"),
        (lambda f: save(f / "checkpoint2.pt", 30), 30, 10, "is older"),
        (lambda f: [save(f / "checkpoint_2_30.pt", 30, 1.0, 1.0), cut(f / BEST)], 30, 30, "is older"),
        (lambda f: [save(f / BEST, 30, 1.0, 1.0), cut(f / LAST)], 30, 30, "going on from checkpoint_best.pt"),
    ],
)
def test_the_last_save_is_finished(folder, caplog, change, expected, best, told):
    change(folder)
    for name in ("checkpoint_1_20.pt.tmp", ".checkpoint_last.pt.7.tmp"):
        (folder / name).write_bytes(b"a write that died")
    finish_last_save(folder)
    assert (updates(folder / LAST), updates(folder / BEST)) == (expected, best)
    assert not list(folder.glob("*.tmp"))
    assert re.search(told, caplog.text)
    caplog.clear()
    before = contents(folder)
    finish_last_save(folder)
    assert contents(folder) == before and not caplog.text


def test_a_kept_best_is_copied_again(folder):
    kept = folder / "checkpoint.best_loss_1.0000.pt"
    save(folder / "checkpoint_2_30.pt", 30, 1.0, 1.0)
    shutil.copy(folder / "checkpoint_2_30.pt", kept)
    cut(kept)
    finish_last_save(folder)
    assert updates(kept) == 30


@pytest.mark.parametrize("names", [[LAST], [LAST, BEST, "checkpoint_1_10.pt", "checkpoint_1_20.pt"]])
def test_nothing_complete_is_refused_and_left(folder, names):
    for path in folder.iterdir():
        if path.name in names:
            cut(path)
        else:
            path.unlink()
    before = contents(folder)
    with pytest.raises(InputError, match="checkpoint_last.pt: incomplete, .* delete the checkpoint.* to start anew"):
        finish_last_save(folder)
    (folder / LAST).unlink()
    if len(names) > 1:
        with pytest.raises(InputError, match="incomplete"):
            finish_last_save(folder)
        del before[LAST]
        assert contents(folder) == before


def test_the_repair_may_be_killed_itself(folder, monkeypatch):
    """After half of the best checkpoint, and then of the last."""
    save(folder / "checkpoint_2_30.pt", 30, 1.0, 1.0)
    cut(folder / BEST)
    copy = shutil.copyfile
    for dies_at in (1, 2):
        copied = []

        def half(source, target, dies_at=dies_at, copied=copied):
            copied.append(target)
            copy(source, target)
            if len(copied) == dies_at:
                cut(target)
                os.kill(os.getpid(), signal.SIGKILL)

        def doomed(half=half):
            monkeypatch.setattr(shutil, "copyfile", half)
            finish_last_save(folder)

        assert Forked([doomed], folder / "log").wait() == -signal.SIGKILL
    finish_last_save(folder)
    assert updates(folder / LAST) == updates(folder / BEST) == 30
    assert not list(folder.glob(".*"))


def settle_on_two_ranks(tmp_path, folders):
    """Each with its folder; returns the exit status, 1 where a rank raised, and what they said."""

    def rank_settles(rank):
        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=rank, world_size=2)
        same_checkpoint.settle(folders[rank])

    log = tmp_path / "settle.log"
    status = Forked([lambda: rank_settles(0), lambda: rank_settles(1)], log).wait()
    return status, log.read_text()


def test_a_machine_with_a_folder_of_its_own_is_sent_the_checkpoint(folder, tmp_path_factory, monkeypatch):
    here, other = tmp_path_factory.mktemp("ranks"), tmp_path_factory.mktemp("other")
    monkeypatch.setattr(same_checkpoint, "CHUNK", 1000)
    cut(folder / LAST)
    save(other / LAST, 5)
    status, told = settle_on_two_ranks(here, [folder, other])
    assert status == 0, told
    assert updates(folder / LAST) == 20
    assert contents(other) == {LAST: (folder / LAST).read_bytes()}


def test_a_machine_ahead_of_the_first_rank_is_not_overwritten(folder, tmp_path_factory):
    here, other = tmp_path_factory.mktemp("ranks"), tmp_path_factory.mktemp("other")
    save(other / LAST, 30)
    status, told = settle_on_two_ranks(here, [folder, other])
    assert status == 1 and updates(other / LAST) == 30
    assert told.count("is at 30 updates, but rank 0, which saves, is on") == 2


def test_all_ranks_tell_what_the_first_cannot_mend(folder, tmp_path_factory):
    here = tmp_path_factory.mktemp("ranks")
    for path in folder.iterdir():
        cut(path)
    status, told = settle_on_two_ranks(here, [folder, folder])
    assert status == 1 and told.count("InputError: ") == 2
