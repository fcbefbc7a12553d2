"""The models of fine-tuning: the query encoder of an alignment with the head of a task."""

import logging
from abc import abstractmethod
from dataclasses import dataclass, field

import torch
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from torch import nn

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, HEAD_NAME, SPAN_HEAD, TAGGING_HEAD, part
from ppa_fairseq.fairseq_compat.arguments import fix_training_args
from ppa_fairseq.models._config import EncoderConfig, shape_of, take_mbert_sizes, transformers_shape
from ppa_fairseq.models._encoder import build_encoder, load_encoder
from ppa_fairseq.modules.cpu import in_cpu_precision
from ppa_fairseq.modules.encoders import CLASSIFICATION, SPANS, TAGS, Shape
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)


@dataclass
class FinetunedConfig(EncoderConfig):
    new_head: bool = field(
        default=False, metadata={"help": "start with a new head even if --pretrained is fine-tuned and has one"}
    )


@dataclass
class ClassifierConfig(FinetunedConfig):
    head_dropout: float = field(default=0.1, metadata={"help": "dropout in the head"})


class FinetunedModel(BaseFairseqModel):
    """An encoder. Subclasses add the head; names of its weights start with ``head_prefix``."""

    head_prefix: str

    def __init__(self, cfg: FinetunedConfig):
        super().__init__()
        self.cfg = cfg

    def max_positions(self) -> int:
        return self.encoder.max_positions()

    def start_from(self, pretrained: checkpoint.Checkpoint) -> None:
        """Load the encoder from *pretrained*, and its head if it has one of this kind; log what is loaded and what not.

        Raises InputError if that head has other classes.
        """
        new = load_encoder(self.encoder, part(pretrained.state, "encoder."))
        head = {}
        if not self.cfg.new_head:
            head = {name: value for name, value in pretrained.state.items() if name.startswith(self.head_prefix)}
        if head:
            self.check_head(pretrained)
            self.load_state_dict(head, strict=False)
        left = sorted({name.split(".")[0] for name in pretrained.state.keys() - head.keys()} - {"encoder"})
        logger.info(
            f"--pretrained {self.cfg.pretrained}: loaded the encoder ({pretrained.shape.layers} layers) and "
            f"{'the fine-tuned head' if head else 'no head (a new one starts)'}"
            f"{', but not ' * bool(new) + ', '.join(new)}; not loaded: "
            f"{', '.join([*left, *pretrained.left_behind]) or 'nothing else'}"
        )

    def check_head(self, pretrained: checkpoint.Checkpoint) -> None:
        """Raise InputError if the head of *pretrained* does not fit."""


class LabellingModel(FinetunedModel):
    """A model whose head chooses one of the *labels*. Subclasses set the *kind* of the head and name it."""

    kind: str

    def __init__(self, cfg: ClassifierConfig, shape: Shape, dictionary, labels: list[str]):
        super().__init__(cfg)
        self.labels = labels
        settings = {"classes": len(labels), "head_dropout": cfg.head_dropout}
        self.encoder, head = build_encoder(cfg, shape, dictionary, self.kind, **settings)
        self.add_head(head)

    @abstractmethod
    def add_head(self, head: nn.Module) -> None:
        """Register the head under `head_prefix`."""

    @classmethod
    def build_model(cls, cfg: ClassifierConfig, task) -> "LabellingModel":
        return cls(cfg, shape_of(cfg, task.dictionary, transformers_shape(task)), task.dictionary, task.labels)

    def check_head(self, pretrained: checkpoint.Checkpoint) -> None:
        if pretrained.labels != self.labels:
            raise InputError(
                f"--pretrained {self.cfg.pretrained}: its head has the classes {', '.join(pretrained.labels)}, but the "
                f"data has {', '.join(self.labels)}; add --new-head to start with a new head"
            )


@register_model("ppa_classifier", dataclass=ClassifierConfig)
class PPAClassifier(LabellingModel):
    """Sentences or sentence pairs -> class logits, for fairseq's criterion `sentence_prediction`.

    They come from [CLS] of the last layer, or as transformers' own class has it.
    """

    head_prefix, kind = CLASSIFICATION_HEAD, CLASSIFICATION

    def add_head(self, head: nn.Module) -> None:
        self.classification_heads = nn.ModuleDict({HEAD_NAME: head})

    @in_cpu_precision
    def forward(self, features_only: bool = True, classification_head_name: str = HEAD_NAME, **packed):
        """A packed batch of B sequences -> logits (B, K), None. The named arguments are fairseq's criterion's."""
        return self.classification_heads[classification_head_name].classify(self.encoder, packed), None


@register_model("ppa_tagger", dataclass=ClassifierConfig)
class PPATagger(LabellingModel):
    """Sentences -> for each token, class logits."""

    head_prefix, kind = TAGGING_HEAD, TAGS

    def add_head(self, head: nn.Module) -> None:
        self.tagging_head = head

    @in_cpu_precision
    def forward(self, **packed) -> torch.Tensor:
        """A packed batch of T tokens -> (T, K)."""
        return self.tagging_head(self.encoder(**packed)["hidden"])


@register_model("ppa_reader", dataclass=FinetunedConfig)
class PPAReader(FinetunedModel):
    """Question and context -> for each token, the logits of being the answer's first and its last token."""

    head_prefix = SPAN_HEAD

    def __init__(self, cfg: FinetunedConfig, shape: Shape, dictionary):
        super().__init__(cfg)
        self.encoder, self.span_head = build_encoder(cfg, shape, dictionary, SPANS)

    @classmethod
    def build_model(cls, cfg: FinetunedConfig, task) -> "PPAReader":
        return cls(cfg, shape_of(cfg, task.dictionary, transformers_shape(task)), task.dictionary)

    @in_cpu_precision
    def forward(self, **packed) -> torch.Tensor:
        """A packed batch of T tokens -> (T, 2)."""
        return self.span_head(self.encoder(**packed)["hidden"])


@register_model_architecture("ppa_classifier", "ppa_bert_classifier")
@register_model_architecture("ppa_reader", "ppa_bert_reader")
@register_model_architecture("ppa_tagger", "ppa_bert_tagger")
def bert(args) -> None:
    """An encoder of any size: that of --pretrained."""
    fix_training_args(args)


@register_model_architecture("ppa_classifier", "ppa_transformers_classifier")
@register_model_architecture("ppa_reader", "ppa_transformers_reader")
@register_model_architecture("ppa_tagger", "ppa_transformers_tagger")
def transformers(args) -> None:
    """Any encoder that transformers loads: that of --pretrained."""
    fix_training_args(args)


@register_model_architecture("ppa_classifier", "ppa_mbert_base_classifier")
@register_model_architecture("ppa_reader", "ppa_mbert_base_reader")
@register_model_architecture("ppa_tagger", "ppa_mbert_base_tagger")
def mbert_base(args) -> None:
    """bert-base-multilingual-cased: 12 layers of 768, 178 million parameters."""
    take_mbert_sizes(args)
    fix_training_args(args)
