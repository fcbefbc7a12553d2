"""Run a model in half precision, and measure what that changes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ppa_fairseq.modules.cpu import has_bf16_instructions

DTYPES = ("float32", "float16", "bfloat16")
NOT_FINITE = dict.fromkeys(DTYPES, "its weights are NaN or infinite")
NOT_FINITE["float16"] = "its weights are NaN, or its values too large for float16; use --dtype bfloat16"


class Precision:
    """The type in which some modules compute.

    Args:
        dtype: its name in torch, of `DTYPES`; or "auto": bfloat16 on a CPU with instructions for it, else float32.
        device: where the modules compute.

    Attributes:
        error: mean and largest ‖x − y‖ / ‖x‖ of the first batch's rows x in fp32 and y in half precision; None in fp32
            and before the first batch.
    """

    def __init__(self, dtype: str, device: torch.device, *modules: nn.Module):
        if dtype == "auto":
            dtype = "bfloat16" if device.type == "cpu" and has_bf16_instructions() else "float32"
        self.dtype = dtype
        self.modules = modules
        self.error: tuple[float, float] | None = None

    def __call__(self, compute: Callable[[], Tensor]) -> Tensor:
        """Return the rows (R, C) that *compute* makes by the modules, as fp32."""
        rows = compute().float()
        if self.dtype == "float32" or self.error:
            return rows
        with torch.inference_mode(False):  # which would not let weights be replaced
            for module in self.modules:
                module.to(getattr(torch, self.dtype))
        exact, rows = rows, compute().float()
        off = (rows - exact).norm(dim=-1) / exact.norm(dim=-1)  # (R,)
        self.error = off.mean().item(), off.max().item()
        return rows

    def describe(self) -> dict:
        """Return the facts for a report's JSON file."""
        mean, largest = self.error or (0.0, 0.0)
        return {"dtype": self.dtype} | ({"error": {"mean": mean, "largest": largest}} if self.error else {})

    def note(self, what: str) -> str:
        """Return the line for the user; empty in fp32. *what* names the rows."""
        if not self.error:
            return ""
        mean, largest = (f"{100 * error:.2g} %" for error in self.error)
        return f"{what} in {self.dtype} are off by {mean} of their length, {largest} at most (of the first batch)"
