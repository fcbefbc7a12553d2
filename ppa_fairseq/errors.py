"""What a user did wrong, or the machine ran out of, told in one line instead of a traceback."""

import errno
import os
import pickle
import re
import reprlib
import sys

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InputError(Exception):
    """Bad input. The message says where (file:line), what is wrong and what to do about it."""


def shown(value: object) -> str:
    """*value* as a message shows it: cut where it is long or deep, and nothing in it that a terminal would act on."""
    return _shown.repr(value)


_shown = reprlib.Repr()
_shown.maxlevel, _shown.maxdict, _shown.maxlist, _shown.maxstring, _shown.maxother = 3, 3, 3, 80, 80


def one_line(error: BaseException) -> str | None:
    """What to tell a user of *error* in place of a traceback; None where the traceback is what helps."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command goes on from the last checkpoint in --save-dir, if one was saved by then"
    if isinstance(error, AssertionError) and str(error).startswith("Optimizer does not match"):  # fairseq's trainer
        old = str(error).split(". ")[-1].partition(" vs ")[0]
        name = {"FairseqAdam": "adam", "FusedAdamW": "fused_adamw"}.get(old, old)
        return f"the checkpoint in --save-dir has the state of --optimizer {name}: give that, or another --save-dir"
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return (
            f"{error}: nothing more can be written. Checkpoints that were complete still are (a *.tmp beside them is "
            "not one: delete it); free some space and start the same command again"
        )
    if type(error).__name__ == "ProcessRaisedException":  # of a rank that fairseq spawned: its traceback as text
        told = re.search(r"^ppa_fairseq\.errors\.InputError: (.*)", str(error), re.MULTILINE | re.DOTALL)
        return told[1].strip() if told else None
    if str(error).startswith("Cannot load model parameters from checkpoint"):  # fairseq's trainer, on resume
        mismatch = " ".join(str(error.__context__).split())[:300]
        return f"{error} ({mismatch}) Give the flags it was trained with, or another --save-dir for another model"
    if isinstance(error, pickle.UnpicklingError) or "PytorchStreamReader" in str(error):
        return (
            "the checkpoint named last in the log is truncated or no checkpoint: delete it, and go on from an older "
            f"one with --restore-file ({' '.join(str(error).split())[:200]})"
        )
    if isinstance(error, FloatingPointError) and "Nan/Inf" in str(error):  # fairseq's trainer, which wrote crash.pt
        return f"{error}: lower --lr, set --clip-norm, or train without --fp16; the log above names the module"
    return None


def install_excepthook() -> None:
    """Let `fairseq-train` end on such an error with its one line; every other error keeps its traceback."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # else hydra prints a stack of its own and the hook sees nothing
    shown_before = sys.excepthook

    def show(kind, error, trace):
        message = one_line(error)
        if message:
            print(f"ppa_fairseq: error: {message}", file=sys.stderr)
        else:
            shown_before(kind, error, trace)

    sys.excepthook = show
