"""torchrun starts the ranks of fairseq-train and of the hydra recipe, and stops all of them when one dies."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from helpers.training import TINY_TRAINING

RECIPE = Path(__file__).parents[2] / "scripts/recipes/ppa_mbert.yaml"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
ENVIRONMENT |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": ENVIRONMENT}


def torchrun(ranks: int, *command: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(ranks), *command]


def updates(folder: Path) -> int:
    checkpoint = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    return checkpoint["optimizer_history"][-1]["num_updates"]


def find_rank(launcher: subprocess.Popen, number: int) -> int:
    """The process of a rank of *launcher*."""
    for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        if f"RANK={number}" in Path(f"/proc/{pid}/environ").read_text().split("\0"):
            return int(pid)
    raise AssertionError(f"no rank {number}")


def test_a_killed_rank_ends_torchrun_and_the_command_resumes(data_bin, tmp_path):
    saves = "--disable-validation --log-interval 1 --save-interval-updates 2 --keep-interval-updates 1".split()
    start = torchrun(2, "-m", "fairseq_cli.train", str(data_bin), *TINY_TRAINING, *saves, "--save-dir", str(tmp_path))
    launcher = subprocess.Popen(start, **PIPES)
    try:
        next(line for line in launcher.stdout if "num_updates=5," in line)
        os.kill(find_rank(launcher, 1), signal.SIGKILL)
        launcher.communicate(timeout=60)
    finally:
        launcher.kill()
    assert launcher.returncode == 1
    saved = updates(tmp_path)
    assert saved >= 4
    done = subprocess.run([*start, "--max-update", str(saved + 2)], **PIPES, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "training on 2 devices" in done.stdout and f"@ {saved} updates)" in done.stdout
    assert "Warning" not in done.stdout
    assert updates(tmp_path) == saved + 2


def test_ranks_die_with_a_killed_torchrun(data_bin, tmp_path):
    flags = [*TINY_TRAINING, "--no-save", "--disable-validation", "--log-interval", "1", "--save-dir", str(tmp_path)]
    launcher = subprocess.Popen(torchrun(2, "-m", "fairseq_cli.train", str(data_bin), *flags), **PIPES)
    try:
        next(line for line in launcher.stdout if "num_updates=3," in line)
    finally:
        launcher.kill()
    started = time.monotonic()
    for _ in launcher.stdout:  # ends when no rank holds the pipe
        assert time.monotonic() - started < 60, "a rank trains on"


def test_the_hydra_recipe_trains_by_its_own_command(data_bin, imported, tmp_path):
    """The command and the settings for CPU are those in the recipe's head; only paths and sizes differ."""
    head = RECIPE.read_text("utf-8").partition("hydra:")[0].replace("\\\n#", " ")
    command = re.search(r"torchrun --nproc_per_node 1 (.*?save_dir=\S+)", head)[1]
    words = re.sub(r"\$\(\(.*?\)\)", "N", command).split()
    values = {
        "task.data": data_bin,
        "model.pretrained": imported(),
        "optimization.max_update": 2,
        "lr_scheduler.warmup_updates": 0,
        "checkpoint.save_dir": tmp_path / "runs",
    }
    assert sorted(word.partition("=")[0] for word in words if "=" in word) == sorted(values)
    on_cpu, on_ranks = re.findall(r"add(?: also)?:\n#\s+(.*)", head)
    settings = [f"{name}={value}" for name, value in values.items()]
    settings += ["dataset.num_workers=0", "dataset.batch_size=8", "model.queue_size=64", *on_cpu.split()]
    settings += on_ranks.split()
    start = torchrun(2, *(word for word in words if "=" not in word), *settings)
    done = subprocess.run(start, **PIPES, cwd=RECIPE.parents[2], timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "training on 2 devices" in done.stdout
    assert updates(tmp_path / "runs") == 2
