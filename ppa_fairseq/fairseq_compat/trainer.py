"""What fairseq's trainer needs around a step beyond the method: micro-batches, dummy batches, --amp, memory.

Three decorators leave the method alone in a task's `train_step`, `valid_step` and `optimizer_step`.
"""

import functools
from contextlib import contextmanager, nullcontext, suppress

import torch
import torch.distributed as dist
from fairseq import utils
from fairseq.optim import FairseqOptimizer
from fairseq.optim.amp_optimizer import AMPOptimizer

from ppa_fairseq.fairseq_compat.rank_check import check_ranks
from ppa_fairseq.modules.cpu import return_freed

TRIM_INTERVAL = 5  # updates


def guarded_train_step(step):
    """Make the `train_step` that fairseq calls from *step* (task, sample, model, criterion, optimizer).

    *step* runs forward and backward on one micro-batch at a time. Ranks exchange gradients after the last one.
    A dummy batch, which fairseq gives to a rank without data, counts for nothing.
    """

    @functools.wraps(step)
    def train_step(task, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        device = next(model.parameters()).device.type
        loss_of = _as_fairseq_calls(criterion, device, isinstance(optimizer, AMPOptimizer), ignore_grad)
        parts, done = task.micro_batches(sample, device), []
        _seed_by_rank(task.cfg.seed + update_num)
        with _without_effect(model) if ignore_grad else nullcontext():
            for number, part in enumerate(parts, start=1):
                is_last = number == len(parts)
                with nullcontext() if is_last or not hasattr(model, "no_sync") else model.no_sync():
                    done.append(step(task, part, model, loss_of, optimizer))
                if device == "cpu" and (not is_last or update_num % TRIM_INTERVAL == 0):
                    return_freed()
        losses, sizes, logs = zip(*done, strict=True)
        weight = 0 if ignore_grad else 1
        return sum(losses), weight * sum(sizes), {name: weight * sum(log[name] for log in logs) for name in logs[0]}

    return train_step


def _as_fairseq_calls(criterion, device: str, amp: bool, is_dummy: bool):
    """*criterion* as `FairseqTask.train_step` calls it: under --amp in fp16, for a dummy batch with a loss of 0."""

    def loss_of(model, sample):
        with _autocast(device, amp):
            loss, sample_size, logged = criterion(model, sample)
        return loss * 0 if is_dummy else loss, sample_size, logged

    return loss_of


def _autocast(device: str, amp: bool):
    return torch.autocast(device, torch.float16) if amp else nullcontext()


def _seed_by_rank(seed: int) -> None:
    """Give each rank its own dropout where fairseq has just set *seed*, which is equal on all ranks, for an update.

    Rank 0 keeps it. The generators of later micro-batches of the update run on.
    """
    rank = dist.get_rank() if dist.is_initialized() else 0
    if rank and torch.initial_seed() == seed:
        # By the golden ratio, the seeds of 1,000 ranks stay a million updates apart. The CPU's generator takes 32 bits.
        utils.set_torch_seed((seed + rank * 0x9E3779B9) % 2**32)


def guarded_valid_step(step):
    """Make the `valid_step` that fairseq calls from *step*, under --amp in the precision of the training."""

    @functools.wraps(step)
    def valid_step(task, sample, model, criterion):
        with _autocast(next(model.parameters()).device.type, task.cfg.amp):
            return step(task, sample, model, criterion)

    return valid_step


def read_at_once(logs: list[dict]) -> None:
    """Replace the scalar tensors in *logs*, in place, by numbers that are read from their device in one go.

    fairseq reads each by itself, and waits for the GPU each time.
    """
    places = [(log, name) for log in logs for name, value in log.items() if torch.is_tensor(value)]
    values = torch.stack([log[name].double() for log, name in places]).tolist() if places else []
    for (log, name), value in zip(places, values, strict=True):
        log[name] = value


@contextmanager
def _without_effect(model):
    """Run a dummy batch in eval mode: it takes no random numbers and stages no keys.

    Which batch fairseq takes as the dummy changes on resume, so it must not change what follows.
    """
    model.eval()
    try:
        yield
    finally:
        model.train()


def guarded_optimizer_step(step):
    """Make the `optimizer_step` that fairseq calls from *step*. It ends where `optimizer.step()` skips the update.

    With --check-ranks, compare the ranks after it.
    """

    @functools.wraps(step)
    def optimizer_step(task, optimizer, model, update_num):
        with suppress(_Skipped):
            step(task, _Steps(optimizer), model, update_num)
        if getattr(task.cfg, "check_ranks", False):
            check_ranks(model, update_num + 1)

    return optimizer_step


class _Skipped(Exception):
    """The gradients overflowed, and --amp's scaler skipped the update."""


class _Steps:
    def __init__(self, optimizer: FairseqOptimizer):
        self.optimizer = optimizer

    def step(self) -> None:
        """Step the optimizer. Raises _Skipped.

        fairseq's own step under --amp divides the gradients by the loss scale twice: it lets the scaler unscale torch's
        optimizer, but steps the wrapper, which the scaler takes for another optimizer. Once the scale has grown, Adam's
        epsilon outweighs such gradients, and training stands still.
        """
        if not isinstance(self.optimizer, AMPOptimizer):
            self.optimizer.step()
            return
        scaler = self.optimizer.scaler
        scale = scaler.get_scale()
        scaler.step(self.optimizer.optimizer)
        scaler.update()
        if scaler.get_scale() < scale:
            raise _Skipped
