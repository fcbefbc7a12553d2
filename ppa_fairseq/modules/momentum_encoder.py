"""The key encoder: a copy of the query encoder that follows it by momentum (He et al. 2020, MoCo, equation 2)."""

import copy

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
        self._half: list[nn.ModuleList] = []  # the copy of `in_precision`; in a list it is no part of this module
        self.register_load_state_dict_post_hook(lambda module, _: module._half.clear())

    def train(self, mode: bool = True) -> "MomentumEncoder":
        return super().train(False)

    @torch.no_grad()
    def follow(self, encoder: nn.Module, projection: nn.Module, momentum: float) -> None:
        """Take one momentum step. Call it once for each optimizer update that happened."""
        torch._foreach_lerp_(list(self.parameters()), _weights(encoder, projection), 1.0 - momentum)
        if self._half:
            torch._foreach_copy_(list(self._half[0].parameters()), list(self.parameters()))

    @torch.no_grad()
    def in_precision(self, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
        """Return encoder and projection with their weights in *dtype*: a copy that follows with them.

        Autocast would cast all weights again at every forward pass.
        """
        if not self._half or next(self._half[0].parameters()).dtype != dtype:
            self._half[:] = [copy.deepcopy(nn.ModuleList([self.encoder, self.projection])).to(dtype)]
        return tuple(self._half[0])

    @torch.no_grad()
    def distance(self, encoder: nn.Module, projection: nn.Module) -> torch.Tensor:
        """‖θ_k − θ_q‖ / ‖θ_q‖ over all weights; a scalar on the model's device."""
        followed = _weights(encoder, projection)
        gap = torch._foreach_norm(torch._foreach_sub(list(self.parameters()), followed))
        return torch.stack(gap).norm() / torch.stack(torch._foreach_norm(followed)).norm()


def _weights(*modules: nn.Module) -> list[torch.Tensor]:
    weights = [parameter.detach() for module in modules for parameter in module.parameters()]
    if all(weight.dtype == torch.float32 for weight in weights):
        return weights
    single = [torch.empty_like(weight, dtype=torch.float32) for weight in weights]
    torch._foreach_copy_(single, weights)  # one call, where `float` would be one for each
    return single
