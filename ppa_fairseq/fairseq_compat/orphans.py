"""Ranks do not outlive their launcher."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_launcher() -> None:
    """On Linux, let a rank of `ppa launch` or torchrun die when its launcher does, by kill -9 too.

    Else it would train on unseen, and write into --save-dir beside the training that was started in its place.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
