"""The key encoder: a copy of the query encoder that follows it by momentum (He et al. 2020, MoCo, equation 2)."""

import copy

import torch
import torch.nn as nn

from ppa_fairseq.modules.float32 import Float32Module


class MomentumEncoder(Float32Module):
    """The key encoder: θ_k ← m θ_k + (1 − m) θ_q after every update, in fp32 whatever the training precision.

    It takes no gradient, always runs in eval mode (no dropout), and starts equal to the modules it follows. It shares
    their frozen weights and leaves these out of its state dict.

    Args:
        encoder: the query encoder.
        projection: the query side's projection head.

    Attributes:
        shared: the names of the frozen weights in *encoder*.
    """

    def __init__(self, encoder: nn.Module, projection: nn.Module):
        super().__init__()
        frozen = {id(weight): weight for weight in encoder.parameters() if not weight.requires_grad}
        self.encoder = copy.deepcopy(encoder, memo=dict(frozen))
        self.projection = copy.deepcopy(projection)
        self.shared = [name for name, weight in self.encoder.named_parameters() if id(weight) in frozen]
        self.register_state_dict_post_hook(_leave_out_shared)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "MomentumEncoder":
        return super().train(False)

    @torch.no_grad()
    def follow(self, encoder: nn.Module, projection: nn.Module, momentum: float) -> None:
        """Take one momentum step. Call it once for each optimizer update that happened."""
        torch._foreach_lerp_(*self._pairs(encoder, projection), 1.0 - momentum)

    @torch.no_grad()
    def distance(self, encoder: nn.Module, projection: nn.Module) -> torch.Tensor:
        """‖θ_k − θ_q‖ / ‖θ_q‖ over all weights that move; a scalar on the model's device."""
        own, followed = self._pairs(encoder, projection)
        gap = torch._foreach_norm(torch._foreach_sub(own, followed))
        return torch.stack(gap).norm() / torch.stack(torch._foreach_norm(followed)).norm()

    def _pairs(self, *modules: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The weights that move, and those that they follow."""
        followed = [weight for module in modules for weight in module.parameters()]
        pairs = [(own, its) for own, its in zip(self.parameters(), followed, strict=True) if own is not its]
        return [own for own, _ in pairs], [its.detach().float() for _, its in pairs]


def _leave_out_shared(module: MomentumEncoder, state: dict, prefix: str, local_metadata) -> None:
    for name in module.shared:
        del state[f"{prefix}encoder.{name}"]
