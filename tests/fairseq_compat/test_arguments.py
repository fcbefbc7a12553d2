"""What fairseq would silently do wrong is corrected or refused, on command lines that fairseq parsed."""

import argparse

import pytest
import torch
from fairseq import options
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_REGISTRY
from fairseq.tasks import TASK_REGISTRY

import ppa_fairseq.tasks.mlqa_codeswitch  # noqa: F401  (registers it, with its model and criterion)
import ppa_fairseq.tasks.ppa_alignment  # noqa: F401
import ppa_fairseq.tasks.xnli_codeswitch  # noqa: F401
from ppa_fairseq.fairseq_compat import arguments
from ppa_fairseq.utils.errors import InputError

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def alone_on_cpu(monkeypatch):
    for name in [*TORCHRUN, "SLURM_STEP_NUM_TASKS"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(arguments, "prepare", lambda: None)  # no hooks in the process of the tests


def parse(*flags: str) -> argparse.Namespace:
    """The arguments as fairseq leaves them to an architecture function."""
    parts = "data-bin --task masked_lm --arch masked_lm --optimizer adam --batch-size 1".split()
    return options.parse_args_and_arch(options.get_training_parser(), [*parts, *flags])


def test_bf16_does_not_ask_for_a_tpu():
    args = parse("--bf16", "--cpu")
    assert args.tpu, "fairseq no longer confuses them"
    arguments.fix_training_args(args)
    assert args.bf16 and not args.tpu


@pytest.mark.parametrize("flag", ["--fp16", "--memory-efficient-fp16", "--amp"])
def test_loss_scaling_is_refused_on_cpu(flag, monkeypatch):
    for args in (parse(flag), parse(flag, "--cpu")):
        with pytest.raises(InputError, match="--(fp16|amp) needs a GPU"):
            arguments.fix_training_args(args)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    arguments.fix_training_args(parse(flag))


@pytest.mark.parametrize("flag", ["--fp16", "--bf16", "--amp"])
def test_half_precision_is_refused_where_torch_cannot_use_the_gpu(flag, monkeypatch):
    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11080). Please update it")

    monkeypatch.setattr(torch.cuda, "init", init)
    reason = r"torch can use none: The NVIDIA driver on your system is too old \(found version 11080\); on a CPU "
    with pytest.raises(InputError, match=f"{flag} needs a GPU, and {reason}"):
        arguments.fix_training_args(parse(flag))


@pytest.mark.parametrize("flags", ["--ddp-backend fully_sharded", "--zero-sharding os"])
def test_sharding_is_refused(flags):
    with pytest.raises(InputError, match=f"{flags}: the momentum encoder follows whole weights"):
        arguments.fix_training_args(parse(*flags.split()))


def test_cpu_beside_gpus_is_one_rank(monkeypatch):
    """fairseq's default is a rank for each GPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    args = parse("--cpu", "--distributed-world-size", "4")
    arguments.fix_training_args(args)
    assert args.distributed_world_size == 1


def test_a_lone_training_and_a_rank_with_all_flags_stay_unchanged(monkeypatch):
    flags = "--distributed-world-size 2 --distributed-rank 1 --distributed-no-spawn --load-checkpoint-on-all-dp-ranks"
    flags += " --distributed-init-method env:// --distributed-backend gloo --ddp-backend no_c10d --cpu"
    for args, variables in ((parse(), {}), (parse(*flags.split()), TORCHRUN)):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        before = vars(args).copy()
        arguments.fix_training_args(args)
        assert vars(args) == before


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_a_rank_of_torchrun_joins_the_others(monkeypatch, gpu):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    args = parse()
    arguments.fix_training_args(args)
    assert (args.distributed_world_size, args.distributed_rank, args.device_id) == (2, 1, 1)
    assert args.distributed_init_method == "env://" and args.distributed_no_spawn
    assert args.load_checkpoint_on_all_dp_ranks
    backends = ("nccl", "pytorch_ddp") if gpu else ("gloo", "legacy_ddp")
    assert (args.distributed_backend, args.ddp_backend) == backends


@pytest.mark.parametrize("flags", [(), ("--distributed-init-method", "tcp://localhost:29500")], ids=["alone", "tcp"])
def test_ranks_that_fairseq_would_not_start_are_refused(flags):
    args = parse("--distributed-world-size", "2", "--cpu", *flags)
    with pytest.raises(InputError, match="ranks on GPUs only; on CPU run: torchrun --nproc_per_node 2 "):
        arguments.fix_training_args(args)


@pytest.mark.parametrize("variables", [TORCHRUN, {"SLURM_STEP_NUM_TASKS": "2"}], ids=["torchrun", "srun"])
def test_lone_ranks_are_refused(monkeypatch, variables):
    arguments.refuse_lone_ranks()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="2 processes were started"):
        arguments.refuse_lone_ranks()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    arguments.refuse_lone_ranks()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer", None, "--optimizer is missing; add one, such as --optimizer fused_adamw"),
        ("dropout", 2.0, "--dropout must be at least 0 and at most 1, not 2.0"),
        ("lr", [1e-3, -1.0], "--lr must be at least 0 and finite, not -1.0"),
        ("momentum", float("nan"), "--momentum must be at least 0 and at most 1, not nan"),
        ("temperature", 0.0, "--temperature must be over 0 and finite, not 0.0"),
        ("tlm_weight", float("inf"), "--tlm-weight must be at least 0 and finite, not inf"),
    ],
)
def test_flags_that_cannot_work_are_refused(name, value, message):
    args = parse()
    setattr(args, name, value)
    with pytest.raises(InputError, match=message):
        arguments.fix_training_args(args)


@pytest.mark.parametrize(
    "parts, advice",
    [
        (("ppa_alignment", "ppa_bert", "masked_lm"), "--task ppa_alignment --criterion ppa --arch ppa_bert or"),
        (("translation", "ppa_bert", "ppa"), "--task ppa_alignment"),
        (("xnli_codeswitch", "ppa_bert_reader", None), "--task xnli_codeswitch --criterion sentence_prediction"),
        (("xnli_codeswitch", None, "ppa"), "--arch ppa_bert_classifier or"),
        (("mlqa_codeswitch", "ppa_bert_reader", "ppa"), "--criterion span_prediction"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, advice):
    with pytest.raises(InputError, match="do not fit together; use ") as caught:
        arguments.check_parts(*parts)
    assert advice in str(caught.value)


def test_derived_tasks_models_and_criterions_fit(monkeypatch):
    monkeypatch.setitem(TASK_REGISTRY, "my_task", type("MyTask", (TASK_REGISTRY["ppa_alignment"],), {}))
    monkeypatch.setitem(MODEL_REGISTRY, "my_model", type("MyModel", (MODEL_REGISTRY["ppa"],), {}))
    monkeypatch.setitem(ARCH_MODEL_NAME_REGISTRY, "my_arch", "my_model")
    monkeypatch.setitem(CRITERION_REGISTRY, "my_loss", type("MyLoss", (CRITERION_REGISTRY["ppa"],), {}))
    for task in ("ppa_alignment", "my_task"):
        arguments.check_parts(task, "my_arch", "my_loss")
        arguments.check_parts(task, "ppa_bert", "ppa")
