"""Retrieval over a whole validation split, collected batch by batch."""

import logging

import numpy as np
import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics

from ppa_fairseq.data.bitext.dataset import sentence_hash
from ppa_fairseq.evaluation.retrieval.accuracy import retrieval_accuracy
from ppa_fairseq.modules.key_queue import gather_rows

logger = logging.getLogger(__name__)


class ValidationRetrieval:
    """The sentence vectors of a validation split, and how well each side finds the other.

    Args:
        names: the task's language pairs; a batch refers to them by number.
    """

    def __init__(self, names: list[str]):
        self.names = names
        self._repeated = 0
        self.reset()

    def reset(self) -> None:
        self._batches: list[list[torch.Tensor]] = []
        self._accuracy: dict[str, float] | None = None
        self._seen: set[int] = set()
        self._indices: set[int] = set()

    def add(self, sample: dict, queries: dict, query: torch.Tensor, key: torch.Tensor) -> None:
        """Add a batch of all ranks: the packed *queries*, and the vectors of both sides (N, C)."""
        device = query.device
        texts = [text_hashes(packed).to(device) for packed in (queries, sample["net_input"]["key_input"])]  # (N,) each
        rows = [sample["id"], sample["pair"]]
        for first, second in ((query.float(), key.float()), texts):
            swapped = sample["swapped"].view(-1, *[1] * (first.dim() - 1))
            rows += [torch.where(swapped, second, first), torch.where(swapped, first, second)]  # source, target
        gathered = gather_rows(*rows, group=distributed_utils.get_data_parallel_group())
        self._batches.append([part.cpu() for part in gathered])
        self._indices.update(self._batches[-1][0].tolist())
        self._seen.update(self._batches[-1][1].tolist())
        self._accuracy = None

    def __len__(self) -> int:
        """The number of sentence pairs so far."""
        return len(self._indices)

    def log(self, pairs: int) -> None:
        """Log the accuracies; *pairs* is the number of pairs in the batches that are logged.

        fairseq also asks for derived values after every batch. They are computed only once all pairs are logged.
        """
        metrics.log_scalar("_pairs", 1, weight=pairs)

        def accuracy(name):
            def value(meters):
                return round(self.accuracy()[name], 2) if meters["_pairs"].count == len(self) else 0.0

            return value

        for name in self.metrics(self._seen):
            priority = 20 if name == "retrieval" else 21
            metrics.log_derived(name, accuracy(name), priority=priority)

    def metrics(self, pairs: set[int]) -> list[str]:
        """The names of the accuracies of a split of *pairs*, given by number: retrieval, retrieval_de-en, …"""
        names = [self.names[number].split("-") for number in sorted(pairs)]
        return ["retrieval", *(f"retrieval_{'-'.join(name)}" for pair in names for name in (pair, pair[::-1]))]

    def accuracy(self) -> dict[str, float]:
        """Percent found at rank 1 by name: "retrieval", the mean, and each direction seen so far.

        A sentence with the same token ids as the right one is right, too; log how many there are.
        """
        if self._accuracy is None:
            index, *rest = (torch.cat(parts) for parts in zip(*self._batches, strict=True))
            # A rank that ran out of data repeats a batch, so a pair may be here twice.
            rows = torch.from_numpy(np.unique(index.numpy(), return_index=True)[1])
            pair, *sides = (part[rows] for part in rest)
            percent, repeated = [], 0
            for number in sorted(self._seen):
                source, target, *texts = (side[pair == number] for side in sides)
                percent += retrieval_accuracy(source, target, texts=texts)
                repeated += sum(len(side) - len(side.unique()) for side in texts)
            if repeated not in (0, self._repeated):  # once, not in every validation
                logger.info(f"retrieval: {repeated} sentences repeat an earlier one; any copy of the right one counts")
            self._repeated = repeated
            every = [sum(percent) / len(percent), *percent]
            self._accuracy = dict(zip(self.metrics(self._seen), every, strict=True))
        return self._accuracy


def text_hashes(packed: dict) -> torch.Tensor:
    """A hash of each packed sequence's token ids, equal on all ranks, (N,)."""
    return torch.tensor([sentence_hash(ids) for ids in packed["tokens"].cpu().split(packed["lengths"])])
