"""What the decorators add to a task's steps."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from fairseq import utils

from ppa_fairseq.fairseq_compat.trainer import guarded_train_step, read_at_once


@pytest.fixture
def draw(monkeypatch):
    """``draw(rank, update)``: the random numbers of an update of two batches of two micro-batches on a rank, (4, 5)."""

    class Task:
        cfg = SimpleNamespace(seed=7)

        def micro_batches(self, sample, device):
            return [sample, sample]

        @guarded_train_step
        def train_step(self, sample, model, criterion, optimizer):
            sample.append(torch.rand(5))
            return torch.zeros(()), 1, {}

    def run(rank: int, update: int) -> torch.Tensor:
        monkeypatch.setattr(dist, "is_initialized", lambda: rank > 0)
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        drawn, model = [], torch.nn.Linear(1, 1)
        utils.set_torch_seed(7 + update)  # fairseq's trainer, once an update
        for _ in range(2):
            Task().train_step(drawn, model, None, None, update)
        return torch.stack(drawn)

    return run


def test_each_rank_draws_its_own_dropout(draw):
    drawn = torch.cat([draw(rank, update) for rank in range(3) for update in range(3)])  # (36, 5)
    assert len(drawn.unique(dim=0)) == 36
    assert torch.equal(draw(2, 5), draw(2, 5))  # so a resumed training draws it again


def test_rank_0_draws_what_fairseq_would(draw):
    drawn = draw(0, 3)
    utils.set_torch_seed(7 + 3)
    assert torch.equal(drawn, torch.stack([torch.rand(5) for _ in range(4)]))


def test_logged_values_are_read_exactly():
    """Whole numbers beyond those of fp32, and what is no tensor."""
    logs = [{"loss": torch.tensor(0.1), "ntokens": 2**25 + 1, "filled": torch.tensor(2**25 + 1)}, {}]
    read_at_once(logs)
    assert logs == [{"loss": float(torch.tensor(0.1)), "ntokens": 2**25 + 1, "filled": 2**25 + 1}, {}]
    read_at_once([])
