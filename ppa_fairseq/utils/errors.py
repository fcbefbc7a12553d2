"""What a user did wrong, or the machine ran out of, told in one line instead of a traceback."""

import errno
import faulthandler
import os
import pickle
import re
import reprlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ppa_fairseq.fairseq_compat import known_errors

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


ADVICE = {
    errno.ENOTDIR: "a file stands where this path has a folder: give another path",
    errno.EISDIR: "give a file",
    errno.ENOENT: "give a path that is there",
    errno.EACCES: "you may not: give another path, or mend its permissions",
    errno.EPERM: "you may not: give another path, or mend its permissions",
    errno.EROFS: "nothing can be written there: give another path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or take fewer workers",
}


HANGS = (
    "this rank or another hangs: no progress for --heartbeat-timeout seconds (torch's own limit is 1800); all stop. "
    "The same command goes on from the last checkpoint"
)


class InputError(Exception):
    """Bad input. The message says where (file:line), what is wrong and what to do about it."""


@contextmanager
def about_model(name: str) -> Iterator[None]:
    """Let an InputError of this block say which of several models it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"model {name}: {error}") from error


def shown(value: object) -> str:
    """*value* as a message shows it: cut where it is long or deep, and nothing in it that a terminal would act on."""
    return _shown.repr(value)


_shown = reprlib.Repr()
_shown.maxlevel, _shown.maxdict, _shown.maxlist, _shown.maxstring, _shown.maxother = 3, 3, 3, 80, 80


def out_of_space(error: BaseException | None) -> OSError | None:
    """The full disk that is behind *error*, if one is: torch and safetensors tell of it in errors of their own."""
    while error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return error
        if (code := re.search(r"\(os error (\d+)\)", str(error))) and int(code[1]) in DISK_FULL:
            return OSError(int(code[1]), os.strerror(int(code[1])))
        error = error.__cause__ or error.__context__
    return None


def of_system(error: OSError) -> str:
    """What the system refused, where, and what to do about it."""
    where = f"{error.filename}: " if error.filename else ""
    advice = f"; {ADVICE[error.errno]}" if error.errno in ADVICE else ""
    return f"{where}{error.strerror or error}{advice}"


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
    if str(error) == "Unsupported optimizer: FusedAdamW":  # fairseq's memory-efficient wrappers
        return "--memory-efficient-fp16 and --memory-efficient-bf16 take --optimizer adam, not fused_adamw"
    if full := out_of_space(error):
        return (
            f"{full}: nothing more can be written. Checkpoints that were complete still are; free some space and start "
            "the same command again"
        )
    if isinstance(error, OSError) and error.filename:  # a folder that cannot be written to, a file that is gone
        return f"{error}: mend that and start the same command again; a training goes on from its last checkpoint"
    if type(error).__name__ == "ProcessRaisedException":  # of a rank that fairseq spawned: its traceback as text
        told = re.search(r"^ppa_fairseq\.errors\.InputError: (.*)", str(error), re.MULTILINE | re.DOTALL)
        return told[1].strip() if told else None
    if str(error).startswith("Cannot load model parameters from checkpoint"):  # fairseq's trainer, on resume
        mismatch = " ".join(str(error.__context__).split())[:300]
        return f"{error} ({mismatch}) Give the flags it was trained with, or another --save-dir for another model"
    if type(error).__name__ == "MissingMandatoryValue":  # omegaconf, of a task that fairseq-validate finds in --path
        return (
            f"{str(error).splitlines()[0]}: the checkpoint tells of no training, as that of an import; give one that "
            "fairseq-train wrote"
        )
    if str(error).startswith("Model file not found"):
        return f"{error}; give --path a checkpoint that is there"
    if isinstance(error, pickle.UnpicklingError) and (unsafe := re.search(r"GLOBAL ([\w.]+)", str(error))):
        return f"the checkpoint named last in the log holds a Python object ({unsafe[1]}), and no file's code is run"
    cut_off = isinstance(error, OSError) and error.errno == errno.EINVAL  # torch looks for the rest
    if cut_off or isinstance(error, pickle.UnpicklingError) or "PytorchStreamReader" in str(error):
        return (
            "the checkpoint named last in the log is truncated or no checkpoint: delete it, and go on from an older "
            f"one with --restore-file ({' '.join(str(error).split())[:200]})"
        )
    if line := known_errors.told(error):
        return line
    if isinstance(error, RuntimeError) and "gloo" in str(error):  # between ranks on CPU
        if "Timed out" in str(error):
            return HANGS
        return "lost the connection to another rank, which has ended: what it said is above or below"
    if isinstance(error, FloatingPointError) and re.search("Nan/Inf|Minimum loss scale", str(error)):
        # fairseq's trainer, which wrote crash.pt
        return f"{error}: lower --lr, set --clip-norm, or train without --fp16; the log above names the module"
    return None


def install_excepthook() -> None:
    """Let `fairseq-train` end on such an error with its one line; every other error keeps its traceback."""
    if sys.__stderr__ and not faulthandler.is_enabled():  # a mapped data file that was cut off is no Python error
        faulthandler.enable(sys.__stderr__, all_threads=False)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # else hydra prints a stack of its own and the hook sees nothing
    shown_before = sys.excepthook

    def show(kind, error, trace):
        message = one_line(error)
        if isinstance(error, KeyboardInterrupt):
            end_interrupted(message)
        elif message:
            print(f"ppa_fairseq: error: {message}", file=sys.stderr)
        else:
            shown_before(kind, error, trace)

    sys.excepthook = show


def end_interrupted(message: str) -> None:
    """Die of SIGINT now, as Python does later: after waiting for data workers, for seconds."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # else the launcher was interrupted, too, and tells it for all ranks
        # Not sys.stderr: torch.distributed holds back what an excepthook writes there.
        print(f"ppa_fairseq: error: {message}", file=sys.__stderr__, flush=True)
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
