"""The head between a sentence vector and the contrastive loss (MoCo v2). It is thrown away after alignment."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class ProjectionHead(nn.Module):
    """Linear, ReLU, linear, then L2 normalisation: (N, C) -> (N, D) of unit length.

    Args:
        dim: C, the encoder's width, also the hidden layer's.
        output_dim: D.
    """

    def __init__(self, dim: int, output_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, dim)
        self.fc2 = nn.Linear(dim, output_dim)

    def forward(self, sentence: torch.Tensor) -> torch.Tensor:
        projected = self.fc2(F.relu(self.fc1(sentence)))  # (N, D)
        return F.normalize(projected.float(), dim=-1)
