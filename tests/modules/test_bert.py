"""Encoder and MLM head against transformers' BERT and XLM-RoBERTa: padded batches there, packed ones here."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig, BertForMaskedLM, XLMRobertaConfig, XLMRobertaForMaskedLM

from ppa_fairseq.checkpoints.hf_names import LAYOUTS
from ppa_fairseq.checkpoints.weights import LM_HEAD, no_values, part
from ppa_fairseq.modules.bert import BertEncoder, BertShape, MaskedLMHead
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.utils.errors import InputError

FAMILIES = {
    "bert": (BertConfig, BertForMaskedLM, LAYOUTS[0]),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForMaskedLM, LAYOUTS[1]),
}
SHAPES = {
    "small": dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96),
    "one head": dict(hidden_size=20, num_hidden_layers=1, num_attention_heads=1, intermediate_size=7),
    "odd": dict(
        hidden_size=30, num_hidden_layers=2, num_attention_heads=5, intermediate_size=61, type_vocab_size=1
    ),
    "eps": dict(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, layer_norm_eps=1e-3
    ),
}
LENGTHS = [2, 31, 17, 8, 9, 16, 5, 40]


def make_pair(vocab_size=60, max_positions=40, family="bert", **sizes):
    """A random masked-LM model, its weights large enough for errors to show, and ours of the same weights.

    `max_positions` are those that a sequence can have.
    """
    torch.manual_seed(0)
    make_config, make_model, layout = FAMILIES[family]
    offset = layout.position_offset
    config = make_config(
        vocab_size=vocab_size, max_position_embeddings=max_positions + offset, attn_implementation="eager", **sizes
    )
    theirs = make_model(config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.dim() == 1:  # biases and LayerNorms: nowhere 0 or 1, so that each one counts
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "embeddings" not in name:
                parameter.mul_(2)
    shape = BertShape(
        vocab_size,
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        max_positions + offset,
        config.type_vocab_size,
        config.layer_norm_eps,
        offset,
    )
    with no_values():
        encoder, head = BertEncoder(shape), MaskedLMHead(shape.dim, vocab_size, shape.layer_norm_eps)
    tensors = {layout.current_name(name): tensor.clone() for name, tensor in theirs.state_dict().items()}
    table = layout.name_table(shape.layers, (LM_HEAD,)).items()
    state = {ours: torch.cat([tensors[name] for name in names]) for ours, names in table}
    encoder.load_state_dict(part(state, "encoder."), assign=True)
    head.load_state_dict(part(state, "lm_head."), assign=True)
    return theirs, encoder.eval(), head.eval()


def make_batch(vocab_size, token_types, lengths):
    """Random token ids (from 2: not the padding, by which XLM-RoBERTa counts positions) and types, (L_b,) each."""
    generator = torch.Generator().manual_seed(1)

    def draw(low, high):
        return [torch.randint(low, high, (length,), generator=generator) for length in lengths]

    return draw(2, vocab_size), draw(0, token_types)


def run_theirs(model, tokens, types):
    """Hidden states of every layer, (T, C) each, and the logits (T, V) of a padded batch's real tokens."""
    batch = {
        "input_ids": tokens,
        "token_type_ids": types,
        "attention_mask": [torch.ones_like(t) for t in tokens],
    }
    padding = {"input_ids": model.config.pad_token_id}
    batch = {
        name: pad_sequence(rows, batch_first=True, padding_value=padding.get(name, 0)) for name, rows in batch.items()
    }
    output, mask = model(**batch, output_hidden_states=True), batch["attention_mask"]
    real = mask.bool()
    return [hidden[real] for hidden in output.hidden_states], output.logits[real]


def assert_equal_to_theirs(theirs, encoder, head, tokens, types):
    with torch.no_grad():
        layers, logits = run_theirs(theirs, tokens, types)
        packed = pack(tokens, types)
        output = encoder(**packed, return_layers=True)
        assert len(output["layers"]) == len(layers)
        for ours, expected in zip(output["layers"], layers, strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
        assert torch.equal(output["hidden"], output["layers"][-1])
        ours = head(output["hidden"], encoder.embed_tokens.weight)
        torch.testing.assert_close(ours, logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SHAPES)
def test_every_layer_and_the_logits_are_within_1e_5(name, family):
    theirs, encoder, head = make_pair(family=family, **SHAPES[name])
    assert_equal_to_theirs(theirs, encoder, head, *make_batch(60, encoder.cfg.token_types, LENGTHS))


def test_at_the_shape_of_mbert():
    sizes = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)
    theirs, encoder, head = make_pair(vocab_size=119_547, max_positions=512, **sizes)
    assert_equal_to_theirs(theirs, encoder, head, *make_batch(119_547, 2, [9, 30, 14]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["small", "odd"])
def test_gradients_are_theirs(name, family):
    theirs, encoder, head = make_pair(family=family, **SHAPES[name])
    tokens, types = make_batch(60, encoder.cfg.token_types, LENGTHS)
    targets = torch.cat(make_batch(60, 1, LENGTHS)[0])
    torch.nn.functional.cross_entropy(run_theirs(theirs, tokens, types)[1], targets).backward()
    hidden = encoder(**pack(tokens, types))["hidden"]
    logits = head(hidden, encoder.embed_tokens.weight)
    torch.nn.functional.cross_entropy(logits, targets).backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters(remove_duplicate=False)}
    modules = {"encoder": encoder, "lm_head": head}
    compared = 0
    for ours, names in FAMILIES[family][2].name_table(encoder.cfg.layers, (LM_HEAD,)).items():
        module, _, parameter = ours.partition(".")
        expected = torch.cat([gradients[name] for name in names])
        actual = modules[module].get_parameter(parameter).grad
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)
        compared += len(names)
    assert compared == len(list(theirs.parameters()))


def test_dropout_off_in_training_mode_changes_nothing_and_on_it_does():
    _, encoder, _ = make_pair(**SHAPES["small"])
    packed = pack(*make_batch(60, 2, LENGTHS))
    still = encoder(**packed)["hidden"]
    encoder.train()
    assert (encoder(**packed)["hidden"] - still).abs().max() > 0.1
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert (encoder(**packed)["hidden"] - still).abs().max() > 0.01  # on attention probabilities
    encoder.cfg.attention_dropout = 0.0
    assert torch.equal(encoder(**packed)["hidden"], still)


def test_positions_are_offset_and_embeddings_added():
    theirs, encoder, head = make_pair(**SHAPES["small"])
    tokens, types = make_batch(60, 2, [7, 3])
    still = encoder(**pack(tokens, types))["hidden"]
    with torch.no_grad():
        encoder.embed_positions.weight[3:] = encoder.embed_positions.weight[:-3].clone()
    encoder.cfg.position_offset = 3
    assert torch.equal(encoder(**pack(tokens, types))["hidden"], still)
    added = torch.zeros(10, 48)
    assert torch.equal(encoder(**pack(tokens, types), added_embedding=added)["hidden"], still)
    added[8] = 1.0
    moved = encoder(**pack(tokens, types), added_embedding=added)["hidden"]
    assert torch.equal(moved[:7], still[:7]) and not torch.isclose(moved[8], still[8]).all()


def test_a_sequence_over_the_position_table_is_refused():
    _, encoder, _ = make_pair(**SHAPES["small"])
    assert encoder.max_positions() == 40
    encoder(**pack(*make_batch(60, 2, [40, 3])))
    with pytest.raises(InputError, match="41 tokens .* 40 positions"):
        encoder(**pack(*make_batch(60, 2, [41, 3])))
    encoder.cfg.position_offset = 2
    with pytest.raises(InputError, match="40 tokens .* 38 positions"):
        encoder(**pack(*make_batch(60, 2, [40, 3])))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_runs_and_stays_close(dtype):
    _, encoder, head = make_pair(**SHAPES["small"])
    packed = pack(*make_batch(60, 2, LENGTHS))
    with torch.no_grad():
        hidden = encoder(**packed)["hidden"]
        logits = head(hidden, encoder.embed_tokens.weight)
        half, half_head = encoder.to(dtype), head.to(dtype)
        half_hidden = half(**packed)["hidden"]
        half_logits = half_head(half_hidden, half.embed_tokens.weight)
    assert half_hidden.dtype == half_logits.dtype == dtype
    torch.testing.assert_close(half_hidden.float(), hidden, rtol=0, atol=0.1)
    torch.testing.assert_close(half_logits.float(), logits, rtol=0, atol=0.2)


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(InputError, match="30 .* 4"):
        BertEncoder(BertShape(dim=30, heads=4))
