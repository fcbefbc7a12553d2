"""Let all ranks resume from rank 0's checkpoint, even if a machine does not share its --save-dir.

In fairseq, a rank that finds no checkpoint_last.pt starts a new training beside the others.
"""

import hashlib
import logging
import socket
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist

from ppa_fairseq.fairseq_compat.interrupted_save import is_complete, read_progress
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import atomic_path

logger = logging.getLogger(__name__)
CHUNK = 1 << 26  # bytes


class Found(NamedTuple):
    """The checkpoint_last.pt that one rank sees."""

    host: str
    digest: str | None  # None: there is none
    updates: int


def on_first_rank(action: Callable[[], None]) -> None:
    """Run *action* on rank 0 while the others wait. If it raises InputError or OSError, raise that on all ranks."""
    if not dist.is_initialized():
        action()
        return
    failed: list[Exception | None] = [None]
    if dist.get_rank() == 0:
        try:
            action()
        except (InputError, OSError) as error:
            failed = [error]
    dist.broadcast_object_list(failed, src=0)
    if failed[0] is not None:
        raise failed[0]


def share(last: Path) -> None:
    """Send rank 0's checkpoint *last* to every machine with a folder of its own. Every rank calls it.

    Raises InputError if another machine has a newer one.
    """
    if not dist.is_initialized():
        return
    found: list[Found] = [None] * dist.get_world_size()  # type: ignore[list-item]
    dist.all_gather_object(found, look(last))
    first, here = found[0], found[dist.get_rank()]
    if ahead := next((other for other in found if other.updates > first.updates), None):
        raise InputError(
            f"{last} on {ahead.host} is at {ahead.updates} updates, but on {first.host}, where rank 0 saves, "
            f"{f'at {first.updates}' if first.digest else 'there is none'}; copy the newer one there, or delete it"
        )
    lacking = {other.host: rank for rank, other in reversed([*enumerate(found)]) if other.digest != first.digest}
    if not lacking:
        return
    send(last, receives=dist.get_rank() in lacking.values())  # one rank per machine
    dist.barrier()
    if look(last).digest != first.digest:
        raise InputError(f"{last.parent} on {here.host}: the ranks of one machine must share the folder")


def look(last: Path) -> Found:
    """What this rank sees. Files with the same digest have the same tensors."""
    host = socket.gethostname()
    if not is_complete(last):
        return Found(host, None, -1)
    with zipfile.ZipFile(last) as archive:  # holds a checksum of each tensor
        table = [(entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist()]
    return Found(host, hashlib.sha256(repr(table).encode()).hexdigest(), read_progress(last).updates)


def send(last: Path, receives: bool) -> None:
    """Broadcast rank 0's *last* in chunks. Ranks that *receive* it write it to the same path."""
    first = dist.get_rank() == 0
    if receives:
        logger.warning(f"{last}: differs from rank 0's checkpoint, which is copied here")
    with (
        last.open("rb") if first else nullcontext() as source,
        atomic_path(last, follow_symlinks=False) if receives else nullcontext() as temporary,
        temporary.open("wb") if receives else nullcontext() as target,
    ):
        while True:
            chunk = [source.read(CHUNK) if first else b""]
            dist.broadcast_object_list(chunk, src=0)
            if not chunk[0]:
                return
            if receives:
                target.write(chunk[0])
