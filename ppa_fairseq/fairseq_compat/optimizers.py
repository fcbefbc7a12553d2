"""Repairs of fairseq's optimizers; one fault a function. A task puts them in place when it is set up."""

from collections.abc import Iterable

import torch
from fairseq import utils
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.optim.fp16_optimizer import _FP16OptimizerMixin
from torch import Tensor


def repair_optimizers() -> None:
    """Replace what is faulty in this process."""
    utils.clip_grad_norm_ = clip_grad_norm
    AMPOptimizer.state_dict, AMPOptimizer.load_state_dict = amp_state_dict, load_amp_state_dict
    _FP16OptimizerMixin.zero_grad = zero_gradients
    _FP16OptimizerMixin._sync_fp16_grads_to_fp32 = copy_gradients_to_masters
    _FP16OptimizerMixin._sync_fp32_params_to_fp16 = copy_masters_to_weights


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


def zero_gradients(self: _FP16OptimizerMixin) -> None:
    """Drop the weights' gradients, and zero the fp32 masters' in one call; in bf16 fairseq takes a kernel for each."""
    for weight in self.fp16_params:
        weight.grad = None
    masters = self.fp32_params.values() if self.has_flat_params else self.fp32_params
    torch._foreach_zero_([master.grad for master in masters])
    self._needs_sync = False
    if self.scaler is not None:
        self._multiply_factor = 1.0 / float(self.scaler.loss_scale)


def copy_gradients_to_masters(self: _FP16OptimizerMixin) -> None:
    """Copy the gradients to the fp32 masters' in one call; fairseq takes a kernel for each weight.

    A weight without gradient leaves the zeros of `zero_grad` there.
    """
    if self._needs_sync:
        pairs = zip(_masters(self, "grad"), self.fp16_params, strict=True)
        pairs = [(master, weight.grad.view(-1)) for master, weight in pairs if weight.grad is not None]
        if pairs:
            torch._foreach_copy_(*map(list, zip(*pairs, strict=True)))
        self._needs_sync = False


def copy_masters_to_weights(self: _FP16OptimizerMixin) -> None:
    """Copy the fp32 masters to the weights in one call; fairseq takes a kernel for each weight."""
    torch._foreach_copy_([weight.data.view(-1) for weight in self.fp16_params], _masters(self, "data"))


def _masters(optimizer: _FP16OptimizerMixin, part: str) -> list[Tensor]:
    """The fp32 masters' data or gradients, flat, one a weight; fairseq keeps them in one tensor, or each in its own."""
    if optimizer.has_flat_params:
        (flat,) = optimizer.fp32_params.values()  # by device
        return list(getattr(flat, part).split([weight.numel() for weight in optimizer.fp16_params]))
    return [getattr(master, part).view(-1) for master in optimizer.fp32_params]
