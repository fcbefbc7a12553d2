"""In-batch negatives: the loss is sentence-transformers', and both sides are encoded alike."""

import pytest
import torch
import torch.nn.functional as F

from ppa_fairseq.criterions.ppa import in_batch_loss


def random_rows(count, seed, width=6):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_rows(count, seed):
    return F.normalize(random_rows(count, seed), dim=-1)


def test_loss_and_gradient_equal_sentence_transformers():
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesSymmetricRankingLoss

    rows = [random_rows(7, seed).requires_grad_() for seed in (1, 2)]
    theirs = MultipleNegativesSymmetricRankingLoss(torch.nn.Identity(), scale=20.0)
    expected = theirs.compute_loss_from_embeddings(rows, None)
    loss, _ = in_batch_loss(*(F.normalize(side, dim=-1) for side in rows), None, 0.05)
    torch.testing.assert_close(loss / 7, expected, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(one, rows) for one in (loss / 7, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


def test_loss_equals_a_loop_with_translations_of_one_sentence_and_a_queue_left_out():
    query, translation, queue = unit_rows(4, 1), unit_rows(4, 2), unit_rows(3, 3)
    pivots = torch.tensor([5, 6, 5, 7])
    queued = (query @ queue.T).masked_fill(torch.tensor([False, True, False]), -torch.inf)
    loss, scores = in_batch_loss(query, translation, pivots, 0.1, queued)
    expected = 0.0
    for i in range(4):
        others = [j for j in range(4) if j != i and pivots[j] != pivots[i]]
        forward = [query[i] @ translation[j] for j in (i, *others)] + [query[i] @ queue[k] for k in (0, 2)]
        backward = [translation[i] @ query[j] for j in (i, *others)]
        expected -= sum((torch.stack(side) / 0.1).log_softmax(0)[0] for side in (forward, backward)) / 2
    torch.testing.assert_close(loss, expected)
    assert scores.shape == (4, 7)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_translations_are_encoded_as_queries_are(make_model, make_dataset, pooling):
    model, dataset = make_model(pooling=pooling, negatives="both").eval(), make_dataset()
    batch = dataset.collater([dataset[i] for i in range(5)])
    output = model(**batch["net_input"])
    expected = model.projection(model.sentences(model.encoder, batch["net_input"]["key_input"]))
    torch.testing.assert_close(output["translation"], expected, rtol=0, atol=1e-6)
    assert output["translation"].requires_grad and not output["key"].requires_grad
    alone = make_model(pooling=pooling).eval()(**batch["net_input"])
    torch.testing.assert_close(output["query"], alone["query"], rtol=0, atol=1e-6)
    torch.testing.assert_close(output["logits"], alone["logits"], rtol=0, atol=1e-6)
