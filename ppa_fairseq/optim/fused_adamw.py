"""AdamW as one kernel. fairseq's own, without apex on a GPU, is a Python loop of a dozen kernels a weight."""

import ast
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, List

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II

from ppa_fairseq.errors import InputError


@dataclass
class FusedAdamWConfig(FairseqDataclass):
    adam_betas: Any = field(default=(0.9, 0.999), metadata={"help": "betas, as '(0.9, 0.999)'"})
    adam_eps: float = field(default=1e-8, metadata={"help": "epsilon"})
    weight_decay: float = field(default=0.0, metadata={"help": "decoupled weight decay"})
    lr: List[float] = II("optimization.lr")


@register_optimizer("fused_adamw", dataclass=FusedAdamWConfig)
class FusedAdamW(FairseqOptimizer):
    """torch's fused AdamW (Loshchilov and Hutter, 2019) under fairseq's flags of Adam."""

    def __init__(self, cfg: FusedAdamWConfig, params):
        super().__init__(cfg)
        self._optimizer = torch.optim.AdamW(params, fused=True, **self.optimizer_config)

    @property
    def optimizer_config(self) -> dict:
        """The settings that override those in a checkpoint on resume."""
        betas = self.cfg.adam_betas
        try:
            first, second = ast.literal_eval(betas) if isinstance(betas, str) else betas
        except (ValueError, SyntaxError, TypeError):
            raise InputError(f"--adam-betas {betas}: give two numbers, as '(0.9, 0.999)'") from None
        return {
            "lr": self.cfg.lr[0] if isinstance(self.cfg.lr, Collection) else self.cfg.lr,
            "betas": (float(first), float(second)),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
        }

    @property
    def supports_flat_params(self) -> bool:
        """Every element is updated by itself, so --fp16 may put all weights into one tensor."""
        return True
