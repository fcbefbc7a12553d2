"""`ppa launch` with a stub in fairseq's place that tells what it was given, and with fairseq, as the README has it."""

import argparse
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.training import TINY_TRAINING

from ppa_fairseq.commands import launch
from ppa_fairseq.commands import main as cli
from ppa_fairseq.utils.errors import InputError

ROOT = Path(__file__).parents[2]
STUB = """
    import json, os, signal, sys, time
    if "--wait" in sys.argv:
        import ppa_fairseq  # as fairseq does, by --user-dir
    rank = os.environ["RANK"]
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
    told = {name: os.environ[name] for name in names}
    line = json.dumps({"argv": sys.argv[1:], "pid": os.getpid(), **told})
    os.write(1, f"{line}\\n".encode())  # in one go: the ranks share the output
    if "--hang" in sys.argv:
        os.kill(os.getpid(), signal.SIGSTOP) if rank == "1" else sys.exit(1)
    if "--die" in sys.argv and rank == "1":
        code = int(sys.argv[sys.argv.index("--die") + 1])
        os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)
    time.sleep(300 if {"--die", "--wait"} & set(sys.argv) else 0)
"""


@pytest.fixture
def stub(tmp_path):
    """Environment in which `python -m fairseq_cli.train` (and hydra_train) is the stub."""
    package = tmp_path / "fairseq_cli"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("train.py", "hydra_train.py"):
        (package / name).write_text(textwrap.dedent(STUB))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return environment | {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def command(*arguments):
    return [sys.executable, "-m", "ppa_fairseq.commands.main", "launch", *arguments]


def ppa_launch(*arguments, env):
    return subprocess.run(command(*arguments), env=env, capture_output=True, text=True, timeout=6000)


def told(output):
    return sorted((json.loads(line) for line in output.splitlines()), key=lambda rank: int(rank["RANK"]))


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return open(f"/proc/{pid}/stat").read().split()[2] == "Z"


def test_every_rank_gets_its_flags_and_the_users(stub):
    users = ["data bin", "--user-dir", "it's", "--lr", "$HOME"]
    done = ppa_launch("--nproc", "2", "--cpu", "--", *users, env=stub)
    assert done.returncode == 0, done.stderr
    ranks = told(done.stdout)
    for number, rank in enumerate(ranks):
        parser = argparse.ArgumentParser()
        for name in ("world-size", "rank", "init-method", "backend"):
            parser.add_argument(f"--distributed-{name}")
        for name in ("--cpu", "--distributed-no-spawn", "--load-checkpoint-on-all-dp-ranks"):
            parser.add_argument(name, action="store_true", required=True)
        parser.add_argument("--ddp-backend")
        parser.add_argument("--device-id", type=int)
        flags, rest = parser.parse_known_args(rank["argv"])
        assert rest == users
        assert (flags.distributed_rank, flags.distributed_world_size) == (str(number), "2")
        assert (flags.distributed_init_method, flags.distributed_backend) == ("env://", "gloo")
        assert (flags.ddp_backend, flags.device_id) == ("legacy_ddp", number)
        assert (rank["RANK"], rank["WORLD_SIZE"], rank["MASTER_PORT"]) == (
            str(number),
            "2",
            ranks[0]["MASTER_PORT"],
        )


def test_hydra_understands_its_overrides(stub):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    done = ppa_launch(
        "--nproc", "1", "--hydra", "--", "--config-name", "x", "optimization.max_epoch=3", env=stub
    )
    (rank,) = told(done.stdout)
    assert rank["argv"][:3] == ["--config-name", "x", "optimization.max_epoch=3"]
    overrides = {
        o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(rank["argv"][2:])
    }
    assert overrides["distributed_training.distributed_world_size"] == 1
    assert overrides["distributed_training.distributed_rank"] == 0
    assert overrides["distributed_training.distributed_no_spawn"] is True
    assert overrides["distributed_training.distributed_init_method"] == "env://"
    assert overrides["common.cpu"] is True


@pytest.mark.parametrize("code, status, words", [(7, 7, "exit status 7"), (-9, 137, "SIGKILL")])
def test_one_rank_dies_and_takes_the_others_along(stub, code, status, words):
    done = ppa_launch("--nproc", "2", "--cpu", "--", "data", "--die", str(code), env=stub)
    assert done.returncode == status
    assert f"ppa launch: error: rank 1 ended with {words}" in done.stderr.splitlines()[-1]
    assert all(is_gone(rank["pid"]) for rank in told(done.stdout))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_stopping_the_launcher_stops_the_ranks(stub, number):
    """Ctrl-C as a terminal sends it, to all of them; SIGTERM as a user does, to the launcher."""
    launcher = subprocess.Popen(
        command("--nproc", "2", "--cpu", "--", "data", "--wait"),
        env=stub, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # else ignored, in the background of a script
    )  # fmt: skip
    ranks = told(launcher.stdout.readline() + launcher.stdout.readline())
    (os.killpg if number == signal.SIGINT else os.kill)(launcher.pid, number)
    _, errors = launcher.communicate(timeout=600)
    assert launcher.returncode == 128 + number
    assert errors == (
        f"ppa launch: stopped by {number.name}, and with it all ranks; the same command goes on from the last "
        "checkpoint in --save-dir, if one was saved by then\n"
    )
    assert all(is_gone(rank["pid"]) for rank in ranks)


def test_a_rank_that_hangs_is_killed_when_another_ends(stub):
    """torch's agent waits 30 seconds for a rank to heed SIGTERM; here two."""
    patch = "from torch.distributed.elastic.multiprocessing.api import PContext as Ranks"
    patch += "; assert Ranks.close.__defaults__ == (None, 30); Ranks.close.__defaults__ = (None, 2)"
    launcher = ["-c", f"{patch}; import sys; from ppa_fairseq.commands import main as cli; sys.exit(cli.main())"]
    arguments = command("--nproc", "2", "--cpu", "--", "data", "--hang")[3:]
    done = subprocess.run([sys.executable, *launcher, *arguments], env=stub, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    message = "ppa launch: error: rank 0 ended with exit status 1 (see above); the other ranks were stopped\n"
    assert done.stderr == message
    assert all(is_gone(rank["pid"]) for rank in told(done.stdout))


def test_two_machines_make_one_group(stub):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    machines = [
        subprocess.Popen(
            command("--nproc", "2", "--cpu", "--nnodes", "2", "--node-rank", rank,
                    "--master-addr", "127.0.0.1", "--master-port", port, "--", "data"),
            env=stub, stdout=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    ranks = told("".join(machine.communicate(timeout=6000)[0] for machine in machines))
    assert [(rank["RANK"], rank["LOCAL_RANK"], rank["WORLD_SIZE"]) for rank in ranks] == [
        ("0", "0", "4"), ("1", "1", "4"), ("2", "0", "4"), ("3", "1", "4"),
    ]  # fmt: skip
    assert [machine.returncode for machine in machines] == [0, 0]


def parse(*flags):
    parser = argparse.ArgumentParser()
    launch.add_arguments(parser)
    return parser.parse_args([*flags, "--", "data"])


def test_inside_srun_slurm_tells_the_machines(monkeypatch, tmp_path):
    (tmp_path / "scontrol").write_text(
        '#!/bin/sh\n[ "$*" = "show hostnames node[7-8]" ] && printf "node7\\nnode8\\n"\n'
    )
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    slurm = {"STEP_NUM_NODES": "2", "STEP_NUM_TASKS": "2", "STEP_NODELIST": "node[7-8]", "NODEID": "1"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert launch.find_nodes(parse()) == (2, 1, "node7", 29500)
    assert launch.find_nodes(parse("--nnodes", "1")) == (1, 0, "localhost", 29500)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "16")
    with pytest.raises(InputError, match="16 tasks on 2 machine.*--ntasks-per-node 1"):
        launch.find_nodes(parse())


@pytest.mark.parametrize("name", ["STEP_NUM_TASKS", "NODEID", "STEP_NODELIST"])
def test_a_step_of_which_slurm_tells_half_is_refused(monkeypatch, name):
    for told in ("STEP_NUM_NODES", "STEP_NUM_TASKS", "STEP_NODELIST", "NODEID"):
        monkeypatch.setenv(f"SLURM_{told}", "2")
    monkeypatch.delenv(f"SLURM_{name}")
    with pytest.raises(InputError, match=f"SLURM_{name} is not set.*; give --nnodes, --node-rank and --master-addr"):
        launch.find_nodes(parse())


@pytest.mark.parametrize("program", ["echo no such step >&2; exit 1", "exit 0", None])
def test_machines_that_scontrol_does_not_tell(monkeypatch, tmp_path, program):
    if program:
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for told, value in {"STEP_NUM_NODES": "2", "STEP_NUM_TASKS": "2", "STEP_NODELIST": "n[1-2]", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{told}", value)
    with pytest.raises(InputError, match=r"machines of n\[1-2\] \(.*\); give --master-addr"):
        launch.find_nodes(parse())


def test_a_master_port_in_use_is_told_in_one_line(stub):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        place = ["--nnodes", "2", "--node-rank", "0", "--master-addr", "127.0.0.1", "--master-port", port]
        done = ppa_launch("--cpu", "--nproc", "1", *place, "--", "bin", env=stub | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert done.stderr.startswith(f"ppa launch: error: --master-addr 127.0.0.1 --master-port {port}: the machines do")
    assert "in use" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--nnodes", "2"], "needs --node-rank and --master-addr"),
        (["--nnodes", "2", "--node-rank", "2", "--master-addr", "node0"], "from 0 to 1"),
        (["--node-rank", "1"], "from 0 to 0"),
    ],
)
def test_machines_without_a_place_are_refused(monkeypatch, flags, message):
    monkeypatch.delenv("SLURM_STEP_NUM_NODES", raising=False)
    with pytest.raises(InputError, match=message):
        launch.find_nodes(parse(*flags))


def test_ranks_must_fit_the_devices():
    assert launch.ranks_on_this_machine(None, on_cpu=False, gpus=8) == 8
    assert launch.ranks_on_this_machine(None, on_cpu=True, gpus=8) == 1
    assert launch.ranks_on_this_machine(4, on_cpu=True, gpus=0) == 4
    with pytest.raises(InputError, match="at least one"):
        launch.ranks_on_this_machine(0, on_cpu=True, gpus=0)
    with pytest.raises(InputError, match=r"--nproc 9, but this machine has 8 GPU"):
        launch.ranks_on_this_machine(9, on_cpu=False, gpus=8)


PLUGIN = """
    from fairseq.models import register_model_architecture
    from fairseq.models.masked_lm import base_architecture

    import ppa_fairseq.fairseq_compat.environment
    from ppa_fairseq.fairseq_compat import traps

    @register_model_architecture("masked_lm", "tiny")
    def tiny(args):
        base_architecture(args)
        traps.fix_training_args(args)
"""


def test_fairseq_trains_on_two_ranks_quietly_and_resumes(tmp_path):
    """fairseq's own masked language model with --bf16: training, validation, resume, and no warning."""
    from fairseq import options
    from fairseq_cli import preprocess

    plugin = tmp_path / "tiny_plugin"
    plugin.mkdir()
    (plugin / "__init__.py").write_text(textwrap.dedent(PLUGIN))
    for split in ("train", "valid"):
        (tmp_path / split).write_text("".join(f"a b c {i % 7} {i % 5}\n" for i in range(32)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    prefixes = [f"--{split}pref={tmp_path / split}" for split in ("train", "valid")]
    parser = options.get_preprocessing_parser()
    preprocess.main(parser.parse_args(["--only-source", *prefixes, "--destdir", str(tmp_path / "bin")]))
    sizes = "--encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 8 --encoder-attention-heads 1"
    flags = f"--user-dir {plugin} --task masked_lm --criterion masked_lm --arch tiny {sizes}"
    flags += " --max-positions 32 --tokens-per-sample 32 --batch-size 4 --num-workers 0"
    flags += " --optimizer adam --lr 0.001 --bf16"
    flags += f" --save-dir {tmp_path}/checkpoints"
    for epoch in (1, 2):
        done = ppa_launch(
            "--nproc",
            "2",
            "--cpu",
            "--",
            str(tmp_path / "bin"),
            *flags.split(),
            "--max-epoch",
            str(epoch),
            env=environment,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        assert "training on 2 devices" in output and f"epoch {epoch:03d} | valid on 'valid'" in output
        assert "Warning" not in output
    assert "Loaded checkpoint" in output


def test_the_rank_that_was_killed_is_named_before_those_that_lost_it():
    def failure(exitcode, timestamp=1):
        return SimpleNamespace(exitcode=exitcode, timestamp=timestamp)

    for failures, first in (
        ([failure(1), failure(-9)], 1),
        ([failure(-15), failure(1)], 1),
        ([failure(1), failure(-9, timestamp=31)], 0),  # the launcher's own, of a rank that did not heed SIGTERM
    ):
        assert min(range(len(failures)), key=lambda rank: launch.cause(failures[rank])) == first


README = Path(__file__).resolve().parents[2] / "README.md"


def recipes():
    """The README's commands under "Many GPUs", in words: those of `ppa launch`, then that of torchrun."""
    block = README.read_text("utf-8").partition("## Many GPUs")[2].split("```")[1]
    lines = block.replace("\\\n", "").splitlines()[1:]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def test_the_readmes_commands_start_their_ranks(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(launch, "start", lambda *ranks: started.append(ranks))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    for recipe in recipes()[:-1]:
        with monkeypatch.context() as slurm:
            if recipe[0] == "srun":
                (tmp_path / "scontrol").write_text("#!/bin/sh\necho node7\necho node8\n")
                (tmp_path / "scontrol").chmod(0o755)
                slurm.setenv("PATH", str(tmp_path), prepend=os.pathsep)
                nodes, tasks = (int(recipe[recipe.index(flag) + 1]) for flag in ("--nodes", "--ntasks-per-node"))
                values = {"NUM_NODES": nodes, "NUM_TASKS": nodes * tasks, "NODELIST": "node[7-8]"}
                for name, value in ({f"STEP_{n}": v for n, v in values.items()} | {"NODEID": 1}).items():
                    slurm.setenv(f"SLURM_{name}", str(value))
            assert cli.main(recipe[recipe.index("ppa") + 1 :]) == 0
        arguments = started[-1][0]
        assert arguments[-len(recipe) + recipe.index("--") + 1 :] == recipe[recipe.index("--") + 1 :]
    assert [(tuple(nodes)[:3], ranks) for _, nodes, ranks in started] == [
        ((1, 0, "localhost"), 8),
        ((2, 0, "node0"), 8),
        ((2, 1, "node7"), 8),
        ((1, 0, "localhost"), 2),
    ]
    for (arguments, *_), size, backend in zip(started, (8, 16, 16, 2), ("nccl", "nccl", "nccl", "gloo"), strict=True):
        assert f"--distributed-world-size {size} " in arguments[1]
        assert f"--distributed-backend {backend} " in arguments[1]


def rank_of(launcher, number):
    """The process of a rank of *launcher*."""
    for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        if f"RANK={number}" in Path(f"/proc/{pid}/environ").read_text().split("\0"):
            return int(pid)
    raise AssertionError(f"no rank {number}")


def test_the_readmes_cpu_command_ends_with_a_killed_rank_and_goes_on(data_bin, tmp_path):
    """For real. One line tells what happened, within a minute; given again, the command goes on."""
    (recipe,) = (recipe for recipe in recipes() if "--cpu" in recipe)
    start = [sys.executable, "-m", "ppa_fairseq.commands.main", *recipe[1 : recipe.index("--") + 1]]
    settings = [*TINY_TRAINING, "--disable-validation", "--log-interval", "1", "--save-interval-updates", "2"]
    settings += ["--keep-interval-updates", "1", "--save-dir", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment |= {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    launcher = subprocess.Popen([*start, str(data_bin), *settings], **pipes)
    try:
        next(line for line in launcher.stdout if "num_updates=5," in line)
        os.kill(rank_of(launcher, 1), signal.SIGKILL)
        killed = time.monotonic()
        output = launcher.communicate(timeout=60)[0]
        assert time.monotonic() - killed < 60
    finally:
        launcher.kill()
    assert launcher.returncode == 128 + signal.SIGKILL
    assert output.splitlines()[-1].startswith("ppa launch: error: rank 1 ended with SIGKILL (if nobody sent it,")
    assert "Traceback" not in output
    last = tmp_path / "checkpoint_last.pt"
    saved = torch.load(last, weights_only=True)["optimizer_history"][-1]["num_updates"]
    more = ["--max-update", str(saved + 2)]
    done = subprocess.run([*start, str(data_bin), *settings, *more], **pipes, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"@ {saved} updates)" in done.stdout and saved >= 4
    assert torch.load(last, weights_only=True)["optimizer_history"][-1]["num_updates"] == saved + 2


def test_the_readmes_torchrun_command_trains_and_ends_with_a_killed_rank(data_bin, imported, tmp_path):
    """All of it, on two machines of one rank each; of torch's flags and fairseq's, only paths and sizes are others."""
    recipe = recipes()[-1]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        values = {"--master_addr": "127.0.0.1", "--master_port": probe.getsockname()[1], "--nproc_per_node": 1}
    values |= {"--pretrained": imported(), "--max-epoch": 1000, "--save-dir": tmp_path / "runs"}
    for flag, value in ({"fairseq_cli.train": data_bin} | values).items():
        recipe[recipe.index(flag) + 1] = str(value)
    small = ["--queue-size", "64", "--log-format", "simple", "--log-interval", "1", "--num-workers", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    machines = []
    try:
        for rank in ("0", "1"):
            recipe[recipe.index("--node_rank") + 1] = rank
            start = [sys.executable, "-m", "torch.distributed.run", *recipe[1:], *small]
            machines.append(subprocess.Popen(start, **pipes))
        log = []
        for line in machines[0].stdout:
            log.append(line)
            if "num_updates=12," in line:
                break
        assert any("training on 2 devices" in line for line in log), "".join(log)[-3000:]
        os.kill(rank_of(machines[1], 1), signal.SIGKILL)
        killed = time.monotonic()
        ends = [machine.communicate(timeout=60)[0] for machine in machines]
        assert time.monotonic() - killed < 60
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [1, 1]
    assert all("Root Cause (first observed failure)" in end for end in ends)
    assert "lost the connection to another rank" in ends[0] and "SIGKILL" in ends[1]
    assert (tmp_path / "runs" / "checkpoint_last.pt").exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (None, None),
        ("model.momentum=nan", "--momentum must be"),
        ("model.momentum=often", "Value 'often' .* momentum"),
        ("optimizer._name=null", "no --optimizer is given"),
        ("dataset.batch_size=null", "neither --batch-size nor"),
    ],
)
def test_the_hydra_config_trains_by_its_own_command(data_bin, imported, tmp_path, wrong, told):
    """All of it but fp16, which is for GPUs, and paths and sizes; what is wrong is told in one line there, too."""
    config = Path("scripts/recipes/ppa_mbert.yaml").read_text("utf-8").replace("\\\n#", " ")
    command = re.sub(r"\$\(\(.*?\)\)", "N", re.search(r"ppa launch (.*?save_dir=\S+)", config)[1]).split()
    values = {
        "task.data": data_bin,
        "model.pretrained": imported(),
        "optimization.max_update": 1,
        "lr_scheduler.warmup_updates": 0,
        "checkpoint.save_dir": tmp_path / "runs",
    }
    names = [word.partition("=")[0] for word in command if "=" in word]
    assert sorted(names) == sorted(values)
    small = ["common.fp16=false", "dataset.num_workers=0", "dataset.batch_size=8", "model.queue_size=64"]
    settings = [f"{name}={value}" for name, value in values.items()] + small + [wrong] * bool(wrong)
    flags = [word for word in command if "=" not in word]
    done = ppa_launch(*flags, *settings, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    last = tmp_path / "runs" / "checkpoint_last.pt"
    assert "Traceback" not in done.stderr, done.stderr[-1500:]
    if wrong:
        assert done.returncode == 1 and not last.exists()
        assert re.search(f"error: .*{told}", done.stderr), done.stderr
    else:
        assert done.returncode == 0
        assert torch.load(last, weights_only=True)["optimizer_history"][-1]["num_updates"] == 1
