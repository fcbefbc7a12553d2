"""The encoder with a head of a task: what is fine-tuned. All else of alignment stays behind."""

import logging
from dataclasses import dataclass, field

import torch
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from torch import nn

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, HEAD_NAME, SPAN_HEAD
from ppa_fairseq.fairseq_compat.arguments import fix_training_args
from ppa_fairseq.models._config import EncoderConfig, shape_of, take_mbert_sizes
from ppa_fairseq.models._encoder import FairseqBertEncoder
from ppa_fairseq.modules.bert import BertShape, first_tokens
from ppa_fairseq.modules.cpu import announce_cpu_bf16, in_cpu_bf16
from ppa_fairseq.modules.heads import ClassificationHead, SpanHead
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)


@dataclass
class FinetunedConfig(EncoderConfig):
    new_head: bool = field(
        default=False, metadata={"help": "start with a new head even if --pretrained has been fine-tuned already"}
    )


@dataclass
class ClassifierConfig(FinetunedConfig):
    head_dropout: float = field(default=0.1, metadata={"help": "dropout inside the classification head"})


class FinetunedModel(BaseFairseqModel):
    """An encoder; subclasses add the head, whose weights' names start with ``head_prefix``."""

    head_prefix: str

    def __init__(self, cfg: FinetunedConfig, shape: BertShape, dictionary):
        super().__init__()
        self.cfg = cfg
        self.encoder = FairseqBertEncoder(dictionary, shape)

    def max_positions(self) -> int:
        return self.encoder.max_positions()

    def start_from(self, pretrained: checkpoint.Checkpoint) -> None:
        """Take the encoder, and the head if there is one of this kind. Says what was taken and what was left.

        Raises InputError if the head there is another's: other classes.
        """
        self.encoder.load_state_dict(checkpoint.part(pretrained.state, "encoder."))
        head = {}
        if not self.cfg.new_head:
            head = {name: value for name, value in pretrained.state.items() if name.startswith(self.head_prefix)}
        if head:
            self.check_head(pretrained)
            self.load_state_dict(head, strict=False)
        left = sorted({name.split(".")[0] for name in pretrained.state.keys() - head.keys()} - {"encoder"})
        logger.info(
            f"--pretrained {self.cfg.pretrained}: took its encoder of {len(self.encoder.layers)} layers and "
            f"{'its fine-tuned head' if head else 'no head: a new one is made'}; left behind: "
            f"{', '.join([*left, *pretrained.left_behind]) or 'nothing'}"
        )

    def check_head(self, pretrained: checkpoint.Checkpoint) -> None:
        """Raise InputError if the head of *pretrained* does not fit."""


@register_model("ppa_classifier", dataclass=ClassifierConfig)
class PPAClassifier(FinetunedModel):
    """Sentence pairs -> class logits, from the last layer's [CLS]; for fairseq's `sentence_prediction` criterion."""

    head_prefix = CLASSIFICATION_HEAD

    def __init__(self, cfg: ClassifierConfig, shape: BertShape, dictionary, labels: list[str]):
        super().__init__(cfg, shape, dictionary)
        self.labels = labels
        head = ClassificationHead(shape.dim, len(labels), cfg.head_dropout)
        self.classification_heads = nn.ModuleDict({HEAD_NAME: head})

    @classmethod
    def build_model(cls, cfg: ClassifierConfig, task) -> "PPAClassifier":
        announce_cpu_bf16(cfg)
        return cls(cfg, shape_of(cfg, task.dictionary), task.dictionary, task.labels)

    def check_head(self, pretrained: checkpoint.Checkpoint) -> None:
        if pretrained.labels != self.labels:
            raise InputError(
                f"--pretrained {self.cfg.pretrained}: its head tells {', '.join(pretrained.labels)} apart, but the "
                f"data has {', '.join(self.labels)}: --new-head leaves that head behind"
            )

    @in_cpu_bf16
    def forward(self, features_only: bool = True, classification_head_name: str = HEAD_NAME, **packed):
        """A packed batch of B sequences -> logits (B, K); the other arguments are those of fairseq's criterion."""
        first = self.encoder(**packed, selected=first_tokens(packed["cu_seqlens"]))["hidden"]  # (B, C)
        return self.classification_heads[classification_head_name](first), None


@register_model("ppa_reader", dataclass=FinetunedConfig)
class PPAReader(FinetunedModel):
    """Question and context -> for every token, the logits of being the answer's first and last one."""

    head_prefix = SPAN_HEAD

    def __init__(self, cfg: FinetunedConfig, shape: BertShape, dictionary):
        super().__init__(cfg, shape, dictionary)
        self.span_head = SpanHead(shape.dim)

    @classmethod
    def build_model(cls, cfg: FinetunedConfig, task) -> "PPAReader":
        announce_cpu_bf16(cfg)
        return cls(cfg, shape_of(cfg, task.dictionary), task.dictionary)

    @in_cpu_bf16
    def forward(self, **packed) -> torch.Tensor:
        """A packed batch of T tokens -> (T, 2)."""
        return self.span_head(self.encoder(**packed)["hidden"])


@register_model_architecture("ppa_classifier", "ppa_bert_classifier")
@register_model_architecture("ppa_reader", "ppa_bert_reader")
def whatever_is_pretrained(args) -> None:
    """Sizes from --pretrained."""
    fix_training_args(args)


@register_model_architecture("ppa_classifier", "ppa_mbert_base_classifier")
@register_model_architecture("ppa_reader", "ppa_mbert_base_reader")
def mbert_base(args) -> None:
    """bert-base-multilingual-cased."""
    take_mbert_sizes(args)
    fix_training_args(args)
