"""BERT over packed batches, and its masked-LM head.

Devlin et al. 2019, as Hugging Face computes it: word + position + token-type embeddings, LayerNorm after
every residual sum (post-LN), erf GELU; in fp32 within 1e-5 of `transformers` (tests/modules/test_bert.py).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ppa_fairseq.modules.attention import plan_attention, trains_in_cpu_bf16
from ppa_fairseq.modules.cpu import TiedEmbedding
from ppa_fairseq.utils.errors import InputError


@dataclass
class BertShape:
    """The sizes of a BERT; the defaults are bert-base-multilingual-cased (mBERT)."""

    vocab_size: int = 119_547
    layers: int = 12
    dim: int = 768
    ffn_dim: int = 3072
    heads: int = 12
    max_positions: int = 512
    token_types: int = 2
    layer_norm_eps: float = 1e-12
    position_offset: int = 0  # row of the position table that position 0 takes (XLM-R: its padding id + 1)
    dropout: float = 0.1
    attention_dropout: float = 0.1


@dataclass
class SelectedPositions:
    """The tokens of a packed batch whose last hidden states are read."""

    places: Tensor  # (R,) int64, ascending
    counts: list[int]  # selected tokens of each of the B sequences


def first_tokens(cu_seqlens: Tensor) -> SelectedPositions:
    """Select each sequence's [CLS]."""
    return SelectedPositions(cu_seqlens[:-1].long(), [1] * (len(cu_seqlens) - 1))


class BertEncoder(nn.Module):
    """Packed token ids -> packed hidden states. *base_arguments* are for another base class of a subclass."""

    def __init__(self, cfg: BertShape, *base_arguments):
        super().__init__(*base_arguments)
        if cfg.dim % cfg.heads:
            raise InputError(f"encoder width {cfg.dim} is not a multiple of its {cfg.heads} attention heads")
        self.cfg = cfg
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.dim)
        self.embed_positions = nn.Embedding(cfg.max_positions, cfg.dim)
        self.embed_token_types = nn.Embedding(cfg.token_types, cfg.dim)
        self.layernorm_embedding = nn.LayerNorm(cfg.dim, eps=cfg.layer_norm_eps)
        self.dropout = nn.Dropout(cfg.dropout)
        self.layers = nn.ModuleList(BertLayer(cfg) for _ in range(cfg.layers))
        self.apply(init_bert_params)

    def max_positions(self) -> int:
        """Return the longest sequence, in tokens, that the position table takes."""
        return self.cfg.max_positions - self.cfg.position_offset

    def keep_layers(self, number: int) -> None:
        """Drop the layers above the first *number*."""
        self.layers = self.layers[:number]

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        token_types: Tensor,
        cu_seqlens: Tensor,
        lengths: list[int],
        max_length: int,
        added_embedding: Tensor | None = None,
        return_layers: bool = False,
        selected: SelectedPositions | None = None,
        tied: bool = False,
    ) -> dict:
        """Encode a packed batch (modules/packing.py describes its entries).

        Args:
            added_embedding: (T, C), such as of languages, added to the embeddings before their LayerNorm.
            return_layers: also return every layer's output.
            selected: compute the last layer for these R tokens alone: equal values, less work.
            tied: also return the word embeddings, for an MLM head in the same backward pass.

        Returns:
            "hidden" (T, C), or (R, C) with *selected*; with *return_layers* "layers", a list of (T, C) that begins with
            the embeddings; with *tied* "word_embeddings" (V, C).

        Raises:
            InputError: a sequence is longer than the position table.
        """
        if max_length > self.max_positions():
            raise InputError(too_long(max_length, self.max_positions()))
        words, word_embeddings = self.embed_words(tokens, tied)
        hidden = (
            words
            + self.embed_positions(positions + self.cfg.position_offset)
            + self.embed_token_types(token_types)
        )  # (T, C)
        if added_embedding is not None:
            hidden = hidden + added_embedding
        hidden = self.dropout(self.layernorm_embedding(hidden))
        if trains_in_cpu_bf16(hidden.device):
            hidden = hidden.bfloat16()  # else every layer casts its inputs, and writes fp32 sums
        attention = plan_attention(
            cu_seqlens,
            lengths,
            max_length,
            dtype=compute_dtype(hidden),
            head_dim=self.cfg.dim // self.cfg.heads,
            p=self.cfg.attention_dropout if self.training else 0.0,
            counts=selected and selected.counts,
        )
        layers = [hidden]
        for layer in self.layers:
            last = selected and layer is self.layers[-1]
            hidden = layer(hidden, attention, selected.places if last else None)
            layers.append(hidden)
        output = {"hidden": hidden}
        if return_layers:
            output["layers"] = layers
        if tied:
            output["word_embeddings"] = word_embeddings
        return output

    def embed_words(self, tokens: Tensor, tied: bool) -> tuple[Tensor, Tensor]:
        """(T,) -> (T, C), and all word embeddings (V, C)."""
        weight = self.embed_tokens.weight
        # On the CPU alone: a GPU would add rows in another order at every run.
        if tied and weight.device.type == "cpu":
            return TiedEmbedding.apply(weight, tokens)
        return F.embedding(tokens, weight), weight


class BertLayer(nn.Module):
    """Self-attention and feed-forward, each with dropout, residual sum and LayerNorm."""

    def __init__(self, cfg: BertShape):
        super().__init__()
        self.self_attn = SelfAttention(cfg.dim, cfg.heads)
        self.self_attn_layer_norm = nn.LayerNorm(cfg.dim, eps=cfg.layer_norm_eps)
        self.fc1 = nn.Linear(cfg.dim, cfg.ffn_dim)
        self.fc2 = nn.Linear(cfg.ffn_dim, cfg.dim)
        self.final_layer_norm = nn.LayerNorm(cfg.dim, eps=cfg.layer_norm_eps)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, hidden: Tensor, attention, places: Tensor | None = None) -> Tensor:
        """(T, C) -> (T, C); with `places` (R,) -> (R, C), of the tokens there alone."""
        attended = self.self_attn(hidden, attention, places)
        if places is not None:
            hidden = hidden[places]
        hidden = self.self_attn_layer_norm(hidden + self.dropout(attended))
        return self.final_layer_norm(hidden + self.dropout(self._feed(hidden)))

    def _feed(self, hidden: Tensor) -> Tensor:
        wide = self.fc1(hidden)  # (T, F)
        if not torch.is_grad_enabled() or has_adapter(self.fc2):
            return self.fc2(F.gelu(wide))
        weight, bias = self.fc2.weight.to(wide.dtype), self.fc2.bias.to(wide.dtype)  # autocast's dtype, where it is on
        return GeluLinear.apply(wide, weight, bias)


class GeluLinear(torch.autograd.Function):
    """gelu(x) Wᵀ + b: (T, F), (C, F), (C,) -> (T, C).

    The backward pass computes GELU again, which takes little time, in place of keeping its output, which is as large as
    the largest activation of a layer.
    """

    @staticmethod
    def forward(ctx, wide: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(wide, weight)
        return F.linear(F.gelu(wide), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wide, weight = ctx.saved_tensors
        of_wide, of_weight, of_bias = ctx.needs_input_grad  # not all: of a frozen layer, or above frozen layers
        return (
            torch.ops.aten.gelu_backward(gradient @ weight, wide) if of_wide else None,
            gradient.t() @ F.gelu(wide) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


class SelfAttention(nn.Module):
    """Query, key and value in one projection."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, hidden: Tensor, attention, places: Tensor | None = None) -> Tensor:
        if places is None or has_adapter(self.qkv_proj):
            qkv = self.qkv_proj(hidden).unflatten(1, (3, self.heads, -1))  # (T, 3, H, D)
            attended = attention(qkv) if places is None else attention.attend_selected(qkv[places, 0], qkv[:, 1:])
            return self.out_proj(attended.flatten(1))
        (weight, kv_weight), (bias, kv_bias) = (
            part.split([len(part) // 3, 2 * len(part) // 3]) for part in (self.qkv_proj.weight, self.qkv_proj.bias)
        )
        query = F.linear(hidden[places], weight, bias).unflatten(1, (self.heads, -1))  # (R, H, D)
        key_value = F.linear(hidden, kv_weight, kv_bias).unflatten(1, (2, self.heads, -1))  # (T, 2, H, D)
        return self.out_proj(attention.attend_selected(query, key_value).flatten(1))


class MaskedLMHead(nn.Module):
    """Map hidden states of masked positions to vocabulary logits; the decoder's weight is the word embeddings.

    Run it on the masked positions alone: on all positions, a vocabulary of 119,547 is most of the step.
    """

    def __init__(self, dim: int, vocab_size: int, layer_norm_eps: float, embedding_dim: int | None = None):
        super().__init__()
        width = embedding_dim or dim
        self.dense = nn.Linear(dim, width)
        self.layer_norm = nn.LayerNorm(width, eps=layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.apply(init_bert_params)

    def forward(self, hidden: Tensor, embedding_weight: Tensor) -> Tensor:
        """(M, C) and the tied word embeddings (V, C) -> logits (M, V)."""
        if len(embedding_weight) > len(self.bias):  # of ids without a token
            embedding_weight = embedding_weight[: len(self.bias)]
        hidden = self.layer_norm(F.gelu(self.dense(hidden)))
        if hidden.device.type == "cuda":
            return padded_linear(hidden, embedding_weight, self.bias)
        return F.linear(hidden, embedding_weight, self.bias)


def padded_linear(hidden: Tensor, weight: Tensor, bias: Tensor, multiple: int = 64) -> Tensor:
    """`F.linear` with its V outputs padded to a *multiple* inside: (M, C), (V, C), (V,) -> (M, V).

    A GPU's fast kernels need aligned rows, forward and backward; mBERT's vocabulary is odd.
    """
    more = -len(weight) % multiple
    return F.linear(hidden, F.pad(weight, (0, 0, 0, more)), F.pad(bias, (0, more)))[:, : len(weight)]


def has_adapter(layer: nn.Module) -> bool:
    """Whether a linear layer computes more than its weight and its bias say (modules/lora.py)."""
    return type(layer) is not nn.Linear


def too_long(length: int, positions: int) -> str:
    """The message on a sequence that is longer than the position table."""
    return (
        f"a sequence of {length} tokens does not fit the encoder's {positions} positions; shorten the input or lower "
        "the maximum length"
    )


def init_bert_params(module: nn.Module) -> None:
    """Initialise as BERT: N(0, 0.02) for weights, 0 for biases; LayerNorm starts as the identity."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def compute_dtype(hidden: Tensor) -> torch.dtype:
    """Return the dtype in which a linear layer computes on `hidden`: autocast's where it is on."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
