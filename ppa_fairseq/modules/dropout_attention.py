"""Attention with dropout on the CPU, where torch's own leaves its fast path: written out, forward and backward.

Autograd would keep the probabilities, the mask and their product. Here the draws alone are kept, in two bytes each; the
rest is made again from query and key.
"""

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from ppa_fairseq.modules.dropout import draw, drop


class DropoutAttention(torch.autograd.Function):
    """dropout(softmax(query keyᵀ / √D)) value: (N, H, Q, D) of (N, H, Q, D) and twice (N, H, L, D).

    `mask` (N, 1, 1, L) is True at real keys; `p` is the dropout, between 0 and 1.
    """

    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float) -> Tensor:
        query = query * query.size(-1) ** -0.5
        probabilities = _probabilities(query, key, mask)
        draws = draw(probabilities.shape)
        ctx.save_for_backward(query, key, value, mask, draws)
        ctx.p = p
        return drop(probabilities, draws, p) @ value

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, draws = ctx.saved_tensors
        gradient = gradient.contiguous()  # once, not for each of the two products
        probabilities = _probabilities(query, key, mask)
        of_value = drop(probabilities, draws, ctx.p).mT @ gradient
        of_scores = drop(gradient @ value.mT, draws, ctx.p).mul_(probabilities)  # of the softmax so far
        of_scores -= probabilities * of_scores.sum(-1, keepdim=True)
        of_query = (of_scores @ key).mul_(query.size(-1) ** -0.5)
        return of_query, of_scores.mT @ query, of_value, None, None


def _probabilities(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """(N, H, Q, L), of a query that is divided by √D already."""
    scores = query @ key.mT
    if mask is not None:
        scores.masked_fill_(~mask, float("-inf"))
    return scores.softmax(-1)
