"""Several ranks train as one does, stay equal bit for bit, and end together."""

import functools
import os
import signal

import pytest
import torch
from helpers.ranks import at_update, train_on_ranks
from helpers.training import TINY_TRAINING, assert_same_training

from ppa_fairseq.criterions.ppa import PPACriterion

NO_VALIDATION = "--disable-validation"
SHORT = [*TINY_TRAINING, NO_VALIDATION, "--max-update", "9"]


def record_losses(path, rank: int) -> None:
    """Write each update's loss a pair, over all ranks, to *path*."""
    reduce = PPACriterion.reduce_metrics

    def tell(logging_outputs):
        if rank == 0:
            loss, pairs = (sum(float(log[name]) for log in logging_outputs) for name in ("loss", "nsentences"))
            with path.open("a") as losses:
                losses.write(f"{loss / pairs!r}\n")
        reduce(logging_outputs)

    PPACriterion.reduce_metrics = staticmethod(tell)


@pytest.mark.parametrize(
    ("ranks", "micro_batches", "size", "epochs", "updates", "more"),
    [
        (2, 1, 8, 2, 16, []),
        (2, 2, 8, 2, 8, ["--tokens-at-once", "60"]),
        (3, 1, 7, 2, 12, []),
    ],
    ids=["ragged", "micro-batches", "three ranks"],
)
def test_ranks_equal_one_rank_with_the_same_global_batch(
    train, data_bin, tmp_path, monkeypatch, ranks, micro_batches, size, epochs, updates, more
):
    """In the loss of every update and in the end. The last update has short and dummy batches."""
    settings = ["--batch-size", str(size), "--max-epoch", str(epochs), "--dropout", "0", "--attention-dropout", "0"]
    settings += ["--queue-size", "256", NO_VALIDATION]  # all keys fit: of those of one update, ranks have another order
    monkeypatch.setattr(PPACriterion, "reduce_metrics", PPACriterion.reduce_metrics)  # put back at the end
    record_losses(tmp_path / "one.txt", 0)
    one = train(*settings, "--update-freq", str(ranks * micro_batches))
    monkeypatch.undo()
    argv = [str(data_bin), *TINY_TRAINING, *settings, "--update-freq", str(micro_batches), "--check-ranks", *more]
    done = train_on_ranks(ranks, argv, tmp_path / "several", functools.partial(record_losses, tmp_path / "several.txt"))
    assert [rank.exitcode for rank in done] == [0] * ranks, done[0].output[-3000:]
    several = torch.load(tmp_path / "several" / "checkpoint_last.pt", weights_only=True)
    curves = [[float(line) for line in (tmp_path / f"{n}.txt").read_text().split()] for n in ("one", "several")]
    assert len(curves[0]) == updates and curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert one["optimizer_history"][-1]["num_updates"] == several["optimizer_history"][-1]["num_updates"] == updates
    for model in (one["model"], several["model"]):
        order = [115 * e + model["queue.pivots"][115 * e : 115 * (e + 1)].argsort() for e in reversed(range(epochs))]
        for name in ("queue.keys", "queue.pivots"):
            model[name] = model[name][torch.cat(order)]
        for name in (name for name in model if name.endswith("qkv_proj.bias")):
            # The softmax cancels the keys' biases: their gradient is rounding alone, of which Adam makes steps.
            model[name].unflatten(0, (3, -1))[1] = 0
    for name, tensor in one["model"].items():
        torch.testing.assert_close(several["model"][name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def change_one_bit(queue: bool, rank: int) -> None:
    def change(model):
        tensor = model.queue.keys if queue else model.momentum_encoder.projection.fc1.weight.data
        tensor.view(torch.int32)[1, 1] ^= 1

    if rank == 1:
        at_update(3, change)


@pytest.mark.parametrize(("queue", "named"), [(True, "queue.keys"), (False, "momentum_encoder")])
def test_ranks_that_differ_by_one_bit_stop_by_name(data_bin, tmp_path, queue, named):
    argv = [str(data_bin), *SHORT, "--check-ranks"]
    done = train_on_ranks(3, argv, tmp_path, functools.partial(change_one_bit, queue))
    for rank in done:
        assert rank.exitcode == 1
        message = f"after update 3 these differ from rank 0's: {named} (rank 1). Resume"
        assert rank.error.startswith(f"ppa_fairseq: error: --check-ranks: {message}")


def test_a_rank_that_hangs_ends_the_others_after_the_timeout(data_bin, tmp_path):
    """The stopped rank itself obeys SIGKILL only, which torchrun sends."""

    def hang(rank: int) -> None:
        if rank == 1:
            at_update(3, lambda model: os.kill(os.getpid(), signal.SIGSTOP))

    argv = [str(data_bin), *SHORT, "--heartbeat-timeout", "4"]
    survivor, _ = train_on_ranks(2, argv, tmp_path, hang, stopped=1)
    assert survivor.exitcode != 0 and "not making progress in 4 seconds" in survivor.output


def test_tlm_alone_survives_validation(data_bin, tmp_path):
    """fairseq's dummy batch is then one of validation, which has queries and keys."""
    settings = ["--contrastive-weight", "0", "--max-epoch", "1", "--save-interval-updates", "3", "--check-ranks"]
    done = train_on_ranks(2, [str(data_bin), *TINY_TRAINING, *settings], tmp_path)
    assert [rank.exitcode for rank in done] == [0, 0], done[0].output[-3000:]


def test_the_choice_of_the_dummy_batch_changes_nothing(data_bin, tmp_path):
    """Two ranks share 15 batches, so the last update of an epoch has a dummy: on resume it is one of validation."""

    def train(name, epochs):
        flags = ["--update-freq", "2", "--dropout", "0.1", "--max-epoch", epochs]
        done = train_on_ranks(2, [str(data_bin), *TINY_TRAINING, *flags], tmp_path / name)
        assert [rank.exitcode for rank in done] == [0, 0], done[0].output[-3000:]
        return torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)

    whole = train("whole", "2")
    train("parts", "1")
    assert_same_training(whole, train("parts", "2"))
