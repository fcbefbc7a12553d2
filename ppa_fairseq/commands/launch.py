"""Train on many GPUs, many machines or many CPU processes: fairseq-train, one rank each.

    ppa launch --nproc 8 -- data-bin --user-dir ppa_fairseq --task ppa_alignment ...
    ppa launch --nproc 2 --cpu -- data-bin ...
    ppa launch --nproc 8 --nnodes 2 --node-rank 0 --master-addr node0 -- data-bin ...   (node1: --node-rank 1)
    srun --nodes 2 --ntasks-per-node 1 ppa launch --nproc 8 -- data-bin ...             (SLURM tells the rest)
    ppa launch --nproc 2 --hydra -- --config-dir DIR --config-name NAME [key=value ...]  (fairseq-hydra-train)

When one rank dies the others are stopped, and its exit status becomes that of `ppa launch`.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import uuid
from typing import NamedTuple

from ppa_fairseq.utils.errors import InputError

# What hydra says before fairseq-hydra-train imports the plugin, whose `compat` keeps the rest quiet.
HYDRA_NOISE = ",".join(
    f"ignore::UserWarning:{module}" for module in ("__main__", "runpy", "hydra.main", "hydra._internal.hydra")
)


class Nodes(NamedTuple):
    """The machines of one training, and which of them this is."""

    count: int
    rank: int
    master_addr: str
    master_port: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nproc", type=int, metavar="N", help="ranks on this machine (default: one a GPU, or one)"
    )
    parser.add_argument("--cpu", action="store_true", help="train on CPU (default where there is no GPU)")
    parser.add_argument(
        "--hydra", action="store_true", help="run fairseq-hydra-train instead of fairseq-train"
    )
    several = parser.add_argument_group("several machines (inside `srun`, SLURM's values are the defaults)")
    several.add_argument("--nnodes", type=int, metavar="N", help="machines (default: 1)")
    several.add_argument("--node-rank", type=int, metavar="I", help="which of them this is, from 0")
    several.add_argument("--master-addr", metavar="HOST", help="the machine of node rank 0")
    several.add_argument(
        "--master-port",
        type=int,
        metavar="PORT",
        default=29500,
        help="a free port there (default: %(default)s; one machine alone finds a free port itself)",
    )
    parser.add_argument(
        "fairseq", nargs="+", metavar="-- ARGUMENT", help="the arguments of fairseq, after `--`"
    )


def run(args: argparse.Namespace) -> None:
    """Start the ranks and wait for them.

    Raises:
        InputError: ranks and devices do not fit, or this machine's place among others is not known.
        SystemExit: a rank failed, with its exit status (128 + number for a signal), or a signal came.
    """
    import torch  # here, so that `ppa --help` does not wait for it

    on_cpu = args.cpu or not torch.cuda.is_available()
    ranks = ranks_on_this_machine(args.nproc, on_cpu, torch.cuda.device_count())
    nodes = find_nodes(args)
    if args.hydra:
        os.environ.setdefault("PYTHONWARNINGS", HYDRA_NOISE)
    start(fairseq_command(args.fairseq, args.hydra, on_cpu, world_size=nodes.count * ranks), nodes, ranks)


def ranks_on_this_machine(nproc: int | None, on_cpu: bool, gpus: int) -> int:
    ranks = nproc if nproc is not None else 1 if on_cpu else gpus
    if ranks < 1:
        raise InputError(f"--nproc {ranks}: a machine needs at least one rank")
    if not on_cpu and ranks > gpus:
        raise InputError(f"--nproc {ranks}, but this machine has {gpus} GPU(s); lower it, or add --cpu")
    return ranks


def find_nodes(args: argparse.Namespace) -> Nodes:
    """The machines from the flags, and what those leave open from SLURM (inside an `srun` step)."""
    count, rank, address = args.nnodes, args.node_rank, args.master_addr
    if "SLURM_STEP_NUM_NODES" in os.environ and count is None:
        count, tasks = int(of_slurm("STEP_NUM_NODES")), int(of_slurm("STEP_NUM_TASKS"))
        if tasks != count:
            raise InputError(
                f"srun started {tasks} tasks on {count} machine(s), each of which would start all ranks; "
                "run: srun --ntasks-per-node 1 ppa launch --nproc GPUS -- ..."
            )
        rank = int(of_slurm("NODEID")) if rank is None else rank
        if address is None and count > 1:
            address = first_host(of_slurm("STEP_NODELIST"))
    count = 1 if count is None else count
    if count < 1:
        raise InputError(f"--nnodes {count}: a training needs at least one machine")
    if count > 1 and (rank is None or address is None):
        raise InputError(f"--nnodes {count} needs --node-rank and --master-addr on every machine")
    if not 0 < args.master_port < 2**16:
        raise InputError(f"--master-port {args.master_port}: ports are from 1 to {2**16 - 1}")
    if not 0 <= (rank or 0) < count:
        raise InputError(f"--node-rank {rank}: with --nnodes {count} it is from 0 to {count - 1}")
    return Nodes(count, rank or 0, address or "localhost", args.master_port)


def of_slurm(name: str) -> str:
    """What SLURM tells every task of a step. Raises InputError if it does not."""
    if value := os.environ.get(f"SLURM_{name}"):
        return value
    raise InputError(
        f"SLURM_{name} is not set, though SLURM_STEP_NUM_NODES is, so this is no step as `srun` starts it; give "
        "--nnodes, --node-rank and --master-addr yourself"
    )


def first_host(nodes: str) -> str:
    """The first of SLURM's list of nodes, as node[7-8]. Raises InputError if `scontrol` does not tell."""
    try:
        hosts = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
        return hosts.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        told = " ".join((getattr(error, "stderr", None) or str(error)).split())
        raise InputError(f"scontrol does not tell the machines of {nodes} ({told}); give --master-addr") from None


def fairseq_command(arguments: list[str], hydra: bool, on_cpu: bool, world_size: int) -> list[str]:
    """The command of every rank: fairseq's, with the flags that make it one of `world_size` ranks.

    The shell fills in the rank: torch tells it in the environment, fairseq reads it from the command line.
    """
    options = {
        "distributed_training.distributed_world_size": world_size,
        "distributed_training.distributed_rank": '"$RANK"',
        "distributed_training.device_id": '"$LOCAL_RANK"',
        "distributed_training.distributed_init_method": "env://",
        "distributed_training.distributed_no_spawn": True,  # else fairseq starts ranks: without GPUs none
        "distributed_training.distributed_backend": "gloo" if on_cpu else "nccl",
        # Else rank 0 sends the others a pickle of the checkpoint that torch >= 2.6 refuses: no resume.
        "checkpoint.load_checkpoint_on_all_dp_ranks": True,
    }
    if on_cpu:
        options["common.cpu"] = True
        options["distributed_training.ddp_backend"] = "legacy_ddp"  # pytorch_ddp, the default, wants GPUs
    if hydra:
        flags = [f"{name}={value}" for name, value in options.items()]
    else:
        flags = [
            "--" + name.partition(".")[2].replace("_", "-") + ("" if value is True else f" {value}")
            for name, value in options.items()
        ]
    program = "fairseq_cli.hydra_train" if hydra else "fairseq_cli.train"
    return ["-c", f'exec "$@" {" ".join(flags)}', "sh", sys.executable, "-m", program, *arguments]


def start(arguments: list[str], nodes: Nodes, ranks: int) -> None:
    """Run `sh` with `arguments` as every rank of this machine, under the agent that torchrun uses."""
    from torch.distributed import DistNetworkError, DistStoreError
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if ranks > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // ranks)))
    logging.disable(logging.ERROR)  # of the agent: what happened is said below
    alone = nodes.count == 1
    config = LaunchConfig(
        min_nodes=nodes.count,
        max_nodes=nodes.count,
        nproc_per_node=ranks,
        run_id=str(uuid.uuid4()) if alone else "ppa",
        rdzv_backend="c10d" if alone else "static",
        rdzv_endpoint="localhost:0" if alone else f"{nodes.master_addr}:{nodes.master_port}",
        rdzv_configs={} if alone else {"rank": nodes.rank},
        max_restarts=0,
    )
    try:
        elastic_launch(config, "sh")(*arguments)
    except (DistNetworkError, DistStoreError) as error:
        told = " ".join(str(error).split())[:300]
        raise InputError(
            f"--master-addr {nodes.master_addr} --master-port {nodes.master_port}: the machines do not meet there; if "
            f"the port is in use, give all of them another ({told})"
        ) from None
    except ChildFailedError as error:
        rank, failure = min(error.failures.items(), key=lambda item: cause(item[1]))
        ended = f"exit status {failure.exitcode}" if failure.exitcode > 0 else failure.signal_name()
        if failure.exitcode == -signal.SIGKILL:
            ended += " (if nobody sent it, the system did for want of memory: see dmesg)"
        print(
            f"ppa launch: error: rank {rank} ended with {ended} (see above); the other ranks were stopped",
            file=sys.stderr,
        )
        raise SystemExit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode) from None
    except SignalException as error:
        print(
            f"ppa launch: stopped by {signal.Signals(error.sigval).name}, and with it all ranks; the same command goes "
            "on from the last checkpoint in --save-dir, if one was saved by then",
            file=sys.stderr,
        )
        raise SystemExit(128 + error.sigval) from None


def cause(failure) -> tuple[int, bool, bool]:
    """Sorts failures: of those at one moment, a rank that was killed comes before one that lost connection to it."""
    return failure.timestamp, failure.exitcode == -signal.SIGTERM, failure.exitcode > 0
