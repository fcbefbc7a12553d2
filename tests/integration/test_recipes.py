"""The scripts print their usage, start fairseq-train with the right flags, and follow its log. Nothing is trained."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TRAININGS = {"align": ["250k"], "finetune": ["xnli", "zero-shot"]}
PAPER = "--pooling cls --momentum 0.999 --queue-size 32000 --temperature 0.05 --lr 3e-5 --adam-eps 1e-6"
RECIPES = [*TRAININGS, "prepare_bitext", "prepare_xnli", "prepare_mlqa"]


def run(folder, name, *arguments, **environment):
    command = ["bash", SCRIPTS / f"{name}.sh", *arguments]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)


@pytest.fixture
def stubs(tmp_path):
    """A PATH with stubs: fairseq-train and torchrun print their arguments, and a training takes 100 updates."""
    python = '[ "$1" = -c ] && echo ${GPUS-0 fp16 0} || { [ -f "$1" ] && echo 100; }'  # GPUs, or count_updates.py
    show = 'printf "%s\\n" "$@"'
    for command, line in {"fairseq-train": show, "torchrun": show, "python": python}.items():
        (tmp_path / command).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / command).chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.mark.parametrize("name", RECIPES)
def test_help_is_the_head_of_the_script(tmp_path, name):
    head = (SCRIPTS / f"{name}.sh").read_text("utf-8").partition("\nset -")[0].splitlines()[1:]
    text = "".join(f"{line[2:]}\n" for line in head)
    done = [run(tmp_path, name, *flag.split()) for flag in ("--help", "")]
    assert [(one.returncode, one.stdout, one.stderr) for one in done] == [(0, text, ""), (2, "", text)]


@pytest.mark.parametrize(("name", "how"), TRAININGS.items(), ids=TRAININGS)
@pytest.mark.parametrize("chosen", [None, "mine"])
def test_training_starts_from_any_folder(tmp_path, stubs, name, how, chosen):
    done = run(tmp_path, name, *how, "data", "base", "--seed", "7", **stubs, **({"SAVE_DIR": chosen} if chosen else {}))
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    flags = dict(zip(words, words[1:], strict=False))
    assert Path(flags["--user-dir"]).samefile(SCRIPTS.parent / "ppa_fairseq")
    default = "runs/" + "-".join([name, *how] if name == "align" else how)
    assert flags["--save-dir"] == (chosen or default) and flags["--pretrained"] == "base" and flags["--seed"] == "7"
    assert (flags["--max-update"], flags["--total-num-update"], flags["--warmup-updates"]) == ("100", "100", "10")
    assert "--cpu" in words and "--fp16" not in words


@pytest.mark.parametrize(("recipe", "pairs"), [((), "256"), (("--recipe", "paper"), "64")])
def test_large_gpus_take_more_pairs_in_bf16(tmp_path, stubs, recipe, pairs):
    done = run(tmp_path, "align", *recipe, "250k", "data", "base", GPUS="2 bf16 79", **stubs)
    words = done.stdout.split()
    assert words[:3] == ["--standalone", "--nproc_per_node", "2"] and words[-1] == "--bf16", done.stderr
    assert words[words.index("--batch-size") + 1] == pairs


def test_the_papers_recipe_is_what_it_was(tmp_path, stubs):
    """As scripts/recipes/ppa_mbert.yaml has it, and of its objective no flag more."""
    ours, paper = (
        run(tmp_path, "align", *recipe, "600k", "data", "base", **stubs).stdout.split()
        for recipe in ((), ("--recipe", "paper"))
    )
    flags, words = dict(zip(paper, paper[1:], strict=False)), PAPER.split()
    assert {name: flags[name] for name in words[::2]} == dict(zip(words[::2], words[1::2], strict=True))
    assert {"--projection-head", "--tlm-weight"} < set(ours) - set(paper) and flags["--save-dir"] == "runs/paper-600k"
    assert flags["--optimizer"] == "fused_adamw" and flags["--weight-decay"] == "0.01" and flags["--clip-norm"] == "1"


@pytest.mark.parametrize("mode", ["translate-train", "code-switch"])
def test_finetuning_takes_the_languages_with_training_data(tmp_path, stubs, mode):
    for language in ("de", "en"):
        (tmp_path / "data" / language).mkdir(parents=True)
        (tmp_path / "data" / language / "train.question.idx").touch()
    words = run(tmp_path, "finetune", "mlqa", mode, "data", "base", **stubs).stdout.splitlines()
    assert words[words.index("--train-langs") + 1] == "de,en" and ("--code-switch" in words) == (mode == "code-switch")
    assert words[words.index("--best-checkpoint-metric") + 1] == "accuracy_avg"


UNKNOWN = ["align 1M", "align --recipe mine 250k", "finetune xnil zero-shot", "finetune xnli zero"]


@pytest.mark.parametrize("words", UNKNOWN)
def test_unknown_setting_is_refused(tmp_path, stubs, words):
    done = run(tmp_path, *words.split(), "data", "base", **stubs)
    assert done.returncode == 1 and ": unknown " in done.stderr and done.stdout == ""


def test_updates_are_counted_by_batch_rank_and_epoch(data_bin):
    """Two pairs of 75 and 40 sentences in batches of 10 by pair, so 12 batches or fewer for each epoch."""
    counts = {}
    for flags in ("--distributed-world-size 2 --update-freq 3", "--max-update 5", "--lr 1 --momentum 0.5"):
        command = [sys.executable, SCRIPTS / "count_updates.py", data_bin, "--user-dir", SCRIPTS.parent / "ppa_fairseq"]
        command += [*"--task ppa_alignment --batch-size 10 --max-epoch 2".split(), *flags.split()]
        counts[flags] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert list(counts.values()) == [4, 5, 24]


def test_progress_shows_errors_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import progress

    log = [
        "2026 | INFO | Loaded checkpoint runs/checkpoint_last.pt (epoch 1 @ 60 updates)\n",
        '2026 | INFO | train_inner | {"loss": "9.5", "contrastive_acc": "75", "num_updates": "62"}\n',
        "Traceback (most recent call last):\n",
        "ValueError: no such thing\n",
    ]
    with (tmp_path / "log").open("w") as file, tqdm(total=200, file=io.StringIO()) as bar:
        progress.follow(log, file, bar)
    assert (bar.n, bar.initial, bar.postfix) == (62, 60, "loss 9.5, contrastive accuracy 75 %")
    assert (tmp_path / "log").read_text() == "".join(log)
    assert capsys.readouterr().err.splitlines() == ["resumed after update 60", *(line.strip() for line in log[2:])]


def test_quickstart_takes_folders_from_the_current_one(tmp_path):
    """The set-up, its first step, refuses an environment that it did not make."""
    (tmp_path / "mbert").mkdir()
    done = run(tmp_path, "quickstart", "--base", "mbert", PPA_VENV=str(tmp_path))
    assert "setup: error" in done.stderr
