"""The feed-forward layer on the CPU, in place where it can be: new memory costs the system's time, page after page."""

import threading

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_gelu_backward_into = torch.ops.aten.gelu_backward.grad_input


class FeedForward(torch.autograd.Function):
    """gelu(x W₁ᵀ + b₁) W₂ᵀ + b₂: (T, C) of (T, C), weights (F, C), (F,), (C, F), (C,).

    GELU's output is not kept but done over, as it takes little time and is as large as its input. It and the gradient
    of it lie in one scratch space, the same for all layers.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        wide = torch.addmm(bias1, hidden, weight1.t())  # (T, F)
        ctx.save_for_backward(hidden, wide, weight1, weight2)
        return torch.addmm(bias2, torch._C._nn.gelu(wide, out=_scratch.like(wide)), weight2.t())

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        hidden, wide, weight1, weight2 = ctx.saved_tensors
        active = torch._C._nn.gelu(wide, out=_scratch.like(wide))  # (T, F)
        of_weight2 = gradient.t() @ active
        of_wide = torch.mm(gradient, weight2, out=active)
        _gelu_backward_into(of_wide, wide, grad_input=of_wide)
        return of_wide @ weight1, of_wide.t() @ hidden, of_wide.sum(0), of_weight2, gradient.sum(0)


class _Scratch(threading.local):
    """Memory that is used again and again, as large as the largest that was asked for; each thread has its own."""

    def __init__(self):
        self.memory: dict[torch.dtype, Tensor] = {}

    def like(self, tensor: Tensor) -> Tensor:
        """Of its shape, with anything in it."""
        memory = self.memory.get(tensor.dtype)
        if memory is None or memory.numel() < tensor.numel():
            with torch.inference_mode(False):  # else it is of no use outside of that mode
                memory = self.memory[tensor.dtype] = torch.empty(tensor.numel(), dtype=tensor.dtype)
        return memory[: tensor.numel()].view(tensor.shape)


_scratch = _Scratch()
