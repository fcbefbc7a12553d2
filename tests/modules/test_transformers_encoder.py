"""Models of transformers behind our interface, against our own encoder and against transformers."""

import copy

import numpy as np
import pytest
import torch
from helpers.hf_folders import make_bert, make_xlm_roberta

from ppa_fairseq.checkpoints import huggingface
from ppa_fairseq.checkpoints.hf_names import LAYOUTS
from ppa_fairseq.checkpoints.weights import LM_HEAD, no_values
from ppa_fairseq.modules import encoders
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.modules.transformers_encoder import TransformersShape, config_of, pad_by_length

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
FOLDERS = {"BERT": make_bert, "XLM-RoBERTa": make_xlm_roberta}


@pytest.fixture(scope="module", params=FOLDERS)
def forms(request, tmp_path_factory):
    """A kind of model in Hugging Face's names, and one checkpoint of it in our form and in transformers'."""
    folder = tmp_path_factory.mktemp("hf")
    FOLDERS[request.param](folder, **NO_DROPOUT)
    layout = next(layout for layout in LAYOUTS if layout.name == request.param)
    return layout, huggingface.read(folder), huggingface.read(folder, transformers=True)


def dataset_of(dictionary, pairs=24):
    from fairseq.data import ListDataset

    from ppa_fairseq.data.bitext.dataset import AlignmentDataset, ParallelCorpus
    from ppa_fairseq.data.bitext.masking import MaskingScheme

    rng = np.random.default_rng(0)

    def side():
        ids = dictionary.random_ids()
        rows = [[*rng.choice(ids, rng.integers(3, 20)), dictionary.eos()] for _ in range(pairs)]
        return ListDataset([torch.tensor(row) for row in rows], np.array([len(row) for row in rows]))

    corpus = ParallelCorpus(0, "de", "en", side(), side())
    return AlignmentDataset([corpus], dictionary, MaskingScheme.for_dictionary(dictionary, 0.15), seed=1)


def aligned(checkpoint, dictionary, **settings):
    from ppa_fairseq.models._config import shape_of, take_sizes
    from ppa_fairseq.models.ppa import PPAModel, PPAModelConfig

    sizes = dict(projection_dim=8, queue_size=32, momentum=0.9, contrastive_weight=1.0, tlm_weight=1.0, dropout=0.0)
    cfg = PPAModelConfig(**sizes | dict(negatives="queue", tlm_language_embeddings=False, attention_dropout=0.0))
    for name, value in settings.items():
        setattr(cfg, name, value)
    take_sizes(cfg, checkpoint, "the test")
    shape = checkpoint.shape if hasattr(checkpoint.shape, "config") else None
    torch.manual_seed(0)
    model = PPAModel(cfg, shape_of(cfg, dictionary, shape and vars(shape)), dictionary, num_languages=2)
    model.start_from(checkpoint)
    return model.train()


def in_their_names(layout, ours: dict) -> dict:
    """Tensors of our form under transformers' names."""
    found = {}
    for name, theirs in layout.name_table(2, (LM_HEAD,)).items():
        if name in ours:
            found |= dict(zip(theirs, ours[name].chunk(len(theirs)), strict=True))
    return found


def without_prefix(tensors: dict) -> dict:
    return {name.removeprefix("encoder.").removeprefix("lm_head."): tensor for name, tensor in tensors.items()}


def gradients(model) -> dict:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def assert_equal_forms(layout, ours, theirs, tolerance, weights):
    one, other = in_their_names(layout, weights(ours)), without_prefix(weights(theirs))
    assert one.keys() <= other.keys() and len(one) > 30
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("negatives", ["queue", "both"])
def test_both_forms_train_alike(forms, make_criterion, negatives):
    """First losses, gradients, queue and momentum encoder to 1e-5, and to 1e-4 after 20 updates."""
    from ppa_fairseq.data.dictionary import WordPieceDictionary

    layout, *checkpoints = forms
    dictionary = WordPieceDictionary.of(checkpoints[0].build_tokenizer("it"))
    dataset = dataset_of(dictionary)
    ours, theirs = (aligned(one, dictionary, negatives=negatives) for one in checkpoints)
    theirs.projection.load_state_dict(ours.projection.state_dict())
    theirs.momentum_encoder.projection = copy.deepcopy(ours.momentum_encoder.projection)
    criterion = make_criterion(negatives=negatives)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.02) for model in (ours, theirs)]
    for update in range(21):
        tolerance = 1e-5 if update < 2 else 1e-4
        batch = dataset.collater([dataset[(8 * update + i) % len(dataset)] for i in range(8)])
        losses = []
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            criterion.train()
            optimizer.zero_grad()
            loss, pairs, logged = criterion(model, batch)
            (loss / pairs).backward()
            losses.append([float(logged[name]) / pairs for name in ("contrastive", "tlm")])
        assert losses[1] == pytest.approx(losses[0], rel=tolerance)
        assert_equal_forms(layout, ours, theirs, tolerance, gradients)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.step()
            model.update_succeeded()
        torch.testing.assert_close(theirs.queue.keys, ours.queue.keys, rtol=tolerance, atol=tolerance)
        assert_equal_forms(
            layout, ours.momentum_encoder, theirs.momentum_encoder, tolerance, lambda model: dict(model.state_dict())
        )
    assert_equal_forms(layout, ours, theirs, 1e-4, lambda model: dict(model.named_parameters()))
    assert ours.queue.filled == theirs.queue.filled == 32


@pytest.mark.parametrize(
    ("pads", "shapes"),
    [(True, [(3, 900), (3, 300), (1, 1)]), (False, [(1, 900), (1, 899), (1, 800), (1, 300), (2, 40), (1, 1)])],
    ids=["padded", "by length"],
)
def test_padding_keeps_every_token_in_its_place(pads, shapes):
    lengths = [40, 800, 1, 899, 300, 900, 40]
    batches, places = pad_by_length(lengths, pads)
    flat = torch.cat([index.masked_fill(~mask, -1).flatten() for index, mask in batches])
    assert flat[places].tolist() == list(range(sum(lengths)))
    assert (flat >= 0).sum() == sum(lengths)
    assert [tuple(mask.shape) for _, mask in batches] == shapes


def test_mmbert_has_its_real_shape():
    """Built on the meta device: 256,000 tokens, 22 layers of 768, a tied decoder."""
    from transformers import ModernBertConfig

    config = ModernBertConfig(
        vocab_size=256_000, hidden_size=768, intermediate_size=1152, num_hidden_layers=22, num_attention_heads=12,
        max_position_embeddings=8192, pad_token_id=0, bos_token_id=2, eos_token_id=1, cls_token_id=1, sep_token_id=1,
    )  # fmt: skip
    shape = TransformersShape(config.to_json_string(), 255_990, layers=22, dim=768, max_positions=8192, token_types=0)
    with no_values():
        encoder, head = encoders.build(shape, encoders.MASKED_LM, initialise=False)
    packed = pack([torch.arange(7)])
    packed = {name: values.to("meta") if torch.is_tensor(values) else values for name, values in packed.items()}
    output = encoder(**packed, return_layers=True, tied=True)
    logits = head(output["hidden"], output["word_embeddings"])
    assert sum(weight.numel() for weight in encoder.parameters()) == 306_939_648
    assert {name: tuple(weight.shape) for name, weight in head.named_parameters()} == {
        "decoder.bias": (256_000,), "head.dense.weight": (768, 768), "head.norm.weight": (768,),
    }  # fmt: skip
    assert len(output["layers"]) == 23 and logits.shape == (7, 255_990)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rotary_frequencies_stay_in_single_precision(dtype):
    """Half precision would move the positions of distant tokens."""
    from transformers import EuroBertConfig

    sizes = dict(vocab_size=30, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = EuroBertConfig(**sizes, num_key_value_heads=1, pad_token_id=0)
    shape = TransformersShape(config.to_json_string(), 30, layers=1, dim=16, max_positions=64, token_types=0)
    encoder, _ = encoders.build(shape)
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    encoder.to(dtype)
    assert {weight.dtype for weight in encoder.parameters()} == {dtype}
    assert before and all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())


def test_dropouts_are_the_flags_or_the_models_own():
    from transformers import ModernBertConfig

    text = ModernBertConfig(mlp_dropout=0.2, attention_dropout=0.3, classifier_dropout=0.4).to_json_string()
    for flags, expected in (({}, (0.2, 0.3)), ({"dropout": 0.0}, (0.0, 0.3)), ({"attention_dropout": 0}, (0.2, 0.0))):
        config = TransformersShape(text, 9, 1, 9, 9, 0, **flags).read_config()
        assert (config.mlp_dropout, config.attention_dropout) == expected and config.classifier_dropout == 0.4
    assert TransformersShape(text, 9, 1, 9, 9, 0).read_config(head_dropout=0.5).classifier_dropout == 0.5


def test_a_configuration_runs_no_code_of_others():
    """Of the hub's kernels, which transformers fetches by the name of an attention, or of a folder."""
    content = {"model_type": "bert", "attn_implementation": "them/kernels", "auto_map": {"AutoModel": "code.Model"}}
    config = config_of(content)
    assert config._attn_implementation is None and not hasattr(config, "auto_map")


def test_weights_without_gradient_are_frozen(dictionary):
    """DistributedDataParallel waits for every gradient: XLM's language embeddings, which nobody gives, have none."""
    from transformers import BertConfig, XLMConfig

    from ppa_fairseq.models._config import EncoderConfig
    from ppa_fairseq.models._encoder import build_encoder

    xlm = XLMConfig(vocab_size=210, emb_dim=16, n_layers=1, n_heads=2, n_langs=3, pad_index=0, pad_token_id=0)
    bert = BertConfig(vocab_size=210, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    cases = (xlm, encoders.MASKED_LM, {"transformer.lang_embeddings.weight"}), (bert, encoders.CLASSIFICATION, set())
    for config, kind, expected in cases:
        shape = TransformersShape(config.to_json_string(), 210, layers=1, dim=16, max_positions=64, token_types=0)
        encoder, head = build_encoder(EncoderConfig(), shape, dictionary, kind, classes=3)
        assert {name for name, weight in encoder.named_parameters() if not weight.requires_grad} == expected
        assert any("pooler" in name for name, _ in encoder.named_parameters()) == (kind == encoders.CLASSIFICATION)
