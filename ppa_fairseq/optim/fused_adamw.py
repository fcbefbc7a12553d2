"""AdamW as one fused kernel that also scales and clips the gradients: for CPUs, and GPUs without apex.

There fairseq's own `adam` is a Python loop with a dozen kernels per weight, and its trainer reads and writes all
gradients twice more: to divide them by the batch size, and to clip them. With apex, `--optimizer adam` is as fast.
"""

import ast
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, List

import torch
from fairseq import utils
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II

from ppa_fairseq.fairseq_compat.arguments import check_values


@dataclass
class FusedAdamWConfig(FairseqDataclass):
    adam_betas: Any = field(default=(0.9, 0.999), metadata={"help": "betas, as '(0.9, 0.999)'"})
    adam_eps: float = field(default=1e-8, metadata={"help": "epsilon"})
    weight_decay: float = field(default=0.0, metadata={"help": "decoupled weight decay"})
    lr: List[float] = II("optimization.lr")


class ScaledAdamW(torch.optim.AdamW):
    """torch's fused AdamW, which multiplies the gradients by a factor as it reads them.

    Until the step ``.grad`` holds them unscaled, as in fairseq's mixed-precision optimizers.
    """

    factor: float | torch.Tensor = 1.0

    def step(self, closure=None):
        weight = self.param_groups[0]["params"][0]
        self.grad_scale = torch.as_tensor(1.0 / self.factor, dtype=torch.float32, device=weight.device)  # a divisor
        self.found_inf = None
        super().step(closure)
        self.grad_scale, self.factor = None, 1.0

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        self.factor = 1.0


@register_optimizer("fused_adamw", dataclass=FusedAdamWConfig)
class FusedAdamW(FairseqOptimizer):
    """torch's fused AdamW (Loshchilov and Hutter, 2019) under fairseq's flags of Adam."""

    def __init__(self, cfg: FusedAdamWConfig, params):
        check_values(cfg)
        super().__init__(cfg)
        self._optimizer = ScaledAdamW(params, fused=True, **self.optimizer_config)
        # So that --amp's scaler skips steps with overflows itself.
        self._optimizer._step_supports_amp_scaling = False

    @property
    def optimizer_config(self) -> dict:
        """Arguments of torch's optimizer. On resume the checkpoint's replace them, except for the learning rate."""
        betas = self.cfg.adam_betas
        return {
            "lr": self.cfg.lr[0] if isinstance(self.cfg.lr, Collection) else self.cfg.lr,
            "betas": tuple(ast.literal_eval(betas) if isinstance(betas, str) else betas),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
        }

    def load_state_dict(self, state_dict: dict, optimizer_overrides: dict | None = None) -> None:
        """Load the state of this optimizer or of fairseq's Adam: in half precision fairseq lets both pass."""
        groups = [group | {"fused": True} for group in state_dict["param_groups"]]
        super().load_state_dict(state_dict | {"param_groups": groups}, optimizer_overrides)

    @property
    def supports_flat_params(self) -> bool:
        """Elements are updated independently, so --fp16 may put all weights into one tensor."""
        return True

    def multiply_grads(self, c: float | torch.Tensor) -> None:
        """Multiply the gradients by *c* at the next step; `zero_grad` resets it."""
        self._optimizer.factor = self._optimizer.factor * c

    def clip_grad_norm(self, max_norm: float, aggregate_norm_fn=None) -> torch.Tensor:
        """Return the norm of the gradients, times their factor, and clip them at the next step."""
        norm = self._optimizer.factor * utils.clip_grad_norm_(self.params, 0, aggregate_norm_fn)
        if max_norm > 0:
            self.multiply_grads((max_norm / (norm + 1e-6)).clamp(max=1))
        return norm
