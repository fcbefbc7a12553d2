"""Half precision: an update that overflows moves nothing, and all others are as in fp32.

fairseq scales losses only on GPUs; here its CUDA calls are replaced by their CPU counterparts.
"""

import copy
import functools
from types import SimpleNamespace

import pytest
import torch
from fairseq.criterions.sentence_prediction import SentencePredictionCriterion
from fairseq.trainer import Trainer
from helpers.nli_data import make_nli_bin
from helpers.qa_data import make_qa_bin
from helpers.training import NLI, QA, TINY_FINETUNING, run_training

from ppa_fairseq.criterions.ppa import PPACriterion
from ppa_fairseq.criterions.span_prediction import SpanPredictionCriterion
from ppa_fairseq.fairseq_compat import arguments
from ppa_fairseq.models.ppa import PPAModel
from ppa_fairseq.utils.errors import InputError

FP16 = ["--fp16", "--fp16-no-flatten-grads"]
AMP = ["--amp", "--fp16-init-scale", "1024"]
FUSED = ["--optimizer", "fused_adamw"]
CLIPPED = ["--clip-norm", "1"]
RECIPE = ["--fp16", *FUSED, *CLIPPED]  # all weights as one tensor
ACCUMULATED = ["--update-freq", "2", "--max-epoch", "2"]
SETTINGS = ["--max-epoch", "1", "--queue-size", "200", "--disable-validation", "--dropout", "0"]
SETTINGS += ["--attention-dropout", "0", "--lr", "1e-3"]
SETTINGS += ["--lr-scheduler", "polynomial_decay", "--total-num-update", "20"]


@pytest.fixture
def scaling_on_cpu(monkeypatch):
    """Let --fp16 and --amp train: fairseq scales losses on GPUs alone."""
    monkeypatch.setattr(arguments, "SCALED_LOSS", ())
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)  # fairseq's overflow branch
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)  # where it flattens them
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", functools.partial(torch.amp.GradScaler, "cpu"))
    monkeypatch.setattr(torch.cuda.amp, "autocast", functools.partial(torch.autocast, "cpu", dtype=torch.float16))


@pytest.fixture
def attempts(monkeypatch):
    """Losses, the state before each attempt at an update, and ``overflow``: numbers of attempts to let overflow."""
    made, trainers = SimpleNamespace(overflow=(), losses=[], states=[]), []
    made.finish = lambda: made.states.append(snapshot(trainers[-1]))
    train_step, begin, forward = Trainer.train_step, PPACriterion.train, PPACriterion.forward

    def step(trainer, *args, **kwargs):
        trainers.append(trainer)
        return train_step(trainer, *args, **kwargs)

    def start(criterion, mode=True):
        made.states += [snapshot(trainers[-1])] * mode
        return begin(criterion, mode)

    def lossy(criterion, *args, **kwargs):
        loss, size, logged = forward(criterion, *args, **kwargs)
        made.losses.append(float(loss) / size)
        return loss * (float("inf") if len(made.states) in made.overflow else 1), size, logged

    monkeypatch.setattr(Trainer, "train_step", step)
    monkeypatch.setattr(PPACriterion, "train", start)
    monkeypatch.setattr(PPACriterion, "forward", lossy)
    return made


def snapshot(trainer) -> dict:
    """All that an update moves, by name; and the loss scale, which an overflow moves instead."""
    optimizer = copy.deepcopy(trainer.optimizer.state_dict())
    moments = {f"{n}.{name}": v for n, state in optimizer["state"].items() for name, v in state.items()}
    masters = getattr(trainer.optimizer, "fp32_params", [])
    masters = masters.values() if isinstance(masters, dict) else masters  # one a device
    scaler = getattr(trainer.optimizer, "scaler", None)
    return {
        "model": {name: tensor.clone() for name, tensor in trainer.get_model().state_dict().items()},
        "optimizer": moments | {f"master {n}": master.detach().clone() for n, master in enumerate(masters)},
        "counters": {"num_updates": trainer.get_num_updates(), "lr": trainer.get_lr()},
        "scale": scaler and (getattr(scaler, "loss_scale", None) or scaler.get_scale()),
    }


def first_moments(state: dict) -> list[torch.Tensor]:
    """Adam's, flat, one parameter after the other; after the first update they are a tenth of the gradient."""
    moments = {int(n.split(".")[0]): v for n, v in state["optimizer"].items() if n.endswith(".exp_avg")}
    return [moments[number].flatten().float() for number in sorted(moments)]


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(torch.as_tensor(value), torch.as_tensor(other[name])) for name, value in one.items()
    )


@pytest.mark.parametrize(
    "mode",
    [FP16, RECIPE, [*RECIPE, *ACCUMULATED], ["--memory-efficient-fp16"], ["--amp"], ["--amp", *FUSED]],
    ids=["fp16", "recipe", "recipe accumulated", "memory-efficient", "amp", "amp fused"],
)
def test_an_overflow_moves_neither_model_nor_optimizer_nor_counters(train, attempts, scaling_on_cpu, mode):
    """At the first attempt, at two and three in a row; where two batches are an update, in both. With --amp fairseq
    tries again, and gives up each third time.
    """
    attempts.overflow = (1, 4, 5, 8, 9, 10)
    state = train(*SETTINGS, *mode)
    attempts.finish()
    pairs, sizes = 0, (3, 8, 11, 16) if "--update-freq" in mode else (3, 8)
    for number, (before, after) in enumerate(zip(attempts.states, attempts.states[1:], strict=False), start=1):
        if number in attempts.overflow:
            for part in ("model", "optimizer", "counters"):
                assert same(before[part], after[part]), (number, part)
            assert after["scale"] == before["scale"] / 2
        else:
            for name in ("encoder.embed_tokens.weight", "momentum_encoder.encoder.embed_tokens.weight", "queue.keys"):
                assert not torch.equal(before["model"][name], after["model"][name]), (number, name)
            assert not same(before["optimizer"], after["optimizer"]) and after["scale"] == before["scale"]
            assert after["counters"]["num_updates"] == before["counters"]["num_updates"] + 1
            entered = int(after["model"]["queue.filled"]) - pairs
            assert entered in sizes  # pairs of its batches: nothing that a failed attempt has left
            pairs += entered
    updates, retried = 16 if "--update-freq" in mode else 15, 4 if "--amp" in mode else 0
    assert len(attempts.states) - 1 == updates + retried
    assert state["optimizer_history"][-1]["num_updates"] == updates + retried - len(attempts.overflow)


@pytest.mark.parametrize(
    "mode",
    [["--bf16"], ["--memory-efficient-bf16"], FP16, RECIPE, ["--memory-efficient-fp16"], AMP, [*AMP, *FUSED]],
    ids=["bf16", "memory-efficient-bf16", "fp16", "recipe", "memory-efficient-fp16", "amp", "amp fused"],
)
def test_every_precision_trains_as_fp32(train, attempts, scaling_on_cpu, mode):
    """Each update's loss within 2 %; the first gradient of every parameter, of TLM alone as the queue is empty, within
    2 % of its norm in bf16 and 0.5 % else; after the second update, which has both losses, Adam's mean of the gradients
    within 30 % and 8 %. The momentum encoder in fp32, as the momentum average of the weights in fp64.
    """
    train(*SETTINGS, *CLIPPED * (mode == RECIPE), save_dir="fp32")
    expected, states, attempts.losses, attempts.states = attempts.losses, attempts.states, [], []
    train(*SETTINGS, *mode)
    attempts.finish()
    assert attempts.losses == pytest.approx(expected, rel=0.02)
    sizes = [moment.numel() for moment in first_moments(states[1])]
    for update, tolerance in zip((1, 2), (0.02, 0.3) if "bf16" in mode[0] else (0.005, 0.08), strict=True):
        moments = [torch.cat(first_moments(run[update])).split(sizes) for run in (states, attempts.states)]
        for number, (fp32, found) in enumerate(zip(*moments, strict=True)):
            assert (found - fp32).norm() <= tolerance * fp32.norm(), (update, number)
    assert all(moment.any() for moment in moments[0])  # by now all parameters have had gradients
    for before, after in zip(attempts.states, attempts.states[1:], strict=False):
        for name, weight in after["model"].items():
            if not name.startswith("momentum_encoder."):
                continue
            query, old = after["model"][name.removeprefix("momentum_encoder.")], before["model"][name]
            assert weight.dtype == torch.float32
            torch.testing.assert_close(weight.double(), 0.9 * old.double() + 0.1 * query.double(), rtol=1e-6, atol=1e-8)
    assert after["model"]["queue.keys"].dtype == torch.float32


def test_a_training_with_adam_resumes_with_fused_adamw(train):
    """In half precision fairseq compares only its own wrapper of the optimizer."""
    train(*SETTINGS, "--bf16", "--max-update", "3")
    state = train(*SETTINGS, "--bf16", "--max-update", "6", *FUSED)
    assert state["optimizer_history"][-1]["num_updates"] == 6


def test_amp_resumes_with_its_scaler_and_with_fused_adamw(train, scaling_on_cpu):
    """fairseq saves the scaler of --fp16 alone, and loads the state into torch's optimizer, past ours."""
    train(*SETTINGS, *AMP, "--max-update", "3")
    state = train(*SETTINGS, *AMP, "--max-update", "6", *FUSED)
    assert state["optimizer_history"][-1]["num_updates"] == 6
    scaler = state["last_optimizer_state"]["grad_scaler"]
    assert (scaler["scale"], scaler["_growth_tracker"]) == (1024, 6)  # updates without an overflow


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (["--bf16"], [], "with --bf16, not in fp32"),
        ([], AMP, "in fp32, not with --amp"),
        (FP16, RECIPE, "with --fp16 --fp16-no-flatten-grads, not with --fp16"),
    ],
    ids=["bf16 to fp32", "fp32 to amp", "flattened"],
)
def test_a_resume_in_another_precision_is_refused(train, tmp_path, scaling_on_cpu, before, after, named):
    train(*SETTINGS, *before, "--max-update", "1")
    for more in ([], ["--restore-file", str(tmp_path / "checkpoints" / "checkpoint_last.pt")]):
        with pytest.raises(InputError, match=f"was trained {named}, and the state of its optimizer fits no other"):
            train(*SETTINGS, *after, "--max-update", "2", *more)
    train(*SETTINGS, *after, "--max-update", "2", "--reset-optimizer")


@pytest.mark.parametrize("mode", [[], AMP], ids=["fp32", "amp"])
def test_validation_runs_in_the_precision_of_the_training(train, monkeypatch, scaling_on_cpu, mode):
    """The losses and the vectors for retrieval."""
    casts, sentences = [], PPAModel.sentences

    def record(model, *args):
        casts.append(torch.is_autocast_enabled("cpu"))
        return sentences(model, *args)

    train("--max-update", "1", *mode)  # its validation is the last
    monkeypatch.setattr(PPAModel, "sentences", record)  # of the keys, and of the vectors for retrieval
    train("--max-update", "2", "--validate-interval-updates", "2", *mode)
    assert len(casts) > 6 and set(casts) == {bool(mode)}


@pytest.mark.parametrize("task", [NLI, QA], ids=["xnli", "mlqa"])
def test_fine_tuning_trains_as_in_fp32(dictionary, imported, tmp_path, monkeypatch, scaling_on_cpu, task):
    """Each update's loss within 0.2 %."""
    criterion = SentencePredictionCriterion if task == NLI else SpanPredictionCriterion
    losses, forward = [], criterion.forward

    def lossy(self, *args, **kwargs):
        loss, size, logged = forward(self, *args, **kwargs)
        losses.append(float(loss) / size)
        return loss, size, logged

    monkeypatch.setattr(criterion, "forward", lossy)
    data = (make_nli_bin if task == NLI else make_qa_bin)(tmp_path, dictionary, {"train": 40})
    undropped = ["--dropout", "0", "--attention-dropout", "0", *["--head-dropout", "0"] * (task == NLI)]
    settings = [str(data), *TINY_FINETUNING, *task, *undropped, "--pretrained", str(imported())]
    run_training(settings, tmp_path / "fp32")
    expected = losses.copy()
    for number, mode in enumerate((["--bf16"], ["--memory-efficient-bf16"], FP16, ["--memory-efficient-fp16"])):
        losses.clear()
        run_training([*settings, *mode], tmp_path / str(number))
        assert losses == pytest.approx(expected, rel=0.002) and len(losses) >= 5
