"""The masked-LM head in closed form: on states that follow its assumption it is as good as the true posterior."""

import math

import pytest
import torch
import torch.nn.functional as F

from ppa_fairseq.modules.masked_lm_fit import fit_masked_lm_head

VOCABULARY, DIM = 40, 24


@pytest.fixture
def world():
    """Tokens with embeddings, and hidden states h ~ N(A e_t, Σ) with a Σ that is no multiple of 1."""
    torch.manual_seed(0)
    words = torch.randn(VOCABULARY, DIM)
    frequency = torch.rand(VOCABULARY) + 0.1
    means = words @ torch.randn(DIM, DIM) / DIM**0.5 + 3.0  # (V, C), far from 0
    noise = torch.linalg.qr(torch.randn(DIM, DIM))[0] * torch.linspace(0.5, 3.0, DIM)  # (C, C)
    target = torch.multinomial(frequency, 12_000, replacement=True)
    hidden = means[target] + torch.randn(len(target), DIM) @ noise.T
    return words, frequency, means, noise @ noise.T, hidden, target


def bits(logits, target):
    return F.cross_entropy(logits, target).item() / math.log(2)


def test_fit_is_near_the_true_posterior(world):
    words, frequency, means, covariance, hidden, target = world
    fitted, test = slice(0, 10_000), slice(10_000, None)
    counts = torch.bincount(target, minlength=VOCABULARY).float()
    head, held_out = fit_masked_lm_head(hidden[fitted], target[fitted], words, counts, 1e-12)
    precise = torch.linalg.inv(covariance)
    true = hidden[test] @ precise @ means.T - 0.5 * (means @ precise * means).sum(1) + frequency.log()
    unigram = bits(counts.log().expand(2000, -1), target[test])
    best, ours = bits(true, target[test]), bits(head(hidden[test], words), target[test])
    assert best < ours < best + 0.25 * (unigram - best), (best, ours, unigram)
    assert held_out == pytest.approx(ours, abs=0.15)


def test_gelu_is_nearly_the_identity_where_the_states_are(world):
    words, _, _, _, hidden, target = world
    head, _ = fit_masked_lm_head(hidden, target, words, torch.ones(VOCABULARY), 1e-12)
    dense = head.dense(hidden)
    assert (dense - F.gelu(dense)).abs().mean() < 0.01


def test_a_token_that_never_occurs_is_possible_but_rare(world):
    words, _, _, _, hidden, target = world
    counts = torch.bincount(target, minlength=VOCABULARY).float()
    counts[7] = 0
    known = target != 7
    head, _ = fit_masked_lm_head(hidden[known], target[known], words, counts, 1e-12)
    probability = head(hidden[known], words).softmax(-1)[:, 7].mean()
    assert 0 < probability < 0.01
