"""All ranks go on from one checkpoint: that of rank 0, also where a machine does not share its --save-dir.

fairseq alone would let a rank that finds no checkpoint_last.pt start anew beside the others, without a word.
"""

import hashlib
import logging
import socket
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

from ppa_fairseq.fairseq_compat.interrupted_save import LAST, finish_last_save, is_complete, read_progress
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import atomic_path

logger = logging.getLogger(__name__)
CHUNK = 1 << 26  # bytes


class Found(NamedTuple):
    """The checkpoint_last.pt that one rank sees."""

    host: str
    digest: str | None  # None: there is none
    updates: int


def settle(folder: Path) -> None:
    """`finish_last_save` by rank 0, while the others wait; then all have its checkpoint_last.pt in their *folder*.

    Every rank calls it. A machine with a folder of its own is sent the file, and keeps it there.

    Raises:
        InputError: as `finish_last_save`, on all ranks; or another machine was further than rank 0's.
        OSError: as `finish_last_save`, on all ranks.
    """
    if not dist.is_initialized():
        finish_last_save(folder)
        return
    failed: list[Exception | None] = [None]
    if dist.get_rank() == 0:
        try:
            finish_last_save(folder)
        except (InputError, OSError) as error:
            failed = [error]
    dist.broadcast_object_list(failed, src=0)
    if failed[0] is not None:
        raise failed[0]
    found: list[Found] = [None] * dist.get_world_size()  # type: ignore[list-item]
    dist.all_gather_object(found, look(folder / LAST))
    first, here = found[0], found[dist.get_rank()]
    if ahead := next((other for other in found if other.updates > first.updates), None):
        raise InputError(
            f"{folder / LAST} on {ahead.host} is at {ahead.updates} updates, but rank 0, which saves, is on "
            f"{first.host} and has {f'one at {first.updates}' if first.digest else 'none'}: copy the newer one there, "
            "or delete it"
        )
    lacking = {other.host: rank for rank, other in reversed([*enumerate(found)]) if other.digest != first.digest}
    if not lacking:
        return
    send(folder / LAST, writes=dist.get_rank() in lacking.values())  # one rank of a machine
    dist.barrier()
    if look(folder / LAST).digest != first.digest:
        raise InputError(f"{folder} on {here.host}: ranks of one machine must share it")


def look(last: Path) -> Found:
    """What this rank sees; two files with one digest have the same tensors."""
    host = socket.gethostname()
    if not is_complete(last):
        return Found(host, None, -1)
    with zipfile.ZipFile(last) as archive:  # has a checksum of each tensor
        table = [(entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist()]
    return Found(host, hashlib.sha256(repr(table).encode()).hexdigest(), read_progress(last).updates)


def send(last: Path, writes: bool) -> None:
    """Rank 0's *last* to all ranks, chunk by chunk; those with *writes* put it in its place."""
    first = dist.get_rank() == 0
    size = [last.stat().st_size if first else 0]
    dist.broadcast_object_list(size, src=0)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    if writes:
        logger.warning(f"{last}: not that of rank 0, whose checkpoint is copied here")
    with (
        last.open("rb") if first else nullcontext() as source,
        atomic_path(last, follow_symlinks=False) if writes else nullcontext() as beside,
        beside.open("wb") if writes else nullcontext() as target,
    ):
        for start in range(0, size[0], CHUNK):
            chunk = torch.empty(min(CHUNK, size[0] - start), dtype=torch.uint8)
            if first:
                source.readinto(chunk.numpy())
            chunk = chunk.to(device)
            dist.broadcast(chunk, src=0)
            if writes:
                target.write(chunk.cpu().numpy())
