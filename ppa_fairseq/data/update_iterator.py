"""A batch iterator that looks one update ahead, so that a loss can be a mean over the whole update."""

from collections.abc import Callable
from itertools import islice

import torch
from fairseq.data import iterators
from fairseq.distributed import utils as distributed_utils


class UpdateBatchIterator(iterators.EpochBatchIterator):
    """fairseq's iterator, its samples grouped by update: all micro-batches of one come out after one look ahead.

    Args:
        update_freq: micro-batches an update, by epoch (the last entry holds on), as ``--update-freq``.
        stamp: called on every update's list of samples (those of this rank, not empty), may write into them. None
            where there are no updates, as in validation.
    """

    def __init__(self, *args, update_freq: list[int], stamp: Callable[[list[dict]], None] | None, **kwargs):
        super().__init__(*args, **kwargs)
        self.update_freq = update_freq
        self.stamp = stamp

    def next_epoch_itr(self, **kwargs):
        itr = super().next_epoch_itr(**kwargs)
        return Updates(itr, self.update_freq[min(self.epoch, len(self.update_freq)) - 1], self.stamp)


class Updates:
    """The samples of *itr*, update by update."""

    def __init__(self, itr: iterators.CountingIterator, update_freq: int, stamp: Callable[[list[dict]], None] | None):
        self.itr = itr
        self.update_freq = update_freq
        self.stamp = stamp

    def __len__(self) -> int:
        return len(self.itr)

    def __getattr__(self, name):  # n, has_next, take: the state of the iterator underneath
        return getattr(self.itr, name)

    def __iter__(self):
        batches = iter(self.itr)
        while update := list(islice(batches, self.update_freq)):
            if self.stamp:
                self.stamp([sample for sample in update if sample])
            # A rank that ran out of data gets empty samples. They go first: fairseq takes the update of a rank whose
            # last sample is empty for nothing at all, and would leave its other items out of the denominator.
            yield from sorted(update, key=bool)


def stamp_pairs_per_masked(samples: list[dict]) -> None:
    """Give the samples of an update ``pairs_per_masked``: its pairs on all ranks divided by their masked tokens."""
    totals = torch.tensor(
        [sum(s["nsentences"] for s in samples), sum(len(s["target"]) for s in samples)], dtype=torch.float64
    )
    group = distributed_utils.get_data_parallel_group()
    if distributed_utils.get_world_size(group) > 1:
        if torch.distributed.get_backend(group) == "nccl":
            totals = totals.cuda()
        distributed_utils.all_reduce(totals, group)
    # float64: under --fp16 fairseq halves what is float32 in a sample
    ratio = totals[0] / totals[1].clamp(min=1)
    for sample in samples:
        sample["pairs_per_masked"] = ratio
