"""A batch iterator that looks one update ahead, so that the losses' means can be over the whole update."""

from itertools import islice

import torch
from fairseq.data import iterators
from fairseq.distributed import utils as distributed_utils


class UpdateBatchIterator(iterators.EpochBatchIterator):
    """fairseq's iterator whose samples know their update: all its micro-batches, on all ranks.

    Args:
        update_freq: micro-batches an update, by epoch (the last entry holds on), as ``--update-freq``.
    """

    def __init__(self, *args, update_freq: list[int], **kwargs):
        super().__init__(*args, **kwargs)
        self.update_freq = update_freq

    def next_epoch_itr(self, **kwargs):
        itr = super().next_epoch_itr(**kwargs)
        return UpdateTotals(itr, self.update_freq[min(self.epoch, len(self.update_freq)) - 1])


class UpdateTotals:
    """Gives every sample of an update ``pairs_per_masked``: the update's pairs divided by its masked tokens."""

    def __init__(self, itr: iterators.CountingIterator, update_freq: int):
        self.itr = itr
        self.update_freq = update_freq

    def __len__(self) -> int:
        return len(self.itr)

    def __getattr__(self, name):  # n, has_next, take: the state of the iterator underneath
        return getattr(self.itr, name)

    def __iter__(self):
        batches = iter(self.itr)
        while update := list(islice(batches, self.update_freq)):
            ratio = self._pairs_per_masked([sample for sample in update if sample])
            # A rank that ran out of data gets empty samples. They go first: fairseq takes the update of a rank whose
            # last sample is empty for nothing at all, and would leave its other pairs out of the denominator.
            for sample in sorted(update, key=bool):
                if sample:
                    sample["pairs_per_masked"] = ratio
                yield sample

    def _pairs_per_masked(self, samples: list[dict]) -> torch.Tensor:
        totals = torch.tensor(
            [sum(s["nsentences"] for s in samples), sum(len(s["target"]) for s in samples)], dtype=torch.float64
        )
        group = distributed_utils.get_data_parallel_group()
        if distributed_utils.get_world_size(group) > 1:
            if torch.distributed.get_backend(group) == "nccl":
                totals = totals.cuda()
            distributed_utils.all_reduce(totals, group)
        return totals[0] / totals[1].clamp(min=1)  # float64: under --fp16 fairseq halves what is float32 in a sample
