"""What `--check-ranks` compares after every update: whether all ranks still hold the same model, bit for bit."""

import functools
import itertools

import torch
import torch.distributed as dist
from fairseq.distributed import utils as distributed_utils

from ppa_fairseq.utils.errors import InputError

CHUNK = 2**18  # elements hashed at a time
STEP = 6364136223846793005  # from one chunk to the next; odd, so that nothing is lost


def check_ranks(model, update: int) -> None:
    """Compare the weights, the momentum encoder and the queue of *model* with the other ranks'. Every rank must call it.

    Raises InputError, on all ranks alike, that names what differs and which ranks.
    """
    group = distributed_utils.get_data_parallel_group()
    world_size = distributed_utils.get_world_size(group)
    if world_size == 1:
        return
    parts = digests(model)
    mine = torch.stack(list(parts.values()))  # (P,)
    everyone = [torch.empty_like(mine) for _ in range(world_size)]
    dist.all_gather(everyone, mine, group=group)
    by_part = torch.stack(everyone, dim=1).tolist()  # (P, ranks)
    differing = [f"{part} ({_camps(held)})" for part, held in zip(parts, by_part, strict=True) if len(set(held)) > 1]
    if differing:
        raise InputError(
            f"--check-ranks: after update {update} the ranks do not hold the same {', '.join(differing)}. Go on from "
            "the last checkpoint, which is rank 0's; if it happens again, a rank runs other software or hardware, or "
            "its memory fails"
        )


def digests(model) -> dict[str, torch.Tensor]:
    """A 64-bit hash of each part of *model*, a scalar on its device: the queue by its buffers, the rest by module."""
    parts: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        part = name if name.startswith("queue.") else name.partition(".")[0]
        parts[part] = parts.get(part, 0) * STEP + digest(tensor)
    return parts


def digest(tensor: torch.Tensor) -> torch.Tensor:
    """A 64-bit hash of the bits of *tensor*. It differs always where one element does, and all but always else."""
    size = tensor.element_size()
    bits = tensor.detach().reshape(-1).view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size])
    total = bits.new_zeros((), dtype=torch.int64)
    for chunk in bits.split(CHUNK):  # in 64 bits all at once, the word embeddings would take twice their room
        total = total * STEP + (chunk * _odd_numbers(tensor.device)[: len(chunk)]).sum()
    return total


@functools.cache
def _odd_numbers(device: torch.device) -> torch.Tensor:
    """(CHUNK,) the same random odd 64-bit numbers on every rank, one for each place."""
    drawn = torch.randint(-(2**62), 2**62, (CHUNK,), generator=torch.Generator().manual_seed(0))
    return (2 * drawn + 1).to(device)


def _camps(held: list[int]) -> str:
    """Which ranks hold the same: "ranks 0, 2 against rank 1"."""
    ranks = sorted(range(len(held)), key=lambda rank: held.index(held[rank]))
    camps = [list(camp) for _, camp in itertools.groupby(ranks, key=lambda rank: held[rank])]
    return " against ".join(f"rank{'s' * (len(camp) > 1)} {', '.join(map(str, camp))}" for camp in camps)
