"""Tiny trainings in this process, and their comparison."""

import importlib
import sys
from pathlib import Path

import torch

TINY_SIZES = """
    --arch ppa_bert --encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 32 --encoder-attention-heads 2
    --max-positions 64 --token-types 2 --layer-norm-eps 1e-12 --position-offset 0
""".split()
TINY_ALIGNMENT = """
    --optimizer adam --lr 1e-2 --batch-size 8 --queue-size 64 --projection-dim 8 --momentum 0.9
    --log-format simple --log-interval 4 --no-epoch-checkpoints --num-workers 0
    --user-dir ppa_fairseq --task ppa_alignment --criterion ppa --cpu --cpu-precision fp32
""".split()
TINY_TRAINING = [*TINY_SIZES, *TINY_ALIGNMENT]


TINY_FINETUNING = """
    --user-dir ppa_fairseq --cpu --cpu-precision fp32 --optimizer adam --lr 1e-3 --batch-size 8 --max-epoch 1
    --num-workers 0 --log-format simple --no-epoch-checkpoints --disable-validation
""".split()
NLI = ["--task", "xnli_codeswitch", "--arch", "ppa_bert_classifier", "--criterion", "sentence_prediction"]
CLASSIFICATION = ["--task", "ppa_classification", "--arch", "ppa_bert_classifier", "--criterion", "sentence_prediction"]
TAGGING = ["--task", "ppa_tagging", "--arch", "ppa_bert_tagger", "--criterion", "tag_prediction"]
QA = ["--task", "mlqa_codeswitch", "--arch", "ppa_bert_reader", "--criterion", "span_prediction"]


def run_training(argv: list[str], save_dir: Path) -> dict:
    """fairseq-train in this process; returns its last checkpoint."""
    from unittest import mock

    from fairseq import checkpoint_utils
    from fairseq.logging import metrics
    from fairseq_cli.train import cli_main, should_stop_early

    for task in ("ppa_alignment", "xnli_codeswitch", "mlqa_codeswitch", "ppa_classification", "ppa_tagging"):
        importlib.import_module(f"ppa_fairseq.tasks.{task}")  # fairseq does it where the package is not imported yet
    metrics.reset()
    for function in (checkpoint_utils.save_checkpoint, should_stop_early):  # fairseq keeps values on functions
        vars(function).clear()
    with mock.patch.object(sys, "argv", ["fairseq-train", *argv, "--save-dir", str(save_dir)]):
        cli_main()
    return torch.load(save_dir / "checkpoint_last.pt", weights_only=True)


def assert_same_training(one, other):
    """Weights, momentum encoder, queue and optimizer state are equal bit for bit."""
    assert one["model"].keys() == other["model"].keys()
    for name, tensor in one["model"].items():
        assert torch.equal(tensor, other["model"][name]), name
    states = one["last_optimizer_state"]["state"], other["last_optimizer_state"]["state"]
    for parameter in states[0]:
        for name, value in states[0][parameter].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][parameter][name])), name
    assert one["extra_state"]["train_iterator"] == other["extra_state"]["train_iterator"]
