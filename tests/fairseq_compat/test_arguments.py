"""What fairseq would silently do wrong is set right or refused, on command lines that fairseq parsed."""

import argparse
import logging
import signal
import time

import pytest
import torch
from fairseq.distributed import DistributedTimeoutWrapper

from ppa_fairseq.fairseq_compat import arguments as flag_checks
from ppa_fairseq.fairseq_compat import traps
from ppa_fairseq.utils.errors import HANGS, InputError

TORCHRUN = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


@pytest.fixture(autouse=True)
def alone_on_cpu(monkeypatch):
    for name in [*TORCHRUN, "SLURM_STEP_NUM_TASKS"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def torchrun(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)


def parse(*flags):
    """The arguments as fairseq leaves them to an architecture function."""
    from fairseq import options

    parser = options.get_training_parser()
    return options.parse_args_and_arch(
        parser, [*"data-bin --task masked_lm --arch masked_lm --optimizer adam --batch-size 1".split(), *flags]
    )


def test_bf16_is_no_wish_for_a_tpu():
    args = parse("--bf16")
    assert args.tpu, "fairseq no longer confuses them"
    traps.fix_training_args(args)
    assert args.bf16 and not args.tpu


@pytest.mark.parametrize("flag", ["--fp16", "--memory-efficient-fp16", "--amp"])
def test_loss_scaling_is_refused_on_cpu(flag, monkeypatch):
    for args in (parse(flag), parse(flag, "--cpu")):
        with pytest.raises(InputError, match="--(fp16|amp) needs a GPU"):
            traps.fix_training_args(args)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    traps.fix_training_args(parse(flag))


def test_a_lone_training_is_left_as_it_is():
    args = parse()
    before = vars(args).copy()
    traps.fix_training_args(args)
    assert vars(args) == before


def test_model_settings_pass():
    traps.fix_training_args(argparse.Namespace(encoder_layers=2))


def test_a_rank_of_torchrun_joins_the_others(torchrun):
    args = parse()
    traps.fix_training_args(args)
    assert (args.distributed_world_size, args.distributed_rank, args.device_id) == (2, 1, 1)
    assert args.distributed_init_method == "env://" and args.distributed_no_spawn
    assert (args.distributed_backend, args.ddp_backend) == ("gloo", "legacy_ddp")
    assert args.load_checkpoint_on_all_dp_ranks


def test_on_gpus_the_backends_stay(torchrun, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    args = parse()
    traps.fix_training_args(args)
    assert args.distributed_world_size == 2
    assert (args.distributed_backend, args.ddp_backend) == ("nccl", "pytorch_ddp")


@pytest.mark.parametrize("flags", [(), ("--distributed-init-method", "tcp://localhost:29500")])
def test_ranks_that_nobody_would_start_are_refused(flags):
    args = parse("--distributed-world-size", "2", "--cpu", *flags)
    with pytest.raises(InputError, match="would train nothing.*ppa launch --nproc 2 --cpu"):
        traps.fix_training_args(args)


def test_a_rank_that_was_told_everything_passes(torchrun):
    flags = "--distributed-world-size 2 --distributed-rank 1 --distributed-no-spawn"
    flags += " --distributed-init-method env:// --distributed-backend gloo --ddp-backend no_c10d --cpu"
    args = parse(*flags.split())
    traps.fix_training_args(args)
    assert (args.distributed_rank, args.ddp_backend) == (1, "no_c10d")


def test_ranks_that_do_not_know_each_other_are_refused(torchrun):
    with pytest.raises(InputError, match="2 processes were started.*ppa launch --nproc 2"):
        traps.refuse_lone_ranks()


def test_tasks_of_srun_that_do_not_know_each_other_are_refused(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(InputError, match="4 processes were started"):
        traps.refuse_lone_ranks()


def test_one_process_and_joined_ranks_pass(monkeypatch):
    traps.refuse_lone_ranks()
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    traps.refuse_lone_ranks()


def test_fairseqs_heartbeat_is_told_from_ctrl_c():
    """By fairseq's own thread, in a rank that hangs outside of a collective."""
    logger = logging.getLogger("fairseq.distributed.distributed_timeout_wrapper")
    handler, filters = signal.getsignal(signal.SIGINT), logger.filters[:]
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        traps.tell_heartbeat_from_ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        model = DistributedTimeoutWrapper(torch.nn.Identity(), timeout=0.1)
        with pytest.raises(InputError) as told:
            model(torch.ones(1))
            time.sleep(60)
        assert str(told.value) == HANGS
    finally:
        signal.signal(signal.SIGINT, handler)
        logger.filters = filters


def test_what_is_derived_from_a_task_a_model_or_a_criterion_goes_with_the_others(monkeypatch):
    from fairseq.criterions import CRITERION_REGISTRY
    from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_REGISTRY
    from fairseq.tasks import TASK_REGISTRY

    import ppa_fairseq.tasks.ppa_alignment  # noqa: F401  (registers it, with its model and criterion)
    import ppa_fairseq.tasks.xnli_codeswitch  # noqa: F401

    monkeypatch.setitem(TASK_REGISTRY, "my_task", type("MyTask", (TASK_REGISTRY["ppa_alignment"],), {}))
    monkeypatch.setitem(MODEL_REGISTRY, "my_model", type("MyModel", (MODEL_REGISTRY["ppa"],), {}))
    monkeypatch.setitem(ARCH_MODEL_NAME_REGISTRY, "my_arch", "my_model")
    monkeypatch.setitem(CRITERION_REGISTRY, "my_loss", type("MyLoss", (CRITERION_REGISTRY["ppa"],), {}))
    for task in ("ppa_alignment", "my_task"):
        flag_checks.check_parts(task, "my_arch", "my_loss")
        flag_checks.check_parts(task, "ppa_bert", "ppa")
        with pytest.raises(InputError, match=f"--task {task} .* do not go together: give --task ppa_alignment"):
            flag_checks.check_parts(task, "my_arch", "masked_lm")
    with pytest.raises(InputError, match="do not go together"):
        flag_checks.check_parts("xnli_codeswitch", "my_arch", "sentence_prediction")
