"""A training that is killed at any moment resumes by the same command, and ends where an uninterrupted one does."""

import functools
import logging
import os
import shutil
import signal
from pathlib import Path

import kill_and_resume
import pytest
import torch
from helpers.ranks import Forked, start_ranks
from helpers.training import TINY_TRAINING, assert_same_training, run_training
from torch._subclasses import FakeTensorMode

import ppa_fairseq
from ppa_fairseq.fairseq_compat import resume
from ppa_fairseq.fairseq_compat.interrupted_save import BEST, LAST, read_progress
from ppa_fairseq.utils.errors import InputError

NO_VALIDATION = "--disable-validation"
DATA = Path(__file__).parents[1] / "data"
USER_DIR = ["--user-dir", str(Path(ppa_fairseq.__file__).parent)]


class AllRanks:
    """What `kill_repeatedly` kills."""

    def __init__(self, ranks):
        self.ranks = ranks

    def poll(self):
        codes = [rank.poll() for rank in self.ranks]
        return None if None in codes else max(codes, key=abs)

    def kill(self, rng):
        for rank in self.ranks:
            rank.kill()
        return "all"


@pytest.mark.parametrize(("ranks", "kills"), [(1, 2), (2, 1)])
def test_killed_at_random_moments(data_bin, tmp_path, ranks, kills):
    """With accumulation and a data worker; half of the kills while a checkpoint is being written."""
    settings = ["--update-freq", "2", "--num-workers", "1", "--save-interval-updates", "3"]
    settings += ["--keep-interval-updates", "1", "--max-update", "30"]
    settings += ["--lr-scheduler", "polynomial_decay", "--total-num-update", "30"]
    argv = [str(data_bin), *TINY_TRAINING, *settings, "--log-format", "json", "--log-interval", "2"]

    def start(name, log):
        return start_ranks(ranks, argv, tmp_path / name, [log] * ranks)

    log, logs = tmp_path / "whole.log", tmp_path / "logs"
    assert [rank.wait() for rank in start("whole", log)] == [0] * ranks, log.read_text()[-3000:]
    seen = kill_and_resume.kill_repeatedly(
        lambda log: AllRanks(start("killed", log)), tmp_path / "killed", logs, kills, updates=30, saving=0.03, seed=1
    )
    assert (seen["kills"], seen["exit status"]) == (kills, 0), max(logs.iterdir()).read_text()[-3000:]
    assert not seen["kills while it starts up"]
    assert not seen["starts not from the newest complete checkpoint"]
    assert not kill_and_resume.compare(tmp_path / "whole", tmp_path / "killed", log, logs)


def die_in_save(step):
    """Let this process kill itself in its second save: ``tmp``, ``rename`` or half of the copy number ``step``."""
    from fairseq import checkpoint_utils
    from fairseq.file_io import PathManager

    save, rename, copy = checkpoint_utils._torch_persistent_save, os.rename, shutil.copyfile
    counts = {"save": 0, "copy": 0}
    die = functools.partial(os.kill, os.getpid(), signal.SIGKILL)

    def die_in_write(obj, file):
        counts["save"] += 1
        counts["copy"] = 0
        if counts["save"] == 2 and step == "tmp":
            Path(file.name).write_bytes(b"PK\x03\x04 half a checkpoint")
            die()
        save(obj, file)

    def die_after_rename(source, target):
        rename(source, target)
        if counts["save"] == 2 and step == "rename":
            die()

    def die_in_copy(source, target):
        counts["copy"] += 1
        if counts["save"] == 2 and counts["copy"] == step:
            copy(source, target)
            os.truncate(target, os.path.getsize(target) // 2)
            die()
        return copy(source, target)

    checkpoint_utils._torch_persistent_save = die_in_write
    PathManager.rename = staticmethod(die_after_rename)
    shutil.copyfile = die_in_copy


def updates(path):
    return read_progress(path).updates


INTERVAL = ["--save-interval-updates", "4", "--keep-interval-updates", "1", "--max-update", "10"]
# 3 updates each; the loss falls
EPOCHS = ["--batch-size", "40", "--max-update", "8"]


@pytest.mark.parametrize(
    ("saves", "step", "from_update"),
    [
        ([*INTERVAL, NO_VALIDATION], "tmp", 4),
        ([*INTERVAL, NO_VALIDATION], "rename", 8),
        (INTERVAL, 1, 8),  # to checkpoint_best.pt
        (EPOCHS, 1, 6),  # checkpoint_best.pt is written first, and copied
    ],
    ids=["write", "rename", "copy to best", "copy of best"],
)
def test_killed_at_each_step_of_a_save(train, tmp_path, caplog, saves, step, from_update):
    settings = ["--lr", "1e-3", *saves]
    whole = train(*settings, save_dir="whole")

    def doomed():
        die_in_save(step)
        train(*settings, save_dir="parts")

    log = tmp_path / "killed.log"
    assert Forked(doomed, log).wait() == -signal.SIGKILL, log.read_text()[-3000:]
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
    """On resume at the start of an epoch fairseq drops what it counted since the last line."""
    from fairseq.logging.progress_bar import SimpleProgressBar

    logged = []

    def log(self, stats, tag=None, step=None):
        logged[-1][step] = {name: str(value) for name, value in stats.items() if name not in kill_and_resume.CLOCK}

    monkeypatch.setattr(SimpleProgressBar, "log", log)
    for save_dir, epochs in (("whole", "2"), ("parts", "1"), ("parts", "2")):
        logged.append({})
        train("--max-epoch", epochs, NO_VALIDATION, save_dir=save_dir)
    whole, first, second = logged
    assert 16 in whole and whole == first | second  # 15 updates an epoch, a line every 4


def test_a_checkpoint_of_a_gpu_loads_on_a_machine_without():
    """The values that were logged since the last line are tensors on the GPU; fairseq moves to the CPU only its own."""
    from fairseq.logging import metrics

    metrics.reset()
    with FakeTensorMode():
        with metrics.aggregate("train_inner"):
            metrics.log_scalar("loss", torch.ones((), device="cuda"), weight=2)
        pickled = resume.extra_state("Task")["Task"]["train_inner"]
        (_, _, _, meter), *_ = (row for row in pickled if row[1] == "loss")
        assert {value.device.type for value in meter.values() if torch.is_tensor(value)} == {"cpu"}
    metrics.reset()


@pytest.mark.parametrize("mode", [[], ["--amp"]], ids=["fp32", "amp"])
def test_a_deterministic_training_on_a_gpu_resumes_bit_for_bit(data_bin, tmp_path, mode):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    argv = [str(data_bin), *(flag for flag in TINY_TRAINING if flag != "--cpu"), NO_VALIDATION, *mode]
    argv += ["--optimizer", "fused_adamw", "--clip-norm", "1", "--deterministic"]
    try:
        whole = run_training([*argv, "--max-update", "20"], tmp_path / "whole")
        for stop in ("9", "20"):
            parts = run_training([*argv, "--max-update", stop], tmp_path / "parts")
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_training(whole, parts)


def test_deterministic_changes_nothing_on_a_cpu(train):
    plain = train("--max-update", "3", NO_VALIDATION, save_dir="plain")
    try:
        fixed = train("--max-update", "3", NO_VALIDATION, "--deterministic", save_dir="fixed")
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_training(plain, fixed)


# Validation after every second update. The loss falls, and the highest is called the best.
PATIENCE = ["--patience", "2", "--save-interval-updates", "2", "--maximize-best-checkpoint-metric"]


@pytest.mark.parametrize(
    ("ends", "longer"),
    [
        (["--max-update", "6", NO_VALIDATION], ["--max-update", "7"]),
        (PATIENCE, ["--patience", "3"]),
        (["--stop-time-hours", "1e-9", NO_VALIDATION], ["--stop-time-hours", "1", "--max-update", "2"]),
    ],
    ids=["max-update", "patience", "stop-time-hours"],
)
def test_repeating_the_command_of_a_finished_training_changes_nothing(train, tmp_path, ends, longer):
    train(*ends)
    last = tmp_path / "checkpoints" / LAST
    before, ended_at = (last.read_bytes(), last.stat().st_mtime_ns), updates(last)
    with pytest.raises(SystemExit) as ended:
        train(*ends)
    assert ended.value.code == 0
    assert (last.read_bytes(), last.stat().st_mtime_ns) == before
    train(*ends, *longer)
    assert updates(last) > ended_at


def test_patience_counts_across_an_interruption(train, tmp_path):
    train(*PATIENCE, "--max-update", "40", save_dir="whole")
    ended_at = updates(tmp_path / "whole" / LAST)
    assert 4 < ended_at < 40
    for stop in (ended_at - 2, 40):
        train(*PATIENCE, "--max-update", str(stop), save_dir="parts")
    assert updates(tmp_path / "parts" / LAST) == ended_at


def test_a_checkpoint_without_optimizer_state_is_not_resumed(train):
    """fairseq would count updates, and the learning rate with them, from 0 again."""
    train("--max-update", "3", "--no-save-optimizer-state", NO_VALIDATION)
    with pytest.raises(InputError, match="has no optimizer state .*, so training cannot resume"):
        train("--max-update", "6", NO_VALIDATION)


def test_a_checkpoint_of_version_0_1_resumes(train, imported, tmp_path, monkeypatch):
    """From 4 updates to 8: weights, momentum encoder and queue end where version 0.1 itself ended."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(DATA / "alignment_0_1.pt", tmp_path / "checkpoints" / LAST)
    plain = ["--dropout", "0", "--attention-dropout", "0", "--lr", "1e-3", "--adam-eps", "1e-3", NO_VALIDATION]
    state = train(*USER_DIR, "--pretrained", imported().name, "--optimizer", "fused_adamw", *plain, "--max-update", "8")
    expected = torch.load(DATA / "alignment_0_1_later_weights.pt", weights_only=True)
    assert {name.replace("twin.", "momentum_encoder.") for name in expected} == state["model"].keys()
    for name, tensor in expected.items():
        found = state["model"][name.replace("twin.", "momentum_encoder.")]
        torch.testing.assert_close(found, tensor, rtol=0, atol=1e-5, msg=name)


def test_pretrained_is_compared_by_what_it_leads_to(train, imported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = imported()
    shutil.copytree(folder, "copy")
    (tmp_path / "link").symlink_to(folder)
    for number, path in enumerate(["imported", "link", "copy"], start=1):
        train(*USER_DIR, "--pretrained", path, "--max-update", str(number), NO_VALIDATION)
    content = torch.load("copy/model.pt", weights_only=True)
    content["model"]["encoder.embed_tokens.weight"].add_(1)
    torch.save(content, "copy/model.pt")
    with pytest.raises(InputError, match="trained with --pretrained copy, not imported; set another --save-dir, or"):
        train(*USER_DIR, "--pretrained", "imported", "--max-update", "9", NO_VALIDATION)
