"""`--cpu-bf16`: matrix products in bfloat16 on CPUs that have instructions for it."""

import functools
import logging
from collections.abc import Callable

import torch

logger = logging.getLogger(__name__)


def announce_cpu_bf16(cfg) -> None:
    """Say what `--cpu-bf16` does here, if it is set: without the instructions it costs time."""
    if not cfg.cpu_bf16:
        return
    if has_bf16_instructions():
        logger.info("--cpu-bf16: on the CPU, matrix products take bfloat16; weights and their updates stay in fp32")
    else:
        logger.warning(
            "--cpu-bf16: this CPU has neither AVX512-BF16 nor AMX: bfloat16 is emulated, and slower than fp32; "
            "leave the flag out"
        )


def has_bf16_instructions() -> bool:
    """AVX512-BF16 or AMX, as torch sees the CPU."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)


def in_cpu_bf16(forward: Callable) -> Callable:
    """A model's forward under autocast where its ``cfg.cpu_bf16`` is set; on a GPU that changes nothing."""

    @functools.wraps(forward)
    def run(self, *args, **kwargs):
        if not self.cfg.cpu_bf16:
            return forward(self, *args, **kwargs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return forward(self, *args, **kwargs)

    return run
