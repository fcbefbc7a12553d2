"""The key encoder: a copy of the query encoder that follows it by momentum (He et al. 2020, MoCo, equation 2)."""

import copy
from collections.abc import Iterator

import torch
import torch.nn as nn

from ppa_fairseq.modules.float32 import Float32Module


class MomentumEncoder(Float32Module):
    """The key encoder: θ_k ← m θ_k + (1 − m) θ_q after every update, in fp32 whatever the training precision.

    It takes no gradient, always runs in eval mode (no dropout), and starts equal to the modules it follows.

    Args:
        encoder: the query encoder.
        projection: the query side's projection head.
    """

    def __init__(self, encoder: nn.Module, projection: nn.Module):
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.projection = copy.deepcopy(projection)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "MomentumEncoder":
        return super().train(False)

    @torch.no_grad()
    def follow(self, encoder: nn.Module, projection: nn.Module, momentum: float) -> None:
        """Take one momentum step. Call it once for each optimizer update that happened."""
        torch._foreach_lerp_(list(self.parameters()), list(_weights(encoder, projection)), 1.0 - momentum)

    @torch.no_grad()
    def distance(self, encoder: nn.Module, projection: nn.Module) -> torch.Tensor:
        """‖θ_k − θ_q‖ / ‖θ_q‖ over all weights; a scalar on the model's device."""
        followed = list(_weights(encoder, projection))
        gap = torch._foreach_norm(torch._foreach_sub(list(self.parameters()), followed))
        return torch.stack(gap).norm() / torch.stack(torch._foreach_norm(followed)).norm()


def _weights(*modules: nn.Module) -> Iterator[torch.Tensor]:
    return (parameter.detach().float() for module in modules for parameter in module.parameters())
