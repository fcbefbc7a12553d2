"""What a user did wrong, or the machine ran out of, told in one line instead of a traceback."""

import errno
import sys

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InputError(Exception):
    """Bad input. The message says where (file:line), what is wrong and what to do about it."""


def one_line(error: BaseException) -> str | None:
    """What to tell a user of *error* in place of a traceback; None where the traceback is what helps."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return (
            f"{error}: nothing more can be written. Checkpoints that were complete still are (a *.tmp beside them is "
            "not one: delete it); free some space and start the same command again"
        )
    if isinstance(error, FloatingPointError):  # fairseq's trainer, which has written crash.pt and the part's name
        return f"{error}: lower --lr, set --clip-norm, or train without --fp16; the log above names the module"
    return None


def install_excepthook() -> None:
    """Let `fairseq-train` end on such an error with its one line; every other error keeps its traceback."""
    shown_before = sys.excepthook

    def show(kind, error, trace):
        message = one_line(error)
        if message:
            print(f"ppa_fairseq: error: {message}", file=sys.stderr)
        else:
            shown_before(kind, error, trace)

    sys.excepthook = show
