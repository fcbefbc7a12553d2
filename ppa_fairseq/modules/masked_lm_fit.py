"""A masked-LM head in closed form, for an encoder that has none.

Take each token t as a normal distribution of hidden states, with a mean that is linear in its embedding e_t and one
covariance Σ for all (linear discriminant analysis): h ~ N(A e_t, Σ). Then

    log p(t | h) = e_tᵀ Aᵀ Σ⁻¹ h − ½ e_tᵀ Aᵀ Σ⁻¹ A e_t + log p(t) + const.

The first term is the head's dense layer in front of its decoder, the tied embeddings; the others are its bias. The GELU
and the LayerNorm between them stay: a shift moves the dense layer's outputs to where GELU is the identity, LayerNorm
takes the shift off again, and its gain is the one scale that is chosen on held-out states.
"""

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from ppa_fairseq.modules.bert import MaskedLMHead

RIDGE = 0.3  # of the regressions, as a share of the mean variance
SPREAD, SHIFT = 1.5, 6.0  # of the dense layer's outputs: 99.9 % are above 1.4, where GELU is nearly the identity
GAINS = (0.35, 0.5, 0.7, 1.0, 1.4)  # of the LayerNorm
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the quadratic term in the bias
HELD_OUT = 1000  # states to choose these two on


def fit_masked_lm_head(
    hidden: Tensor, target: Tensor, words: Tensor, counts: Tensor, eps: float
) -> tuple[MaskedLMHead, float]:
    """Fit a head on hidden states of masked tokens.

    Args:
        hidden: (M, C), at the places of [MASK].
        target: (M,) ids of the tokens that stood there.
        words: (V, C) word embeddings, to which the decoder is tied.
        counts: (V,) how often each token occurs in the text; a token that does not counts as half.
        eps: of the LayerNorm.

    Returns:
        The head, and its cross-entropy on held-out states in bits.
    """
    held_out = min(HELD_OUT, len(hidden) // 5)
    test, test_target = hidden[:held_out], target[:held_out]
    train, target = hidden[held_out:].double(), target[held_out:]
    vocab_size, dim = words.shape
    prior = (counts + 0.5) / (counts + 0.5).sum()  # (V,)
    embeddings = words.double() - (prior.double() @ words.double())  # (V, C) with mean 0
    mean = train.mean(0)
    train = train - mean
    known = embeddings[target]
    known = known - known.mean(0)  # (M, C)
    means = torch.linalg.solve(_covariance(known), known.T @ train / len(train))  # Aᵀ: e_t @ means is a hidden state
    dense = torch.linalg.solve(_covariance(train - known @ means), means.T)  # Σ⁻¹ A: (C of h, C of e_t)
    quadratic = -0.5 * ((embeddings @ means @ dense) * embeddings).sum(1)  # (V,)
    scale = SPREAD / (train @ dense).std()

    head = MaskedLMHead(dim, vocab_size, eps)
    with torch.no_grad():
        head.dense.weight.copy_(scale * dense.T)
        head.dense.bias.copy_(SHIFT - scale * mean @ dense)
        logits = head(test, words)  # (held out, V), with gain 1 and no bias
        best = math.inf
        for gain, share in product(GAINS, SHARES):
            bias = prior.log() + share * quadratic.float()
            loss = F.cross_entropy(gain * logits + bias, test_target).item() / math.log(2)
            if loss < best:
                best = loss
                head.layer_norm.weight.fill_(gain)
                head.bias.copy_(bias)
    return head, best


def _covariance(rows: Tensor) -> Tensor:
    """(C, C) of rows (M, C) with mean 0, with a ridge."""
    covariance = rows.T @ rows / len(rows)
    return covariance + RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=rows.dtype)
