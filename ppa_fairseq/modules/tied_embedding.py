"""Word embeddings that are read twice, by the input and by the MLM head, with one gradient of both."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class TiedEmbedding(torch.autograd.Function):
    """(V, C), tokens (T,) -> their rows (T, C), and the whole (V, C) for the head.

    The rows' gradient is added into the head's, row by row. Autograd by itself makes a second gradient of the whole
    vocabulary, nearly all of it zeros, and adds the two into a third.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(tokens)
        return weight[tokens], weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, rows: Tensor, whole: Tensor) -> tuple[Tensor, None]:
        (tokens,) = ctx.saved_tensors
        return whole.index_add_(0, tokens, rows), None  # in place: the head made `whole` for this node alone
