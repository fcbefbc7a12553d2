"""A batch iterator that looks one update ahead, so that a loss can be a mean over the whole update."""

from collections.abc import Callable
from itertools import islice

import torch
from fairseq.data import iterators
from fairseq.distributed import utils as distributed_utils


class UpdateBatchIterator(iterators.EpochBatchIterator):
    """fairseq's iterator, which yields the batches of an update once all of them are loaded.

    *update_freq* is fairseq's list by epoch. *add_totals*, None in validation, is called on the batches of each update
    (this rank's, none empty) and may write into them.
    """

    def __init__(self, *args, update_freq: list[int], add_totals: Callable[[list[dict]], None] | None, **kwargs):
        super().__init__(*args, **kwargs)
        self.update_freq = update_freq
        self.add_totals = add_totals

    def next_epoch_itr(self, **kwargs):
        itr = super().next_epoch_itr(**kwargs)
        return Updates(itr, self.update_freq[min(self.epoch, len(self.update_freq)) - 1], self.add_totals)


class Updates:
    """The batches of *itr*, update by update."""

    def __init__(self, itr: iterators.CountingIterator, update_freq: int, add_totals: Callable | None):
        self.itr = itr
        self.update_freq = update_freq
        self.add_totals = add_totals

    def __len__(self) -> int:
        return len(self.itr)

    def __getattr__(self, name):  # n, has_next, take: the state of the iterator underneath
        return getattr(self.itr, name)

    def __iter__(self):
        batches = iter(self.itr)
        while update := list(islice(batches, self.update_freq)):
            if self.add_totals:
                self.add_totals([batch for batch in update if batch])
            # A rank that ran out of data gets empty batches. They come first: if a rank's last batch is empty, fairseq
            # leaves all its items out of the denominator.
            yield from sorted(update, key=bool)


def add_update_totals(batches: list[dict]) -> None:
    """Give the batches of an update ``pairs_per_masked``: its pairs on all ranks divided by their masked tokens."""
    counts = sum(b["nsentences"] for b in batches), sum(len(b["target"]) for b in batches)
    totals = torch.tensor(counts, dtype=torch.float64)
    group = distributed_utils.get_data_parallel_group()
    if distributed_utils.get_world_size(group) > 1:
        totals = totals.to("cuda" if torch.distributed.get_backend(group) == "nccl" else "cpu")
        distributed_utils.all_reduce(totals, group)
    # float64, because under --fp16 fairseq casts a batch's float32 tensors to half precision
    ratio = totals[0] / totals[1].clamp(min=1)
    for batch in batches:
        batch["pairs_per_masked"] = ratio
