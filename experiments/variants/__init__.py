"""Initialise the projection head in other ways: `--user-dir` for --arch ppa_bert_head_normal and _orthogonal.

PPA's own head has PyTorch's default for linear layers, as in MoCo v2. The normal head has BERT's: N(0, 0.02) and biases
of 0. The orthogonal head has orthogonal rows and biases of 0, which keeps the distances between sentences.
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
        super().start_from(pretrained)  # copies the head into the momentum encoder


@register_model("ppa_head_orthogonal", dataclass=PPAModelConfig)
class OrthogonalHead(PPAModel):
    def start_from(self, pretrained) -> None:
        for layer in (self.projection.fc1, self.projection.fc2):
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
        super().start_from(pretrained)


for variant in ("head_normal", "head_orthogonal"):
    register_model_architecture(f"ppa_{variant}", f"ppa_bert_{variant}")(ppa_bert)
