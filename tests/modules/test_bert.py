"""Encoder and MLM head against transformers' BERT and XLM-RoBERTa: padded batches there, packed ones here."""

from itertools import product

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig, BertForMaskedLM, XLMRobertaConfig, XLMRobertaForMaskedLM

from ppa_fairseq.checkpoints.hf_names import LAYOUTS
from ppa_fairseq.checkpoints.weights import LM_HEAD, no_values, part
from ppa_fairseq.modules.bert import BertEncoder, BertShape, MaskedLMHead, padded_linear
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.utils.errors import InputError

FAMILIES = {
    "bert": (BertConfig, BertForMaskedLM, LAYOUTS[0]),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForMaskedLM, LAYOUTS[1]),
}
SHAPES = {  # layers, width, feed-forward width, heads, and what differs from the defaults
    "small": (3, 48, 96, 4, {}),
    "one head": (1, 20, 7, 1, {}),
    "odd": (2, 30, 61, 5, {"type_vocab_size": 1}),
    "eps": (2, 16, 32, 2, {"layer_norm_eps": 1e-3}),
    "mBERT": (12, 768, 3072, 12, {"vocab_size": 119_547, "max_position_embeddings": 512}),
}
LENGTHS = [2, 31, 17, 8, 9, 16, 5, 40]


def make_pair(name="small", family="bert"):
    """A random masked-LM model, its weights large enough for errors to show, and ours of the same weights."""
    torch.manual_seed(0)
    make_config, make_model, layout = FAMILIES[family]
    layers, dim, ffn_dim, heads, others = SHAPES[name]
    config = make_config(
        num_hidden_layers=layers, hidden_size=dim, intermediate_size=ffn_dim, num_attention_heads=heads,
        **{"vocab_size": 60, "max_position_embeddings": 40 + layout.position_offset} | others,
        attn_implementation="eager",
    )  # fmt: skip
    theirs = make_model(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in theirs.named_parameters():
            if parameter.dim() == 1:  # biases and LayerNorms: nowhere 0 or 1, so that each one counts
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "embeddings" not in parameter_name:
                parameter.mul_(2)
    sizes = config.max_position_embeddings, config.type_vocab_size, config.layer_norm_eps, layout.position_offset
    shape = BertShape(config.vocab_size, layers, dim, ffn_dim, heads, *sizes)
    with no_values():
        encoder, head = BertEncoder(shape), MaskedLMHead(dim, shape.vocab_size, shape.layer_norm_eps)
    tensors = {layout.current_name(name): tensor.clone() for name, tensor in theirs.state_dict().items()}
    table = layout.name_table(layers, (LM_HEAD,)).items()
    state = {ours: torch.cat([tensors[name] for name in names]) for ours, names in table}
    encoder.load_state_dict(part(state, "encoder."), assign=True)
    head.load_state_dict(part(state, LM_HEAD), assign=True)
    return theirs, encoder.eval(), head.eval()


def make_batch(shape, lengths=LENGTHS):
    """Random token ids (from 2: not the padding, by which XLM-RoBERTa counts positions) and types, (L_b,) each."""
    generator = torch.Generator().manual_seed(1)
    ranges = (2, shape.vocab_size), (0, shape.token_types)
    return [[torch.randint(*limits, (length,), generator=generator) for length in lengths] for limits in ranges]


def run_theirs(model, tokens, types):
    """Hidden states of every layer, (T, C) each, and the logits (T, V) of a padded batch's real tokens."""
    ids = pad_sequence(tokens, batch_first=True, padding_value=model.config.pad_token_id)
    types, mask = (pad_sequence(rows, batch_first=True) for rows in (types, [torch.ones_like(row) for row in tokens]))
    output = model(input_ids=ids, token_type_ids=types, attention_mask=mask, output_hidden_states=True)
    return [hidden[mask.bool()] for hidden in output.hidden_states], output.logits[mask.bool()]


@pytest.mark.parametrize(("name", "family"), [*product(list(SHAPES)[:-1], FAMILIES), ("mBERT", "bert")])
def test_every_layer_and_the_logits_are_within_1e_5(name, family):
    theirs, encoder, head = make_pair(name, family)
    tokens, types = make_batch(encoder.cfg, [9, 30, 14] if name == "mBERT" else LENGTHS)
    with torch.no_grad():
        layers, logits = run_theirs(theirs, tokens, types)
        output = encoder(**pack(tokens, types), return_layers=True)
        torch.testing.assert_close(output["layers"], layers, rtol=0, atol=1e-5)
        assert torch.equal(output["hidden"], output["layers"][-1])
        ours = head(output["hidden"], encoder.embed_tokens.weight)
        torch.testing.assert_close(ours, logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["small", "odd"])
def test_gradients_are_theirs(name, family):
    theirs, encoder, head = make_pair(name, family)
    tokens, types = make_batch(encoder.cfg)
    targets = torch.cat(tokens).flip(0)
    torch.nn.functional.cross_entropy(run_theirs(theirs, tokens, types)[1], targets).backward()
    logits = head(encoder(**pack(tokens, types))["hidden"], encoder.embed_tokens.weight)
    torch.nn.functional.cross_entropy(logits, targets).backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters(remove_duplicate=False)}
    modules = torch.nn.ModuleDict({"encoder": encoder, "lm_head": head})
    table = FAMILIES[family][2].name_table(encoder.cfg.layers, (LM_HEAD,))
    for ours, names in table.items():
        expected = torch.cat([gradients[name] for name in names])
        torch.testing.assert_close(modules.get_parameter(ours).grad, expected, rtol=1e-4, atol=1e-6)
    assert sum(map(len, table.values())) == len(list(theirs.parameters()))


def test_dropout_off_in_training_mode_changes_nothing_and_on_it_does():
    _, encoder, _ = make_pair()
    packed = pack(*make_batch(encoder.cfg))
    still = encoder(**packed)["hidden"]
    encoder.train()
    assert (encoder(**packed)["hidden"] - still).abs().max() > 0.1
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert (encoder(**packed)["hidden"] - still).abs().max() > 0.01  # on attention probabilities
    encoder.cfg.attention_dropout = 0.0
    assert torch.equal(encoder(**packed)["hidden"], still)


def test_an_added_embedding_changes_its_sequence_alone():
    _, encoder, _ = make_pair()
    packed, added = pack(*make_batch(encoder.cfg, [7, 3])), torch.zeros(10, 48)
    still = encoder(**packed)["hidden"]
    assert torch.equal(encoder(**packed, added_embedding=added)["hidden"], still)
    added[8] = 1.0
    moved = encoder(**packed, added_embedding=added)["hidden"]
    assert torch.equal(moved[:7], still[:7]) and not torch.isclose(moved[8], still[8]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sequence_over_the_position_table_is_refused(family):
    _, encoder, _ = make_pair(family=family)
    encoder(**pack(*make_batch(encoder.cfg, [40, 3])))
    with pytest.raises(InputError, match="41 tokens .* 40 positions"):
        encoder(**pack(*make_batch(encoder.cfg, [41, 3])))


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(InputError, match="30 .* 4"):
        BertEncoder(BertShape(dim=30, heads=4))


@pytest.mark.parametrize("outputs", [1, 64, 119])
def test_padded_outputs_are_left_out_of_values_and_gradients(outputs):
    torch.manual_seed(0)
    inputs = [torch.randn(size, requires_grad=True) for size in ((7, 16), (outputs, 16), (outputs,))]
    target = torch.randint(outputs, (7,))
    results = []
    for function in (padded_linear, torch.nn.functional.linear):
        found = function(*inputs)
        loss = torch.nn.functional.cross_entropy(found, target)
        results.append([found, *torch.autograd.grad(loss, inputs)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)
