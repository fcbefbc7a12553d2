"""The map between a sentence vector and the contrastive loss. It is thrown away after alignment."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class ProjectionHead(nn.Module):
    """Project sentence vectors (N, C) and L2-normalise them to keys (N, D).

    Args:
        dim: C, the encoder's width, also the hidden layer's.
        output_dim: D; with kind "none" it is C.
        kind: "mlp", linear, ReLU, linear (MoCo v2; the paper's); "linear", one layer; "none", the vector as it is.
    """

    def __init__(self, dim: int, output_dim: int, kind: str = "mlp"):
        super().__init__()
        self.kind = kind
        self.output_dim = dim if kind == "none" else output_dim
        if kind == "mlp":
            self.fc1 = nn.Linear(dim, dim)
        if kind != "none":
            self.fc2 = nn.Linear(dim, output_dim)

    def forward(self, sentence: torch.Tensor) -> torch.Tensor:
        if self.kind == "mlp":
            sentence = F.relu(self.fc1(sentence))  # (N, C)
        if self.kind != "none":
            sentence = self.fc2(sentence)  # (N, D)
        return F.normalize(sentence.float(), dim=-1)
