"""fairseq 0.12 on newer NumPy, torch and hydra: each repair against fairseq's own code that needs it."""

import argparse
import re
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from ppa_fairseq.fairseq_compat import environment as compat
from ppa_fairseq.utils.errors import InputError


def provoke_noise():
    """Call what a training calls: fairseq's command line to hydra, its iterator's loader, its autocast."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    parser = options.get_training_parser()
    flags = [
        "data-bin",
        "--task",
        "masked_lm",
        "--arch",
        "masked_lm",
        "--criterion",
        "masked_lm",
        "--optimizer",
        "adam",
    ]
    convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, flags))
    next(iter(torch.utils.data.DataLoader([1], pin_memory=True)))
    with torch.cuda.amp.autocast(enabled=False):
        pass


def messages(silenced):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if silenced:
            compat.silence_known_noise()
        provoke_noise()
        warnings.warn("'config' is something else", UserWarning, stacklevel=1)
    return [str(warning.message) for warning in caught]


def test_known_noise_is_silent_and_nothing_else_is():
    said = messages(silenced=False)
    needed = [
        pattern for _, pattern in compat.NOISE if not (torch.cuda.is_available() and "pin_memory" in pattern)
    ]
    unneeded = [pattern for pattern in needed if not any(re.match(pattern, text) for text in said)]
    assert not unneeded, "filters that match nothing any more"
    assert messages(silenced=True) == ["'config' is something else"]


def test_numpy_names_are_restored_for_fairseq(monkeypatch):
    from fairseq.data import ListDataset, TokenBlockDataset

    sizes = np.array([3, 2])
    rows = ListDataset([torch.arange(size) for size in sizes], sizes)

    def blocks():
        return TokenBlockDataset(rows, sizes, block_size=None, pad=0, eos=1, break_mode="eos")

    for name in ("int", "compat"):
        if name in vars(np):
            monkeypatch.delattr(np, name)
    with pytest.raises(AttributeError, match="compat"):
        blocks()
    compat.restore_numpy_names()
    assert [len(block) for block in blocks()] == [3, 2]
    assert (np.int, np.float, np.object, np.compat.long) == (int, float, object, int)


def test_names_that_numpy_has_are_left_alone(monkeypatch):
    own = type("own", (), {})
    monkeypatch.setattr(np, "bool", own)
    compat.restore_numpy_names()
    assert np.bool is own


def test_checkpoint_with_namespace_loads_without_running_pickles(tmp_path):
    before = torch.serialization.get_safe_globals()
    torch.save({"args": argparse.Namespace(arch="ppa_bert")}, tmp_path / "checkpoint.pt")
    torch.serialization.clear_safe_globals()
    try:
        with pytest.raises(Exception, match="Namespace"):
            torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        compat.apply()
        assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["args"].arch == "ppa_bert"
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


@pytest.mark.parametrize("ending", ["", "raise SystemExit('in another way')"])
def test_a_rank_on_cpu_has_no_thread_of_gloo_when_python_ends(ending, tmp_path):
    """With fairseq's own group beside the default one. What was registered first at exit runs last."""
    if not Path("/proc/self/task").exists():
        pytest.skip("threads are counted in /proc")
    script = f"""
        import atexit
        from pathlib import Path

        def gloo():
            names = [task.read_text() for task in Path("/proc/self/task").glob("*/comm")]
            return sum("gloo" in name for name in names)

        atexit.register(lambda: print("left:", gloo()))
        import ppa_fairseq
        import torch
        import torch.distributed as dist
        from fairseq.distributed.utils import all_reduce, get_global_group

        dist.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=0, world_size=1)
        all_reduce(torch.ones(1), get_global_group())
        print("running:", gloo() > 2)
        {ending}
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "running: True\nleft: 0\n", done.stderr
    assert bool(done.returncode) == bool(ending)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """``installed("fairseq", "0.12.2")`` lays this distribution out, and hides every other fairseq."""
    names = []
    real = compat.version_of
    monkeypatch.setattr(compat, "version_of", lambda name: real(name) if name in names else None)

    def install(name, version):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        names.append(name)

    monkeypatch.syspath_prepend(tmp_path)
    return install


def test_two_distributions_in_one_folder_are_refused(installed):
    installed("fairseq", "0.12.2")
    installed("fairseq-fixed", "0.12.3.1")
    with pytest.raises(InputError, match=r"same folder; run: pip uninstall -y fairseq fairseq-fixed"):
        compat.refuse_upstream_fairseq()


@pytest.mark.parametrize("version, refused", [((3, 10), False), ((3, 11), True), ((3, 13), True)])
def test_upstream_alone_works_on_python_3_10_only(installed, monkeypatch, version, refused):
    installed("fairseq", "0.12.2")
    monkeypatch.setattr(sys, "version_info", version)
    if not refused:
        return compat.refuse_upstream_fairseq()
    with pytest.raises(InputError, match="fairseq 0.12.2 .* cannot be imported on Python >= 3.11"):
        compat.refuse_upstream_fairseq()


def test_a_rebuild_alone_is_accepted(installed):
    installed("ve-fairseq", "0.12.3")
    compat.refuse_upstream_fairseq()
