"""The model of PPA: query encoder, projection head, MLM head, momentum encoder, queue of keys."""

import contextlib
import logging
from dataclasses import dataclass, field

import torch
import torch.nn as nn
from fairseq.dataclass import ChoiceEnum
from fairseq.distributed import utils as distributed_utils
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from omegaconf import II

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.fairseq_compat.arguments import fix_training_args
from ppa_fairseq.models._config import EncoderConfig, shape_of, take_mbert_sizes
from ppa_fairseq.models._encoder import FairseqBertEncoder
from ppa_fairseq.modules.bert import BertEncoder, BertShape, MaskedLMHead, SelectedPositions, first_tokens
from ppa_fairseq.modules.cpu import announce_cpu_bf16, in_cpu_bf16
from ppa_fairseq.modules.key_queue import KeyQueue
from ppa_fairseq.modules.momentum_encoder import MomentumEncoder
from ppa_fairseq.modules.packing import pool
from ppa_fairseq.modules.projection import ProjectionHead
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)


@dataclass
class PPAModelConfig(EncoderConfig):
    pooling: ChoiceEnum(["cls", "mean"]) = field(
        default="cls", metadata={"help": "a sentence's vector: [CLS] of the last layer, or the mean of its tokens"}
    )
    projection_dim: int = field(default=128, metadata={"help": "width of a key"})
    queue_size: int = field(default=32000, metadata={"help": "number of earlier keys kept as negatives"})
    momentum: float = field(default=0.999, metadata={"help": "share of itself that the momentum encoder keeps at every update"})
    freeze_encoder: bool = field(
        default=False,
        metadata={
            "help": "train the MLM head alone, with --contrastive-weight 0: fits one to an encoder that came without, "
            "before TLM changes that"
        },
    )
    contrastive_weight: float = II("criterion.contrastive_weight")
    tlm_weight: float = II("criterion.tlm_weight")
    tlm_language_embeddings: bool = II("task.tlm_language_embeddings")


@register_model("ppa", dataclass=PPAModelConfig)
class PPAModel(BaseFairseqModel):
    """One packed forward of the query encoder takes queries and TLM sequences together; the momentum encoder encodes the keys."""

    def __init__(self, cfg: PPAModelConfig, shape: BertShape, dictionary, num_languages: int):
        super().__init__()
        self.cfg = cfg
        self.encoder = FairseqBertEncoder(dictionary, shape)
        self.lm_head = MaskedLMHead(shape.dim, shape.vocab_size, shape.layer_norm_eps)
        self.projection = ProjectionHead(shape.dim, cfg.projection_dim)
        self.queue = KeyQueue(cfg.queue_size, cfg.projection_dim)
        self.language_embeddings = None
        if cfg.tlm_language_embeddings:
            # Row 0 stands for "no language" and stays zero: sentences outside TLM see the base model's input.
            self.language_embeddings = nn.Embedding(1 + num_languages, shape.dim, padding_idx=0)
            nn.init.zeros_(self.language_embeddings.weight)
            self.language_embeddings.requires_grad_(cfg.tlm_weight > 0 and not cfg.freeze_encoder)
        self.encoder.requires_grad_(not cfg.freeze_encoder)
        # DistributedDataParallel waits for the gradient of every weight that asks for one.
        self.lm_head.requires_grad_(cfg.tlm_weight > 0)
        self.projection.requires_grad_(cfg.contrastive_weight > 0)
        self.momentum_encoder = MomentumEncoder(self.encoder, self.projection)

    @classmethod
    def build_model(cls, cfg: PPAModelConfig, task) -> "PPAModel":
        """Build the model with random weights; the task then lets it :meth:`start_from` --pretrained."""
        if cfg.freeze_encoder and cfg.contrastive_weight > 0:
            raise InputError(
                "--freeze-encoder is to fit the MLM head, and a projection head would be thrown away: "
                "give --contrastive-weight 0, or leave it out"
            )
        announce_cpu_bf16(cfg)
        shape = shape_of(cfg, task.dictionary)
        return cls(cfg, shape, task.dictionary, len(task.languages))

    def start_from(self, pretrained: checkpoint.Checkpoint) -> None:
        """Take the query encoder and the MLM head from *pretrained*, nothing else; the momentum encoder starts equal to it."""
        self.encoder.load_state_dict(checkpoint.part(pretrained.state, "encoder."))
        head = checkpoint.part(pretrained.state, "lm_head.")
        if head:
            self.lm_head.load_state_dict(head)
        else:
            logger.warning("the pretrained checkpoint has no MLM head: it starts from random weights")
        self.momentum_encoder = MomentumEncoder(self.encoder, self.projection)

    def max_positions(self) -> int:
        return self.encoder.max_positions()

    @in_cpu_bf16
    def forward(
        self, query_input: dict, masked: torch.Tensor, masked_counts: list[int], key_input: dict | None = None
    ) -> dict:
        """Encode a batch of N pairs with M masked tokens.

        Args:
            query_input: N queries (none without *key_input*), then the TLM sequences, packed.
            masked: (M,) places of the masked tokens in the packed query input.
            masked_counts: masked tokens of each TLM sequence.
            key_input: N keys, packed.

        Returns:
            ``logits`` (M, V); with *key_input* also ``query`` and ``key`` (N, D), of unit length.
        """
        count = 0 if key_input is None else len(key_input["lengths"])
        starts = query_input["cu_seqlens"][: count + 1]  # of the queries
        # Of the last layer, only what is read is worked out: all of a query only if its mean is.
        if self.cfg.pooling == "cls":
            places, counts = starts[:-1].long(), [1] * count
        else:
            counts = query_input["lengths"][:count]
            places = torch.arange(sum(counts), device=masked.device)
        selected = SelectedPositions(torch.cat([places, masked]), counts + masked_counts)
        hidden, word_embeddings = self.encode(query_input, selected)
        of_queries, of_masked = hidden.split([len(places), len(masked)])
        # The MLM head runs on the masked places only: over all of them it would be most of the step.
        output = {"logits": self.lm_head(of_masked, word_embeddings)}
        if key_input is not None:
            sentence = of_queries if self.cfg.pooling == "cls" else pool(of_queries, starts, "mean")  # (N, C)
            output["query"] = self.projection(sentence)
            output["key"] = self.encode_keys(key_input)
        return output

    def encode(self, packed: dict, selected: SelectedPositions) -> tuple[torch.Tensor, torch.Tensor]:
        """Last hidden states of the query encoder at the selected positions (R, C), and its word embeddings (V, C)."""
        packed = dict(packed)
        languages = packed.pop("languages", None)
        if languages is not None:
            packed["added_embedding"] = self.language_embeddings(languages)  # (T, C)
        output = self.encoder(**packed, selected=selected, tied=True)
        return output["hidden"], output["word_embeddings"]

    @torch.no_grad()
    def encode_keys(self, packed: dict) -> torch.Tensor:
        """Keys of the momentum encoder (N, D). Its fp32 masters are cast to the training precision for the forward alone."""
        precision = self.projection.fc1.weight.dtype
        cast = contextlib.nullcontext()
        if precision != torch.float32:
            cast = torch.autocast(packed["tokens"].device.type, dtype=precision)
        with cast:
            return self.momentum_encoder.projection(self.sentences(self.momentum_encoder.encoder, packed))

    @torch.no_grad()
    def embed(self, packed: dict) -> torch.Tensor:
        """Sentence vectors as they serve after alignment: the query encoder's, without the head; (B, C)."""
        return self.sentences(self.encoder, packed)

    def sentences(self, encoder: BertEncoder, packed: dict) -> torch.Tensor:
        """The vectors (B, C) of packed sentences alone."""
        if self.cfg.pooling == "cls":
            return encoder(**packed, selected=first_tokens(packed["cu_seqlens"]))["hidden"]
        return pool(encoder(**packed)["hidden"], packed["cu_seqlens"], self.cfg.pooling)

    def update_succeeded(self) -> None:
        """The momentum encoder takes its step and the staged keys enter the queue."""
        self.momentum_encoder.follow(self.encoder, self.projection, self.cfg.momentum)
        self.queue.commit(distributed_utils.get_data_parallel_group())


@register_model_architecture("ppa", "ppa_bert")
def ppa_bert(args) -> None:
    """Whatever --pretrained is."""
    fix_training_args(args)


@register_model_architecture("ppa", "ppa_mbert_base")
def ppa_mbert_base(args) -> None:
    """bert-base-multilingual-cased: 12 layers of 768, 178 million parameters."""
    take_mbert_sizes(args)
    fix_training_args(args)
