"""A training on the CPU does not grow with the number of its batches' lengths."""

import subprocess
import sys
from pathlib import Path

import pytest

# Tensors of ever other sizes, each freed before the next but one: what a forward and backward pass leaves behind.
PROGRAM = """
import sys, torch
from ppa_fairseq.modules.host_memory import return_freed
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


LARGE = """
import torch
from ppa_fairseq.modules.host_memory import OWN_PAGES, keep_heap_small
keep_heap_small()
first = torch.ones(32 << 20, dtype=torch.uint8)
del first  # glibc by itself would take its size for the limit, and serve the next ones from the heap
tensors = [torch.ones(OWN_PAGES - (1 << 20), dtype=torch.uint8), torch.ones(OWN_PAGES, dtype=torch.uint8)]
heap = [line.split()[0].split("-") for line in open("/proc/self/maps") if "[heap]" in line]
start, end = int(heap[0][0], 16), int(heap[-1][1], 16)
print(*(start <= tensor.data_ptr() < end for tensor in tensors))
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads Linux's /proc")
def test_large_tensors_are_not_in_the_heap():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_freed_memory_is_given_back():
    used = {}
    for trimmed in ("yes", "no"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, trimmed], capture_output=True, text=True, check=True)
        used[trimmed] = int(done.stdout) / 1024
    assert used["yes"] < used["no"] - 20, used
