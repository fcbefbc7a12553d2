"""The heads of fine-tuning. A new head starts as BERT's layers did, N(0, 0.02)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppa_fairseq.modules.bert import first_tokens, init_bert_params


class ClassificationHead(nn.Module):
    """Map [CLS] vectors to class logits through one tanh layer: BERT's pooler and classifier in one."""

    def __init__(self, dim: int, num_classes: int, dropout: float):
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(dim, num_classes)
        self.apply(init_bert_params)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) -> (B, K)."""
        return self.out_proj(self.dropout(torch.tanh(self.dense(features))))

    def classify(self, encoder: nn.Module, packed: dict) -> Tensor:
        """Map a packed batch of B sequences to class logits (B, K)."""
        return self(encoder(**packed, selected=first_tokens(packed["cu_seqlens"]))["hidden"])


class SpanHead(nn.Linear):
    """Map hidden states (T, C) to the logits (T, 2) of being an answer's first and last token."""

    def __init__(self, dim: int):
        super().__init__(dim, 2)
        init_bert_params(self)


class TaggingHead(nn.Linear):
    """Map hidden states (T, C) to class logits (T, K)."""

    def __init__(self, dim: int, num_classes: int, dropout: float):
        super().__init__(dim, num_classes)
        self.dropout = dropout
        init_bert_params(self)

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(F.dropout(hidden, self.dropout, self.training))
