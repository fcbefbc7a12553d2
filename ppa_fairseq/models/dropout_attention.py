"""Attention with dropout on the CPU, where torch's own leaves its fast path: written out, forward and backward.

Autograd would keep the probabilities, the mask and their product; here the probabilities and the draws are kept, the
draws in two bytes each, and the product is made again.
"""

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from ppa_fairseq.models.dropout import draw, drop


class DropoutAttention(torch.autograd.Function):
    """dropout(softmax(query keyᵀ / √D)) value: (N, H, Q, D) of (N, H, Q, D) and twice (N, H, L, D).

    `mask` (N, 1, 1, L) is True at real keys; `p` is the dropout, between 0 and 1.
    """

    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float) -> Tensor:
        # Products make contiguous copies anyway; kept, they let go of the padded tensor that these are views of.
        query, key, value = query * query.size(-1) ** -0.5, key.contiguous(), value.contiguous()
        scores = query @ key.mT  # (N, H, Q, L)
        if mask is not None:
            scores.masked_fill_(~mask, float("-inf"))
        probabilities = scores.softmax(-1)
        draws = draw(scores.shape)
        ctx.save_for_backward(query, key, value, probabilities, draws)
        ctx.p = p
        return drop(probabilities, draws, p) @ value

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, probabilities, draws = ctx.saved_tensors
        of_value = drop(probabilities, draws, ctx.p).mT @ gradient
        of_scores = drop(gradient @ value.mT, draws, ctx.p).mul_(probabilities)  # of the softmax so far
        of_scores -= probabilities * of_scores.sum(-1, keepdim=True)
        of_query = (of_scores @ key).mul_(query.size(-1) ** -0.5)
        return of_query, of_scores.mT @ query, of_value, None, None
