"""The last layer computed for some tokens alone gives what the whole layer gives there, and the same gradients."""

import pytest
import torch

from ppa_fairseq.modules.attention import VarlenAttention
from ppa_fairseq.modules.bert import BertEncoder, BertShape, SelectedPositions, first_tokens
from ppa_fairseq.modules.packing import pack, pool, some_sequences

LENGTHS = [9, 3, 17, 9, 1, 8, 24]  # several groups of the padded attention, not in their order
COUNTS = [2, 0, 5, 9, 0, 0, 3]  # one group has none at all, and one sequence all


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    shape = BertShape(vocab_size=50, layers=3, dim=24, ffn_dim=48, heads=4, max_positions=32)
    return BertEncoder(shape).eval()


@pytest.fixture
def packed():
    return pack([torch.randint(0, 50, (length,)) for length in LENGTHS])


def some_tokens(cu_seqlens):
    """COUNTS tokens of each sequence, at random."""
    sequences = zip(cu_seqlens.tolist(), LENGTHS, COUNTS, strict=False)
    drawn = [start + torch.randperm(length)[:count].sort().values for start, length, count in sequences]
    return SelectedPositions(torch.cat(drawn), COUNTS)


@pytest.mark.parametrize("choose", [first_tokens, some_tokens])
def test_values_and_gradients_are_the_whole_layers(encoder, packed, choose):
    selected = choose(packed["cu_seqlens"])
    target = torch.randn(len(selected.places), 24)
    results = []
    for some in (True, False):
        encoder.zero_grad()
        hidden = encoder(**packed, selected=selected if some else None)["hidden"]
        read = hidden if some else hidden[selected.places]
        (read * target).sum().backward()
        results.append((read.detach(), [p.grad.clone() for p in encoder.parameters()]))
    (read, gradients), (whole, whole_gradients) = results
    assert read.shape == (sum(selected.counts), 24)
    torch.testing.assert_close(read, whole, rtol=0, atol=1e-5)
    for ours, expected in zip(gradients, whole_gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_varlen_attention_attend_selected_agrees_with_torch_on_shapes():
    attention = VarlenAttention(torch.empty(5, dtype=torch.int32, device="meta"), 6, [2, 0, 1, 4])
    assert attention.max_count == 4 and attention.query_starts.shape == (5,)
    query = torch.empty(7, 4, 8, dtype=torch.float16, device="meta", requires_grad=True)
    key_value = torch.empty(18, 2, 4, 8, dtype=torch.float16, device="meta", requires_grad=True)
    output = attention.attend_selected(query, key_value)
    output.sum().backward()
    assert output.shape == query.grad.shape == (7, 4, 8) and key_value.grad.shape == key_value.shape


def test_the_word_embeddings_gradient_is_that_of_both_uses(make_model, make_dataset):
    model, dataset = make_model().train(), make_dataset()
    batch = dataset.collater([dataset[i] for i in range(6)])["net_input"]
    gradients = []
    for tied in (True, False):
        model.zero_grad()
        output = model.encoder(**batch["query_input"], tied=tied)
        hidden, words = output["hidden"], output.get("word_embeddings", model.encoder.embed_tokens.weight)
        logits = model.lm_head(hidden[batch["masked"]], words)
        for _ in range(2):  # two micro-batches of one update
            (logits.logsumexp(-1).sum() + hidden.square().mean()).backward(retain_graph=True)
        gradients.append(model.encoder.embed_tokens.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_model_reads_what_the_whole_encoder_gives(make_model, make_dataset, pooling):
    model, dataset = make_model(pooling=pooling).eval(), make_dataset()
    batch = dataset.collater([dataset[i] for i in range(6)])["net_input"]
    output = model(**batch)
    hidden = model.encoder(**batch["query_input"])["hidden"]  # (T, C)
    logits = model.lm_head(hidden[batch["masked"]], model.encoder.embed_tokens.weight)
    torch.testing.assert_close(output["logits"], logits, rtol=0, atol=1e-5)
    queries = some_sequences(batch["query_input"], (0, 6))
    sentence = pool(hidden[: len(queries["tokens"])], queries["cu_seqlens"], pooling)
    torch.testing.assert_close(output["query"], model.projection(sentence), rtol=0, atol=1e-5)
