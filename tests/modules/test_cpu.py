"""A training on the CPU: its memory does not grow with the number of its batches' lengths; bfloat16 follows fp32."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.training import assert_same_training

from ppa_fairseq.modules import cpu

# Tensors of changing sizes, of which some stay: what forward and backward passes leave behind.
PROGRAM = """
import sys, torch
from ppa_fairseq.modules.cpu import return_freed
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
for step in range(60):
    sizes = torch.randint(1, 40, (60,), generator=generator).tolist()
    held = [torch.ones(size, 16 << 10) for size in sizes]
    small = [torch.ones(100) for _ in range(1000)]
    kept = held[::7]
    del held
    if sys.argv[1] == "yes" and step % 5 == 0:
        return_freed()
del kept, small
return_freed() if sys.argv[1] == "yes" else None
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("RssAnon")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_freed_memory_is_returned():
    used = {}
    for trimmed in ("yes", "no"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, trimmed], capture_output=True, text=True, check=True)
        used[trimmed] = int(done.stdout) / 1024
    assert used["yes"] < used["no"] - 20, used


@pytest.mark.parametrize("precision, fast, expected", [("auto", True, "bf16"), ("auto", False, "fp32"),
                                                       ("fp32", True, "fp32"), ("bf16", False, "bf16")])  # fmt: skip
def test_auto_takes_bf16_where_the_cpu_has_it(train, monkeypatch, precision, fast, expected):
    """Auto trains bit for bit as the precision that it stands for."""
    monkeypatch.setattr(cpu, "has_bf16_instructions", lambda: fast)
    cpu.uses_bf16.cache_clear()
    runs = [
        train("--max-update", "2", "--cpu-precision", name, save_dir=save_dir)
        for name, save_dir in ((precision, "one"), (expected, "other"))
    ]
    cpu.uses_bf16.cache_clear()
    assert_same_training(*runs)
