"""Both losses equal a plain float64 re-implementation of the method (Pan et al. 2021), written as loops."""

import copy
import math

import pytest
import torch
from fairseq.logging import metrics

from ppa_fairseq.criterions.ppa import PPACriterion
from ppa_fairseq.modules.packing import pack


def vector(encoder, projection, tokens, pooling):
    """A sentence's unit vector, by one sequence through the encoder and loops over its dimensions."""
    hidden = encoder(**pack([tokens]))["hidden"]
    pooled = hidden[0] if pooling == "cls" else sum(hidden) / len(hidden)
    if projection.kind == "mlp":
        rows = zip(projection.fc1.weight, projection.fc1.bias, strict=True)
        pooled = torch.tensor([max(0.0, float(w @ pooled + b)) for w, b in rows], dtype=torch.float64)
    projected = pooled.tolist()
    if projection.kind != "none":
        projected = [float(w @ pooled + b) for w, b in zip(projection.fc2.weight, projection.fc2.bias, strict=True)]
    norm = math.sqrt(sum(x * x for x in projected))
    return [x / norm for x in projected]


def info_nce(query, key, negatives, temperature):
    positive = math.exp(sum(a * b for a, b in zip(query, key, strict=True)) / temperature)
    total = positive
    for negative in negatives:
        total += math.exp(sum(a * b for a, b in zip(query, negative, strict=True)) / temperature)
    return -math.log(positive / total)


def sequences(packed):
    return [tokens.clone() for tokens in packed["tokens"].split(packed["lengths"])]


@pytest.mark.parametrize(("pooling", "head"), [("cls", "mlp"), ("mean", "mlp"), ("mean", "linear"), ("mean", "none")])
def test_losses_equal_plain_float64(make_model, make_criterion, make_dataset, pooling, head):
    model, dataset, temperature = make_model(pooling=pooling, projection_head=head).train(), make_dataset(), 0.05
    criterion = make_criterion(temperature=temperature)
    criterion.train()
    with torch.no_grad():  # the momentum encoder must differ from the query encoder
        for weight in model.momentum_encoder.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    # A queue with room: two keys of strangers, one whose English side is that of the first pair, and empty slots.
    first, second = (dataset.collater([dataset[i] for i in ids]) for ids in ([0, 3, 11], [1, 3, 6, 12]))
    _, _, _ = criterion(model, first)
    model.queue.commit()
    assert int(model.queue.filled) == 3

    loss, sample_size, logged = criterion(model, second)

    encoder, projection = copy.deepcopy(model.encoder).double(), copy.deepcopy(model.projection).double()
    momentum_encoder = copy.deepcopy(model.momentum_encoder)
    key_encoder, key_projection = momentum_encoder.encoder.double(), momentum_encoder.projection.double()
    with torch.no_grad():
        queue = [
            (vector(key_encoder, key_projection, tokens, pooling), pivot)
            for tokens, pivot in zip(sequences(first["net_input"]["key_input"]), first["pivot"].tolist(), strict=True)
        ]
        query_input = second["net_input"]["query_input"]
        parts = sequences(query_input)
        contrastive, false_negatives = 0.0, 0
        for number, key_tokens in enumerate(sequences(second["net_input"]["key_input"])):
            pivot = int(second["pivot"][number])
            negatives = [negative for negative, other in queue if other != pivot]
            false_negatives += len(queue) - len(negatives)
            query = vector(encoder, projection, parts[number], pooling)
            key = vector(key_encoder, key_projection, key_tokens, pooling)
            contrastive += info_nce(query, key, negatives, temperature)
        assert false_negatives == 1  # pair 3 is in both batches

        head, table = copy.deepcopy(model.lm_head).double(), encoder.embed_tokens.weight
        tlm, offset = 0.0, sum(len(part) for part in parts[:4])
        places = second["net_input"]["masked"].tolist()
        for part in parts[4:]:
            types = torch.zeros_like(part)
            types[part.tolist().index(dataset.corpora[0].source[0][-1].item()) + 1 :] = 1  # after the first [SEP]
            hidden = encoder(**pack([part], token_types=[types]))["hidden"]
            for place, target in zip(places, second["target"].tolist(), strict=True):
                if offset <= place < offset + len(part):
                    scores = [math.exp(x) for x in head(hidden[place - offset : place - offset + 1], table)[0].tolist()]
                    tlm += -math.log(scores[target] / sum(scores))
            offset += len(part)

    assert sample_size == 4
    assert float(logged["contrastive"]) == pytest.approx(contrastive, rel=1e-5)
    assert float(logged["tlm"]) == pytest.approx(tlm, rel=1e-5)
    assert int(logged["false_negatives"]) == 1
    assert float(loss) / 4 == pytest.approx(contrastive / 4 + tlm / len(places), rel=1e-5)


def test_weights_scale_each_mean(make_model, make_criterion, make_dataset):
    model, dataset = make_model(), make_dataset()
    batch = dataset.collater([dataset[i] for i in range(6)])
    _, _, logged = make_criterion()(model, batch)
    loss, pairs, _ = make_criterion(contrastive_weight=2.0, tlm_weight=0.5)(model, batch)
    expected = 2.0 * logged["contrastive"] / pairs + 0.5 * logged["tlm"] / len(batch["target"])
    assert float(loss) / pairs == pytest.approx(float(expected), rel=1e-6)


def test_accumulated_gradient_is_the_large_batchs(make_model, make_criterion, make_dataset):
    """Ragged micro-batches of one update sum to the gradient of one batch, for both terms."""
    model, dataset, criterion = make_model().train(), make_dataset(), make_criterion()
    criterion.train()
    criterion(model, dataset.collater([dataset[i] for i in range(8)]))
    model.queue.commit()

    def gradient(batches):
        pairs = sum(batch["nsentences"] for batch in batches)
        masked = sum(len(batch["target"]) for batch in batches)
        model.zero_grad()
        for batch in batches:
            loss, _, _ = criterion(model, batch | {"pairs_per_masked": pairs / masked})
            (loss / pairs).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    samples = [dataset[i] for i in range(len(dataset))]
    whole = gradient([dataset.collater(samples)])
    split = gradient([dataset.collater(samples[:2]), dataset.collater(samples[2:9]), dataset.collater(samples[9:])])
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], rtol=1e-4, atol=1e-6, msg=name)


def test_first_batch_has_no_negatives(make_model, make_criterion, make_dataset):
    dataset = make_dataset()
    _, _, logged = make_criterion()(make_model(), dataset.collater([dataset[0], dataset[1]]))
    assert float(logged["contrastive"]) == 0.0
    with metrics.aggregate(new_root=True) as aggregator:
        PPACriterion.reduce_metrics([logged])
    names = aggregator.get_smoothed_values().keys()
    assert "pos_sim" in names and not {"contrastive", "contrastive_acc", "hard_neg_sim"} & names  # it would be 100 %


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.0}, {"tlm_weight": -1.0}, {"tlm_weight": 0.0, "contrastive_weight": 0.0}]
)
def test_weights_and_temperatures_out_of_range_are_refused(make_criterion, settings):
    from ppa_fairseq.utils.errors import InputError

    with pytest.raises(InputError, match="--temperature|--tlm-weight"):
        make_criterion(**settings)
