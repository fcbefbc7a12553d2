"""Lock --save-dir: two trainings that write into one folder would destroy each other's checkpoints."""

import errno
import fcntl
import logging
import os
import socket
import time
from pathlib import Path
from typing import IO

from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
LOCK = ".ppa-lock"
PATIENCE = 10  # seconds; a training that was just interrupted may take some to end
_held: dict[Path, IO] = {}  # by this process, until it ends


def lock(folder: Path) -> bool:
    """Lock *folder* for the life of this process; False where the file system has no locks.

    Raises InputError if another training holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / LOCK
    if path in _held:
        return True
    file = path.open("a+")
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: data workers would keep that one
            break
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                logger.warning(f"{path}: this file system has no locks; let no other training write here ({error})")
                return False
            if time.monotonic() > give_up:
                owner = path.read_text().strip()
                message = f"{folder}: another training ({owner}) writes here; stop it, or set another --save-dir"
                raise InputError(message) from error
        time.sleep(0.1)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    _held[path] = file
    return True
