"""The sides that benchmarks/alignment.py compares: one step of alignment on a batch, as ours and as three peers do it.

All start from the same random weights, with the same dropout, clipping and learning rate, in fp32.
"""

import copy
from abc import ABC, abstractmethod
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from ppa_fairseq.checkpoints.weights import Checkpoint
from ppa_fairseq.data.bitext.micro_batches import micro_batches
from ppa_fairseq.models.ppa import PPAModel, PPAModelConfig
from ppa_fairseq.modules.bert import BertShape, init_bert_params
from ppa_fairseq.modules.host_memory import return_freed
from ppa_fairseq.tasks.ppa_alignment import CPU_TOKENS_AT_ONCE

RATE, DECAY, MOMENTUM, TEMPERATURE, CLIP = 3e-5, 0.01, 0.999, 0.05, 1.0
QUEUE = 32_000


class Ours:
    """The model, criterion and optimizer of a training with ``--optimizer fused_adamw``."""

    def __init__(self, shape: BertShape):
        from ppa_fairseq.criterions.ppa import PPACriterion, PPACriterionConfig
        from ppa_fairseq.optim.fused_adamw import FusedAdamW

        self.model = our_model(shape)
        settings = SimpleNamespace(adam_betas=(0.9, 0.999), adam_eps=1e-8, weight_decay=DECAY, lr=[RATE])
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = FusedAdamW(settings, weights)
        self.criterion = PPACriterion(PPACriterionConfig(temperature=TEMPERATURE), None)

    def loss(self, batch: dict) -> torch.Tensor:
        """Of a pair, on average."""
        loss, pairs, _ = self.criterion(self.model, batch)
        return loss / pairs

    def step(self, batch: dict) -> None:
        self.criterion.train()
        *parts, last = micro_batches(batch, CPU_TOKENS_AT_ONCE)
        for part in parts:
            self.criterion(self.model, part)[0].backward()
            return_freed()
        self.criterion(self.model, last)[0].backward()
        self.optimizer.multiply_grads(1 / batch["nsentences"])
        self.optimizer.clip_grad_norm(CLIP)
        self.optimizer.step()
        self.model.update_succeeded()
        self.optimizer.zero_grad()

    def train(self, mode: bool) -> None:
        self.model.train(mode)


def our_model(shape: BertShape) -> PPAModel:
    """A random PPA model; keys that stand for no pair fill its queue."""
    torch.manual_seed(1)
    cfg = PPAModelConfig(queue_size=QUEUE, momentum=MOMENTUM, contrastive_weight=1.0, tlm_weight=1.0)
    cfg.tlm_language_embeddings = False
    model = PPAModel(cfg, shape, None, num_languages=0)
    model.queue.keys.copy_(F.normalize(torch.randn(model.queue.keys.shape), dim=-1))
    model.queue.filled.fill_(QUEUE)
    return model


class Transformers(ABC):
    """What both of its sides share: a `BertForMaskedLM`, a projection head, their momentum copies and a queue."""

    def __init__(self, shape: BertShape, attention: str, fused: bool):
        from transformers import BertConfig, BertForMaskedLM

        from ppa_fairseq.checkpoints import huggingface

        ours = our_model(shape)
        parts = {f"{name}.{key}": value for name in ("encoder", "lm_head")
                 for key, value in getattr(ours, name).state_dict().items()}  # fmt: skip
        checkpoint = Checkpoint(shape, parts, {})
        self.model = BertForMaskedLM(BertConfig(**huggingface.to_config(checkpoint), attn_implementation=attention))
        missing = self.model.load_state_dict(huggingface.to_tensors(checkpoint), strict=False).missing_keys
        assert set(missing) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}, missing
        self.model.tie_weights()
        self.projection = torch.nn.Sequential(ours.projection.fc1, torch.nn.ReLU(), ours.projection.fc2)
        self.key_encoder = copy.deepcopy(self.model.bert).requires_grad_(False).eval()
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)
        self.queue, self.place = ours.queue.keys, 0
        self.followed = [*self.model.bert.parameters(), *self.projection.parameters()]
        self.following = [*self.key_encoder.parameters(), *self.key_projection.parameters()]
        self.weights = [*self.model.parameters(), *self.projection.parameters()]
        self.optimizer = torch.optim.AdamW(self.weights, lr=RATE, weight_decay=DECAY, fused=fused or None)

    def sentences(self, encoder, projection, packed: dict) -> torch.Tensor:
        first = encoder(**padded(packed)).last_hidden_state[:, 0]  # (N, C)
        return F.normalize(projection(first), dim=-1)

    @abstractmethod
    def masked_loss(self, packed: dict, masked: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Of TLM, on average over the masked places."""

    @abstractmethod
    def follow(self) -> None:
        """The momentum copies' step."""

    def loss(self, batch: dict) -> torch.Tensor:
        return self.loss_and_key(batch)[0]

    def loss_and_key(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        pairs, inputs = batch["nsentences"], batch["net_input"]
        queries, tlm = split(inputs["query_input"], pairs)
        query = self.sentences(self.model.bert, self.projection, queries)
        with torch.no_grad():
            key = self.sentences(self.key_encoder, self.key_projection, inputs["key_input"])
        positive, negative = (query * key).sum(-1, keepdim=True), query @ self.queue.T
        logits = torch.cat([positive, negative], dim=1) / TEMPERATURE
        contrastive = F.cross_entropy(logits, torch.zeros(pairs, dtype=torch.int64))
        masked = inputs["masked"] - len(queries["tokens"])
        return contrastive + self.masked_loss(tlm, masked, batch["target"]), key

    def step(self, batch: dict) -> None:
        loss, key = self.loss_and_key(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            self.follow()
            slots = (self.place + torch.arange(len(key))) % len(self.queue)
            self.queue[slots] = key
        self.place += len(key)

    def train(self, mode: bool) -> None:
        self.model.train(mode)


class Plain(Transformers):
    """As one would write it first: logits of every place, and a loop over the weights for the momentum."""

    def __init__(self, shape: BertShape):
        super().__init__(shape, "eager", fused=False)

    def masked_loss(self, packed: dict, masked: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        labels = torch.full((len(packed["tokens"]),), -100).index_copy(0, masked, target)
        real = places(packed)
        return self.model(**padded(packed), labels=torch.full(real.shape, -100).masked_scatter(real, labels)).loss

    def follow(self) -> None:
        for followed, following in zip(self.followed, self.following, strict=True):
            following.data = MOMENTUM * following.data + (1 - MOMENTUM) * followed.data


class Tuned(Transformers):
    """As an expert would: SDPA, the head on masked places alone, fused AdamW, one call for the momentum."""

    def __init__(self, shape: BertShape):
        super().__init__(shape, "sdpa", fused=True)

    def masked_loss(self, packed: dict, masked: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        hidden = self.model.bert(**padded(packed)).last_hidden_state  # (N, L, C)
        return F.cross_entropy(self.model.cls(hidden[places(packed)][masked]), target)

    def follow(self) -> None:
        torch._foreach_lerp_(self.following, self.followed, 1 - MOMENTUM)


class Fairseq:
    """fairseq's RoBERTa under its criterion masked_lm and its Adam, on the TLM sequences: no queries and no keys."""

    def __init__(self, shape: BertShape):
        from fairseq.criterions.masked_lm import MaskedLmLoss
        from fairseq.models.roberta import RobertaModel
        from fairseq.models.roberta.model import base_architecture
        from fairseq.optim.adam import FairseqAdam

        torch.manual_seed(1)
        self.padding = 0
        symbols = range(shape.vocab_size)
        dictionary = type("Symbols", (), {"__len__": lambda _: len(symbols), "pad": lambda _: self.padding})()
        task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
        sizes = SimpleNamespace(
            encoder_layers=shape.layers, encoder_embed_dim=shape.dim, encoder_ffn_embed_dim=shape.ffn_dim,
            encoder_attention_heads=shape.heads, max_positions=shape.max_positions, tokens_per_sample=512,
            dropout=shape.dropout, attention_dropout=shape.attention_dropout,
        )  # fmt: skip
        base_architecture(sizes)
        self.model = RobertaModel.build_model(sizes, task).apply(init_bert_params)
        settings = SimpleNamespace(adam_betas="(0.9, 0.999)", adam_eps=1e-8, weight_decay=DECAY, lr=[RATE])
        settings.use_old_adam = settings.fp16_adam_stats = settings.tpu = False
        self.optimizer = FairseqAdam(settings, list(self.model.parameters()))
        self.criterion = MaskedLmLoss(SimpleNamespace(tpu=False), task)

    def step(self, batch: dict) -> None:
        inputs = batch["net_input"]
        queries, tlm = split(inputs["query_input"], batch["nsentences"])
        real = places(tlm)
        labels = torch.full((len(tlm["tokens"]),), self.padding)
        labels[inputs["masked"] - len(queries["tokens"])] = batch["target"]
        target, tokens = (
            torch.full(real.shape, self.padding).masked_scatter(real, values) for values in (labels, tlm["tokens"])
        )
        sample = {"net_input": {"src_tokens": tokens, "src_lengths": None}, "target": target}
        sample |= {"nsentences": len(real), "ntokens": len(tlm["tokens"])}
        loss, count, _ = self.criterion(self.model, sample)
        loss.backward()
        self.optimizer.multiply_grads(1 / count)
        self.optimizer.clip_grad_norm(CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def train(self, mode: bool) -> None:
        self.model.train(mode)


SIDES = {"ppa_fairseq": Ours, "transformers, plain": Plain, "transformers, tuned": Tuned, "fairseq masked_lm": Fairseq}


def split(packed: dict, count: int) -> tuple[dict, dict]:
    """The first *count* sequences of a packed batch, and the others."""
    total = sum(packed["lengths"][:count])
    parts = []
    for tokens, sequences in ((slice(0, total), slice(0, count)), (slice(total, None), slice(count, None))):
        part = {name: packed[name][tokens] for name in ("tokens", "token_types")}
        parts.append(part | {"lengths": packed["lengths"][sequences]})
    return tuple(parts)


def places(packed: dict) -> torch.Tensor:
    """Where the tokens are once the sequences are padded, (N, L)."""
    lengths = torch.tensor(packed["lengths"])
    return torch.arange(int(lengths.max())) < lengths[:, None]


def padded(packed: dict) -> dict:
    """The sequences as transformers takes them."""
    real = places(packed)
    inputs = {"attention_mask": real.long()}
    for theirs, ours in (("input_ids", "tokens"), ("token_type_ids", "token_types")):
        inputs[theirs] = torch.zeros(real.shape, dtype=torch.int64).masked_scatter(real, packed[ours])
    return inputs
