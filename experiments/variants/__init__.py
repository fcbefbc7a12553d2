"""`--user-dir` of the rows on how the projection head starts: --arch ppa_bert_head_normal and _orthogonal.

PPA's own head starts as PyTorch's linear layers do, as in MoCo v2. One starts as BERT's layers do, N(0, 0.02) with
biases of 0; the other with orthogonal rows and biases of 0, so that sentences which differ stay apart.
"""

from fairseq.models import register_model, register_model_architecture
from torch import nn

import ppa_fairseq.tasks.ppa_alignment  # noqa: F401  (registers the task, its criterion and its optimizer)
from ppa_fairseq.models.ppa import PPAModel, PPAModelConfig, ppa_bert
from ppa_fairseq.modules.bert import init_bert_params


@register_model("ppa_head_normal", dataclass=PPAModelConfig)
class NormalHead(PPAModel):
    def start_from(self, pretrained) -> None:
        self.projection.apply(init_bert_params)
        super().start_from(pretrained)  # the momentum encoder starts as the head now is


@register_model("ppa_head_orthogonal", dataclass=PPAModelConfig)
class OrthogonalHead(PPAModel):
    def start_from(self, pretrained) -> None:
        for layer in (self.projection.fc1, self.projection.fc2):
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
        super().start_from(pretrained)


for variant in ("head_normal", "head_orthogonal"):
    register_model_architecture(f"ppa_{variant}", f"ppa_bert_{variant}")(ppa_bert)
