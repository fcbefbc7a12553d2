"""Repairs of fairseq's optimizers; one fault a function. A task puts them in place when it is set up."""

from collections.abc import Iterable

import torch
from fairseq import utils
from fairseq.optim.amp_optimizer import AMPOptimizer
from torch import Tensor


def repair_optimizers() -> None:
    """Replace what is faulty in this process."""
    utils.clip_grad_norm_ = clip_grad_norm
    AMPOptimizer.state_dict, AMPOptimizer.load_state_dict = amp_state_dict, load_amp_state_dict


def clip_grad_norm(params: Tensor | Iterable[Tensor], max_norm: float, aggregate_norm_fn=None) -> Tensor:
    """Clip gradients to *max_norm* in place, unless it is 0, and return the norm that they had, a scalar.

    fairseq's computes it on a GPU if there is one, which fails beside --cpu; and it takes a kernel for each weight.
    """
    params = [params] if torch.is_tensor(params) else list(params)
    gradients = [weight.grad.detach() for weight in params if weight.grad is not None]
    if not gradients:
        return torch.zeros((), device=params[0].device if params else None)
    norms = torch._foreach_norm(gradients, 2, dtype=torch.float32)
    norm = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
    if aggregate_norm_fn is not None:
        norm = aggregate_norm_fn(norm)
    if max_norm > 0:
        torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp_(max=1))
    return norm


def amp_state_dict(self: AMPOptimizer) -> dict:
    """Return the state with the loss scaler's, which fairseq leaves out of --amp's checkpoints alone."""
    return self.fp32_optimizer.state_dict() | {"grad_scaler": self.scaler.state_dict()}


def load_amp_state_dict(self: AMPOptimizer, state_dict: dict, optimizer_overrides: dict | None = None) -> None:
    """Load the state through the wrapped optimizer: fairseq passes it by, so ours would not take that of `adam`."""
    if scaler := state_dict.get("grad_scaler"):
        self.scaler.load_state_dict(scaler)
    self.fp32_optimizer.load_state_dict(state_dict, optimizer_overrides)
