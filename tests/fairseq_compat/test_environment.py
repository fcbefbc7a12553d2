"""The process in which fairseq runs: importing the package leaves it alone, `prepare` fixes what fairseq needs."""

import os
import re
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest
import torch

from ppa_fairseq.fairseq_compat import environment


def run_program(program: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    clean = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}  # of an earlier test
    return subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120)


def test_import_changes_nothing_in_the_process():
    done = run_program("""
        import atexit, os, signal, sys, warnings
        import numpy, torch

        def state():
            return {
                "excepthook": sys.excepthook,
                "warnings": list(warnings.filters),
                "numpy": set(vars(numpy)),
                "atexit": atexit._ncallbacks(),
                "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
                "environment": dict(os.environ),
                "torch.load": torch.serialization.get_safe_globals(),
            }

        before = state()
        import ppa_fairseq
        after = state()
        print([name for name in before if before[name] != after[name]], "fairseq" in sys.modules)
        from ppa_fairseq.fairseq_compat.environment import prepare
        prepare()
        prepared = state()
        print([name for name in before if before[name] != prepared[name]])
        prepare()
        print([name for name in before if state()[name] != prepared[name]])
    """)
    changed = ["excepthook", "warnings", "atexit", "environment", "torch.load"]
    assert done.stdout == f"[] False\n{changed}\n[]\n", done.stderr


def provoke_noise():
    """Do what a training does: pass fairseq's command line to hydra, use its iterator's loader and its autocast."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    flags = "data-bin --task masked_lm --arch masked_lm --criterion masked_lm --optimizer adam".split()
    convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), flags))
    next(iter(torch.utils.data.DataLoader([1], pin_memory=True)))
    with torch.cuda.amp.autocast(enabled=False):
        pass


def collect_warnings(silenced: bool) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if silenced:
            environment.silence_known_noise()
        provoke_noise()
        warnings.warn("'config' is something else", UserWarning, stacklevel=1)
    return [str(warning.message) for warning in caught]


def test_known_noise_is_silent_and_nothing_else():
    found = collect_warnings(silenced=False)
    needed = [text for _, text in environment.NOISE if not (torch.cuda.is_available() and "pin_memory" in text)]
    unneeded = [pattern for pattern in needed if not any(re.match(pattern, text) for text in found)]
    assert not unneeded, "filters that match nothing"
    assert collect_warnings(silenced=True) == ["'config' is something else"]


def test_only_errors_of_the_user_lose_their_traceback():
    done = run_program("""
        import sys
        from ppa_fairseq.fairseq_compat.environment import prepare
        from ppa_fairseq.utils.errors import InputError
        from torch.distributed import DistBackendError
        prepare()
        for error in (InputError("data:1: empty line"), OSError(28, "No space left on device"),
                      FileNotFoundError(2, "No such file or directory", "/nowhere"),
                      DistBackendError("NCCL error in: x.cpp:1\\nLast error:\\n socket closed"), ValueError("a fault")):
            sys.excepthook(type(error), error, None)
        raise KeyboardInterrupt
    """)
    assert done.returncode == -2
    assert done.stderr.splitlines() == [
        "ppa_fairseq: error: data:1: empty line",
        "ppa_fairseq: error: No space left on device; free some space and repeat the command; all files are whole or "
        "absent",
        "ppa_fairseq: error: /nowhere: No such file or directory; give an existing path",
        "ppa_fairseq: error: the ranks lost each other (DistBackendError: NCCL error in: x.cpp:1; Last error:; socket "
        "closed); look for a rank that failed before this one, or set NCCL_DEBUG=INFO; the same command resumes from "
        "the last checkpoint",
        "ValueError: a fault",
        "ppa_fairseq: error: interrupted; the same command resumes from the last checkpoint in --save-dir, if there is "
        "one",
    ]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_no_thread_of_gloo_runs_when_python_ends(tmp_path):
    """With fairseq's own group beside the default one. The first function that atexit registers runs last."""
    done = run_program(f"""
        import atexit
        from pathlib import Path

        def gloo():
            names = [task.read_text() for task in Path("/proc/self/task").glob("*/comm")]
            return sum("gloo" in name for name in names)

        atexit.register(lambda: print("left:", gloo()))
        import torch
        import torch.distributed as dist
        from fairseq.distributed.utils import all_reduce, get_global_group
        from ppa_fairseq.fairseq_compat.environment import prepare

        prepare()
        dist.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=0, world_size=1)
        all_reduce(torch.ones(1), get_global_group())
        print("running:", gloo() > 2)
    """)
    assert done.stdout == "running: True\nleft: 0\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a feature of its kernel")
def test_a_rank_dies_with_its_launcher():
    rank = "from ppa_fairseq.fairseq_compat.environment import prepare; import time; prepare(); print(1, flush=True)"
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {rank + '; time.sleep(60)'!r}])"
    variables = os.environ | {"TORCHELASTIC_RUN_ID": "one"}
    process = subprocess.Popen([sys.executable, "-c", launcher], env=variables, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.kill()
    started = time.monotonic()
    assert process.stdout.read() == ""  # the pipe closes when the rank ends
    assert time.monotonic() - started < 50
