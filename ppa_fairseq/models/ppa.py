"""The model of PPA: query encoder, MLM head, projection head, momentum encoder, queue of keys (Pan et al. 2021).

To read the method: this file, then `modules/momentum_encoder.py`, `modules/key_queue.py`, `criterions/ppa.py` (the
loss), `data/bitext/dataset.py` (queries, keys and TLM sequences), `data/bitext/masking.py` and
`tasks/ppa_alignment.py` (the training step).
"""

import contextlib
import logging
from dataclasses import dataclass, field
from itertools import accumulate

import torch
import torch.nn as nn
from fairseq.dataclass import ChoiceEnum
from fairseq.distributed import utils as distributed_utils
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from omegaconf import II

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import part
from ppa_fairseq.fairseq_compat.arguments import fix_training_args
from ppa_fairseq.models._config import EncoderConfig, shape_of, take_mbert_sizes, transformers_shape
from ppa_fairseq.models._encoder import build_encoder, load_encoder
from ppa_fairseq.modules.bert import SelectedPositions, first_tokens
from ppa_fairseq.modules.cpu import in_cpu_precision
from ppa_fairseq.modules.encoders import MASKED_LM, Encoder, Shape
from ppa_fairseq.modules.key_queue import KeyQueue
from ppa_fairseq.modules.momentum_encoder import MomentumEncoder
from ppa_fairseq.modules.packing import concatenate, pool
from ppa_fairseq.modules.projection import ProjectionHead
from ppa_fairseq.modules.transformers_encoder import TransformersShape
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)


@dataclass
class PPAModelConfig(EncoderConfig):
    pooling: ChoiceEnum(["cls", "mean"]) = field(
        default="cls", metadata={"help": "sentence vector: [CLS] of the last layer, or the mean of all tokens"}
    )
    projection_head: ChoiceEnum(["mlp", "linear", "none"]) = field(
        default="mlp",
        metadata={"help": "between a sentence vector and the contrastive loss: mlp (the paper's), linear, or none"},
    )
    projection_dim: int = field(
        default=128, metadata={"help": "width of a key; without a projection head, the encoder's"}
    )
    queue_size: int = field(default=32000, metadata={"help": "number of earlier keys that serve as negatives"})
    momentum: float = field(
        default=0.999, metadata={"help": "m in the momentum encoder's update, θ_k ← m θ_k + (1 − m) θ_q"}
    )
    freeze_encoder: bool = field(
        default=False,
        metadata={
            "help": "train only the MLM head, with --contrastive-weight 0: for an encoder without an MLM head, because "
            "TLM with a randomly initialised head damages the encoder"
        },
    )
    contrastive_weight: float = II("criterion.contrastive_weight")
    negatives: str = II("criterion.negatives")
    tlm_weight: float = II("criterion.tlm_weight")
    tlm_language_embeddings: bool = II("task.tlm_language_embeddings")


@register_model("ppa", dataclass=PPAModelConfig)
class PPAModel(BaseFairseqModel):
    """The query encoder encodes queries and TLM sequences in one packed batch, the momentum encoder the keys.

    With --contrastive-weight 0, projection head, momentum encoder and queue are None. With --negatives in-batch the
    query encoder encodes both sides, and momentum encoder and queue are None.
    """

    CONTRASTIVE = ("projection.", "momentum_encoder.", "queue.")  # names of their weights

    def __init__(self, cfg: PPAModelConfig, shape: Shape, dictionary, num_languages: int):
        super().__init__()
        self.cfg = cfg
        self.encoder, self.lm_head = build_encoder(cfg, shape, dictionary, MASKED_LM)
        self.projection = self.momentum_encoder = self.queue = self.language_embeddings = None
        contrastive = cfg.contrastive_weight > 0
        self.in_batch = contrastive and cfg.negatives != "queue"
        with_queue = contrastive and cfg.negatives != "in-batch"
        if contrastive:
            self.projection = ProjectionHead(shape.dim, cfg.projection_dim, str(cfg.projection_head))
        if with_queue:
            self.queue = KeyQueue(cfg.queue_size, self.projection.output_dim)
        if cfg.tlm_language_embeddings:
            # Row 0 means "no language" and stays zero: outside TLM the encoder's input does not change.
            self.language_embeddings = nn.Embedding(1 + num_languages, shape.dim, padding_idx=0)
            nn.init.zeros_(self.language_embeddings.weight)
            self.language_embeddings.requires_grad_(cfg.tlm_weight > 0 and not cfg.freeze_encoder)
        if cfg.freeze_encoder:
            self.encoder.requires_grad_(False)
        self.lm_head.requires_grad_(cfg.tlm_weight > 0)  # DistributedDataParallel waits for every gradient
        if with_queue:
            self.momentum_encoder = MomentumEncoder(self.encoder, self.projection)

    @classmethod
    def build_model(cls, cfg: PPAModelConfig, task) -> "PPAModel":
        """Build the model with random weights. The task then calls :meth:`start_from` with --pretrained."""
        if cfg.freeze_encoder and cfg.contrastive_weight > 0:
            raise InputError(
                "--freeze-encoder trains only the MLM head; add --contrastive-weight 0, or omit --freeze-encoder"
            )
        if cfg.freeze_encoder and cfg.lora_rank:
            raise InputError("--freeze-encoder trains nothing in the encoder, --lora-rank adapters; omit one of them")
        shape = shape_of(cfg, task.dictionary, transformers_shape(task))
        if isinstance(shape, TransformersShape) and task.cfg.tlm_reset_positions:
            raise InputError("--tlm-reset-positions: a model of transformers counts positions itself; omit the flag")
        return cls(cfg, shape, task.dictionary, len(task.languages))

    def start_from(self, pretrained: checkpoint.Checkpoint) -> None:
        """Load query encoder and MLM head from *pretrained*; the momentum encoder starts as the encoder's copy."""
        load_encoder(self.encoder, part(pretrained.state, "encoder."))
        head = part(pretrained.state, "lm_head.")
        if head:
            self.lm_head.load_state_dict(head)
        else:
            logger.warning("the pretrained checkpoint has no MLM head: the head starts from random weights")
        if self.momentum_encoder is not None:
            self.momentum_encoder = MomentumEncoder(self.encoder, self.projection)

    def upgrade_state_dict_named(self, state_dict: dict, name: str) -> None:
        """Adapt a checkpoint of version 0.1, or of a training that used other objectives than this one, in place."""
        for old in [key for key in state_dict if key.startswith("twin.")]:
            state_dict["momentum_encoder." + old.removeprefix("twin.")] = state_dict.pop(old)
        own = {key: new for key, new in self.state_dict().items() if key.startswith(self.CONTRASTIVE)}
        stored = {key for key in state_dict if key.startswith(self.CONTRASTIVE)}
        unused = {key.partition(".")[0] for key in stored} - {key.partition(".")[0] for key in own}
        if unused:
            logger.info(f"this objective does not use the checkpoint's {', '.join(sorted(unused))}")
        for key in stored - own.keys():
            del state_dict[key]
        if not stored and own:
            logger.info("the checkpoint has no momentum encoder: copy the query encoder, and start with an empty queue")
        for key in own.keys() - stored:
            state_dict[key] = state_dict.get(key.removeprefix("momentum_encoder."), own[key])
        for key in self.momentum_encoder.shared if self.momentum_encoder else ():
            state_dict[f"momentum_encoder.encoder.{key}"] = state_dict[f"encoder.{key}"]
        super().upgrade_state_dict_named(state_dict, name)

    def max_positions(self) -> int:
        return self.encoder.max_positions()

    @in_cpu_precision
    def forward(
        self, query_input: dict, masked: torch.Tensor, masked_counts: list[int], key_input: dict | None = None
    ) -> dict:
        """Encode a batch of N pairs with M masked tokens.

        Args:
            query_input: N queries (none without *key_input*), then the TLM sequences, packed.
            masked: (M,) positions of the masked tokens in the packed query input.
            masked_counts: number of masked tokens in each TLM sequence.
            key_input: N keys, packed.

        Returns:
            ``logits`` (M, V). With the contrastive loss also vectors of unit length, (N, D) each: ``query``, and of the
            keys' sentences ``key`` (by the momentum encoder), ``translation`` (by the query encoder), or both.
        """
        pairs = len(key_input["lengths"]) if key_input else 0
        contrastive = pairs > 0 and self.projection is not None
        packed = query_input
        if contrastive and self.in_batch:
            packed = concatenate(query_input, key_input)  # the query encoder encodes the keys' sentences, too
        # The last layer computes only what is read: tokens of the queries, masked tokens, tokens of the translations.
        queries = self.sentence_positions(packed, 0, pairs)
        translations = self.sentence_positions(packed, len(query_input["lengths"]), len(packed["lengths"]))
        kinds = [queries, SelectedPositions(masked, masked_counts), translations]
        selected = SelectedPositions(
            torch.cat([kind.places for kind in kinds]), [count for kind in kinds for count in kind.counts]
        )
        hidden, word_embeddings = self.encode(packed, selected)
        of_queries, of_masked, of_translations = hidden.split([len(kind.places) for kind in kinds])

        output = {"logits": self.lm_head(of_masked, word_embeddings)}  # (M, V)
        if contrastive:
            output["query"] = self.project(of_queries, queries.counts)  # (N, D)
            if self.queue is not None:
                output["key"] = self.encode_keys(key_input)  # (N, D), without gradient
            if self.in_batch:
                output["translation"] = self.project(of_translations, translations.counts)  # (N, D)
        return output

    def sentence_positions(self, packed: dict, first: int, last: int) -> SelectedPositions:
        """Select what the vectors of the sentences [first, last) are made of: their [CLS], or all their tokens."""
        if self.cfg.pooling == "cls":
            return first_tokens(packed["cu_seqlens"][first : last + 1])
        start, lengths = sum(packed["lengths"][:first]), packed["lengths"][first:last]
        places = torch.arange(start, start + sum(lengths), device=packed["tokens"].device)
        return SelectedPositions(places, lengths)

    def project(self, states: torch.Tensor, counts: list[int]) -> torch.Tensor:
        """Pool and project the hidden states at :meth:`sentence_positions`, *counts* of each sentence, to (N, D)."""
        if self.cfg.pooling == "mean":
            starts = torch.tensor([0, *accumulate(counts)], device=states.device)  # (N + 1,)
            states = pool(states, starts, "mean")  # (N, C)
        return self.projection(states)

    def encode(self, packed: dict, selected: SelectedPositions) -> tuple[torch.Tensor, torch.Tensor]:
        """The query encoder's last hidden states at the selected positions (R, C), and its word embeddings (V, C)."""
        packed = dict(packed)
        languages = packed.pop("languages", None)  # (T,)
        if languages is not None:
            packed["added_embedding"] = self.language_embeddings(languages)  # (T, C)
        output = self.encoder(**packed, selected=selected, tied=True)
        return output["hidden"], output["word_embeddings"]

    @torch.no_grad()
    def encode_keys(self, packed: dict) -> torch.Tensor:
        """The momentum encoder's keys (N, D), computed in the training precision; its weights stay in fp32."""
        precision, device = self.encoder.embed_tokens.weight.dtype, packed["tokens"].device
        if precision != torch.float32 and device.type == "cuda":
            encoder, projection = self.momentum_encoder.in_precision(precision)
            return projection(self.sentences(encoder, packed))
        cast = contextlib.nullcontext()
        if precision != torch.float32:
            cast = torch.autocast(device.type, dtype=precision)
        with cast:
            return self.momentum_encoder.projection(self.sentences(self.momentum_encoder.encoder, packed))

    @torch.no_grad()
    def embed(self, packed: dict) -> torch.Tensor:
        """Sentence vectors (B, C) as used after alignment: the query encoder's, without projection head."""
        return self.sentences(self.encoder, packed)

    def sentences(self, encoder: Encoder, packed: dict) -> torch.Tensor:
        """Encode and pool B packed sentences (B, C)."""
        if self.cfg.pooling == "cls":
            return encoder(**packed, selected=first_tokens(packed["cu_seqlens"]))["hidden"]
        return pool(encoder(**packed)["hidden"], packed["cu_seqlens"], self.cfg.pooling)

    def update_succeeded(self) -> None:
        """Move the momentum encoder (MoCo, equation 2), then let the staged keys enter the queue."""
        if self.queue is not None:
            self.momentum_encoder.follow(self.encoder, self.projection, self.cfg.momentum)
            self.queue.commit(distributed_utils.get_data_parallel_group())


@register_model_architecture("ppa", "ppa_bert")
def ppa_bert(args) -> None:
    """An encoder of any size: that of --pretrained."""
    fix_training_args(args)


@register_model_architecture("ppa", "ppa_transformers")
def ppa_transformers(args) -> None:
    """Any encoder that transformers loads: that of --pretrained."""
    fix_training_args(args)


@register_model_architecture("ppa", "ppa_mbert_base")
def ppa_mbert_base(args) -> None:
    """bert-base-multilingual-cased: 12 layers of 768, 178 million parameters."""
    take_mbert_sizes(args)
    fix_training_args(args)
