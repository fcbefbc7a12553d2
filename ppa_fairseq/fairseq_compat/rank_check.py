"""`--check-ranks`: compare the model on all ranks, bit for bit, after every update."""

import functools
import itertools

import torch
import torch.distributed as dist
from fairseq.distributed import utils as distributed_utils

from ppa_fairseq.utils.errors import InputError

CHUNK = 2**18  # elements hashed at a time
STEP = 6364136223846793005  # factor between chunks; odd, so that no bit is lost


def check_ranks(model, update: int) -> None:
    """Compare weights, momentum encoder and queue of *model* with the other ranks'. Every rank must call it.

    Raises InputError, on all ranks alike, that names what differs and on which ranks.
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
            f"--check-ranks: after update {update} the ranks differ in {', '.join(differing)}. Resume from the last "
            "checkpoint, which is rank 0's. If it happens again, a rank has another software or hardware, or bad memory"
        )


def digests(model) -> dict[str, torch.Tensor]:
    """A 64-bit hash of each module of *model*, but of each buffer of the queue; scalars on its device."""
    parts: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        part = name if name.startswith("queue.") else name.partition(".")[0]
        parts[part] = parts.get(part, 0) * STEP + digest(tensor)
    return parts


def digest(tensor: torch.Tensor) -> torch.Tensor:
    """A 64-bit hash of the bits of *tensor*. It always differs if one element does, and nearly always otherwise."""
    size = tensor.element_size()
    bits = tensor.detach().reshape(-1).view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size])
    total = bits.new_zeros((), dtype=torch.int64)
    for chunk in bits.split(CHUNK):  # all at once in 64 bits, the word embeddings would take twice their memory
        total = total * STEP + (chunk * _odd_numbers(tensor.device)[: len(chunk)]).sum()
    return total


@functools.cache
def _odd_numbers(device: torch.device) -> torch.Tensor:
    """(CHUNK,) random odd 64-bit numbers, the same on every rank."""
    drawn = torch.randint(-(2**62), 2**62, (CHUNK,), generator=torch.Generator().manual_seed(0))
    return (2 * drawn + 1).to(device)


def _camps(held: list[int]) -> str:
    """Group ranks that hold the same: "ranks 0, 2 against rank 1"."""
    ranks = sorted(range(len(held)), key=lambda rank: held.index(held[rank]))
    camps = [list(camp) for _, camp in itertools.groupby(ranks, key=lambda rank: held[rank])]
    return " against ".join(f"rank{'s' * (len(camp) > 1)} {', '.join(map(str, camp))}" for camp in camps)
