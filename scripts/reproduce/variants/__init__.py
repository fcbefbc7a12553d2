"""`--user-dir` of the rows that need another model than PPA's; each --arch differs from it in how it starts.

ppa_bert_head_normal, ppa_bert_head_orthogonal: the projection head starts as BERT's layers do, N(0, 0.02) with biases
of 0, or orthogonal with biases of 0, which keeps the angles between sentences but for the ReLU. PPA's own starts as
PyTorch's linear layers do, as in MoCo v2.

ppa_bert_frozen: the encoder stays as it is. TLM then fits an MLM head to it, for a base that comes without one.
"""

from fairseq.models import register_model, register_model_architecture
from torch import nn

import ppa_fairseq.tasks.ppa_alignment  # noqa: F401  (registers the task, its criterion and its optimizer)
from ppa_fairseq.models.bert_encoder import init_bert_params
from ppa_fairseq.models.ppa import PPAModel, PPAModelConfig, ppa_bert


@register_model("ppa_head_normal", dataclass=PPAModelConfig)
class NormalHead(PPAModel):
    def start_from(self, pretrained) -> None:
        self.projection.apply(init_bert_params)
        super().start_from(pretrained)  # the twin starts as the head now is


@register_model("ppa_head_orthogonal", dataclass=PPAModelConfig)
class OrthogonalHead(PPAModel):
    def start_from(self, pretrained) -> None:
        for layer in (self.projection.fc1, self.projection.fc2):
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
        super().start_from(pretrained)


@register_model("ppa_frozen", dataclass=PPAModelConfig)
class FrozenEncoder(PPAModel):
    def start_from(self, pretrained) -> None:
        super().start_from(pretrained)
        self.encoder.requires_grad_(False)


for variant in ("head_normal", "head_orthogonal", "frozen"):
    register_model_architecture(f"ppa_{variant}", f"ppa_bert_{variant}")(ppa_bert)
