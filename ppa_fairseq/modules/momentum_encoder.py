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
        self._half: list[nn.ModuleList] = []  # the copy of `in_precision`; in a list it is no part of this module
        self.register_load_state_dict_post_hook(lambda module, _: module._half.clear())

    def train(self, mode: bool = True) -> "MomentumEncoder":
        return super().train(False)

    @torch.no_grad()
    def follow(self, encoder: nn.Module, projection: nn.Module, momentum: float) -> None:
        """Take one momentum step. Call it once for each optimizer update that happened."""
        torch._foreach_lerp_(*self._pairs(encoder, projection), 1.0 - momentum)
        if self._half:
            torch._foreach_copy_(list(self._half[0].parameters()), list(self.parameters()))

    @torch.no_grad()
    def in_precision(self, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
        """Return encoder and projection with their weights in *dtype*: a copy that follows with them.

        Autocast would cast all weights again at every forward pass.
        """
        if not self._half or next(self._half[0].parameters()).dtype != dtype:
            weights = dict(self.encoder.named_parameters())
            memo = {id(weights[name]): weights[name] for name in self.shared if weights[name].dtype == dtype}
            self._half[:] = [copy.deepcopy(nn.ModuleList([self.encoder, self.projection]), memo).to(dtype)]
        return tuple(self._half[0])

    @torch.no_grad()
    def distance(self, encoder: nn.Module, projection: nn.Module) -> torch.Tensor:
        """‖θ_k − θ_q‖ / ‖θ_q‖ over all weights that move; a scalar on the model's device."""
        own, followed = self._pairs(encoder, projection)
        gap = torch._foreach_norm(torch._foreach_sub(own, followed))
        return torch.stack(gap).norm() / torch.stack(torch._foreach_norm(followed)).norm()

    def _pairs(self, *modules: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The weights that move, and those that they follow."""
        weights = [weight for module in modules for weight in module.parameters()]
        pairs = [(own, its) for own, its in zip(self.parameters(), weights, strict=True) if own is not its]
        moving, followed = [own for own, _ in pairs], [its.detach() for _, its in pairs]
        if all(weight.dtype == torch.float32 for weight in followed):
            return moving, followed
        single = [torch.empty_like(weight, dtype=torch.float32) for weight in followed]
        torch._foreach_copy_(single, followed)  # one call, where `float` would be one for each
        return moving, single


def _leave_out_shared(module: MomentumEncoder, state: dict, prefix: str, local_metadata) -> None:
    for name in module.shared:
        del state[f"{prefix}encoder.{name}"]
