"""Checkpoints as fairseq-train writes them: what is read, what is left, what is refused."""

import json
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import SHAPE, TOKENIZER, Touch, random_state, spoilt_model_cfg, trained

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, SPAN_HEAD, Checkpoint, part
from ppa_fairseq.modules.bert import BertEncoder
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.utils.errors import InputError


def finetuned(classes=3):
    """Weights of a fine-tuned model: no MLM head, both heads that fine-tuning can make."""
    state = {name: tensor for name, tensor in random_state().items() if name.startswith("encoder.")}
    dense, out_proj, span = torch.nn.Linear(8, 8), torch.nn.Linear(8, classes), torch.nn.Linear(8, 2)
    for prefix, module in (("dense.", dense), ("out_proj.", out_proj)):
        state |= {f"{CLASSIFICATION_HEAD}{prefix}{n}": t.detach() for n, t in module.named_parameters()}
    return state | {SPAN_HEAD + name: tensor.detach() for name, tensor in span.named_parameters()}


def labelled(*labels):
    return {"tokenizer": TOKENIZER, "labels": list(labels)}


def save(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("old_format", [False, True])
def test_query_encoder_and_head_alone_are_read(tmp_path, old_format):
    torch.save(trained(), tmp_path / "c.pt", _use_new_zipfile_serialization=not old_format)
    read = checkpoint.read(tmp_path / "c.pt")
    assert read.shape == SHAPE and read.pooling == "cls" and read.tokenizer == TOKENIZER
    assert read.state.keys() == random_state().keys()
    assert all(torch.equal(read.state[name], tensor) for name, tensor in random_state().items())


def test_encoder_computes_in_fp32_and_eval_mode_whatever_was_saved(tmp_path):
    half = {name: tensor.half() for name, tensor in random_state().items()}
    encoder, tokenizer = checkpoint.load_encoder(save(tmp_path / "c.pt", trained(model=half)))
    assert not encoder.training and {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert {p.device.type for p in encoder.parameters()} == {"cpu"}
    assert tokenizer.encode("a c").ids == [2, 5, 7, 3]
    expected = BertEncoder(SHAPE).eval()
    with torch.no_grad():
        for name, parameter in expected.named_parameters():
            parameter.copy_(half[f"encoder.{name}"])
        packed = pack([torch.tensor([2, 5, 7, 3]), torch.tensor([2, 3])])
        assert torch.equal(encoder(**packed)["hidden"], expected(**packed)["hidden"])


def test_heads_are_read_with_their_labels(tmp_path):
    state, task_state = finetuned(), labelled("yes", "no", "maybe")
    read = checkpoint.read(save(tmp_path / "c.pt", trained(model=state, task_state=task_state)))
    assert read.labels == ["yes", "no", "maybe"]
    assert read.state.keys() == state.keys() and len(part(read.state, CLASSIFICATION_HEAD)) == 4
    assert all(torch.equal(read.state[name], tensor) for name, tensor in state.items())
    checkpoint.write(tmp_path / "again.pt", read)
    again = checkpoint.read(tmp_path / "again.pt")
    assert (again.labels, again.shape, again.state.keys()) == (read.labels, SHAPE, state.keys())
    assert checkpoint.read(save(tmp_path / "c.pt", trained())).labels is None


def test_weights_do_not_change_when_the_file_does(tmp_path):
    path = save(tmp_path / "c.pt", trained())
    read = checkpoint.read(path)
    path.write_bytes(bytes(path.stat().st_size))  # in place, as fairseq copies checkpoint_best.pt
    assert all(torch.equal(read.state[name], tensor) for name, tensor in random_state().items())


def test_written_checkpoints_read_the_same(tmp_path):
    written = Checkpoint(SHAPE, random_state(), TOKENIZER)
    (tmp_path / "imported").mkdir()
    checkpoint.write(tmp_path / "imported" / "model.pt", written)
    for path in (tmp_path / "imported", tmp_path / "imported" / "model.pt"):
        read = checkpoint.read(path)
        assert (read.shape, read.tokenizer, read.pooling) == (SHAPE, TOKENIZER, None)
        assert all(torch.equal(read.state[name], tensor) for name, tensor in random_state().items())


def without(name, state=None):
    state = state or random_state()
    del state[name]
    return state


FAULTS = {
    "another program's": ({"model": {"decoder.weight": torch.ones(2)}}, "not a checkpoint of this plugin"),
    "no configuration": ({"cfg": None}, "not a checkpoint of this plugin"),
    "no size": ({"cfg": spoilt_model_cfg(encoder_layers=None)}, "KeyError: 'encoder_layers'"),
    "other sizes": ({"cfg": spoilt_model_cfg(encoder_layers=1)}, "has no place in an encoder of 1 layers"),
    "other width": ({"cfg": spoilt_model_cfg(encoder_embed_dim=16)}, "not (20, 16)"),
    "no tokenizer's place": ({"task_state": {}}, "has no tokenizer, because it was trained without --pretrained"),
    "missing tensor": ({"model": without("encoder.layers.0.fc1.bias")}, "encoder.layers.0.fc1.bias is missing"),
    "half a head": ({"model": without("lm_head.bias")}, "lm_head.bias is missing"),
    "half a span head": (
        {"model": without(SPAN_HEAD + "weight", finetuned()), "task_state": labelled("a", "b", "c")},
        "span_head.weight is missing",
    ),
    "other labels": ({"model": finetuned(5), "task_state": labelled(*"abc")}, "configuration (sizes, labels) belongs"),
    "NaN": ({"model": {**random_state(), "lm_head.bias": torch.full((20,), torch.nan)}}, "lm_head.bias holds NaN"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_foreign_checkpoints_get_one_clear_line(tmp_path, fault):
    changes, message = FAULTS[fault]
    path = save(tmp_path / "c.pt", trained(**changes))
    with pytest.raises(InputError) as caught:
        checkpoint.read(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_truncated_checkpoints_get_one_clear_line(tmp_path, old_format, keep):
    path = tmp_path / "c.pt"
    torch.save(trained(), path, _use_new_zipfile_serialization=not old_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match="truncated, not a PyTorch file"):
        checkpoint.read(path)


@pytest.mark.parametrize("old_format", [False, True])
def test_no_code_of_a_checkpoint_is_run(tmp_path, old_format):
    path, ran = tmp_path / "c.pt", tmp_path / "ran"
    torch.save(trained(extra_state=Touch(ran)), path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(InputError, match="c.pt: .*holds Python objects.* no code of a file is run") as caught:
        checkpoint.read(path)
    assert "\n" not in str(caught.value) and not ran.exists()
    torch.load(path, weights_only=False)
    assert ran.exists()  # it would have run


def test_missing_files_and_other_objects(tmp_path):
    with pytest.raises(InputError, match="nothing.pt: no such checkpoint"):
        checkpoint.read(tmp_path / "nothing.pt")
    with pytest.raises(InputError, match="config.json: no such file"):
        checkpoint.read(tmp_path)
    with pytest.raises(InputError, match="not a checkpoint of this plugin"):
        checkpoint.read(save(tmp_path / "list.pt", [torch.ones(2)]))
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(InputError, match="truncated, not a PyTorch file"):
        checkpoint.read(tmp_path / "text.pt")


def test_a_tokenizer_is_checked_when_it_is_needed(tmp_path):
    path = save(tmp_path / "c.pt", trained(task_state={"tokenizer": {}}))
    assert checkpoint.read(path).tokenizer == {}
    with pytest.raises(InputError, match="c.pt: has no tokenizer"):
        checkpoint.load_encoder(path)
    other = TOKENIZER | {"vocab.txt": TOKENIZER["vocab.txt"] + "z\n"}
    save(path, trained(task_state={"tokenizer": other}))
    with pytest.raises(InputError, match="c.pt: the tokenizer has 21 tokens and the model 20 word embeddings"):
        checkpoint.load_encoder(path)


def test_the_length_is_that_of_the_tokenizer_or_the_positions(tmp_path):
    assert checkpoint.read(save(tmp_path / "c.pt", trained())).max_length == 11
    for length, expected in ((7, 7), (10**30, 11)):
        texts = TOKENIZER | {"tokenizer_config.json": json.dumps({"model_max_length": length})}
        written = Checkpoint(SHAPE, random_state(), texts, pooling="mean")
        checkpoint.write(tmp_path / "w.pt", written)
        assert checkpoint.read(tmp_path / "w.pt").max_length == expected
        assert checkpoint.read(tmp_path / "w.pt").pooling == "mean"


def test_a_checkpoint_of_version_0_1_still_loads():
    """Written by `ppa import-hf` before tokenizers were read by transformers: vocab.txt and tokenizer.json."""
    path = Path(__file__).parents[1] / "data" / "import_0_1.pt"
    encoder, tokenizer = checkpoint.load_encoder(path)
    stored = torch.load(path, weights_only=True)
    assert all(torch.equal(tensor, stored["model"][f"encoder.{name}"]) for name, tensor in encoder.state_dict().items())
    assert stored["task_state"]["tokenizer"].keys() >= {"vocab.txt", "tokenizer_config.json"}
    vocabulary = stored["task_state"]["tokenizer"]["vocab.txt"].splitlines()
    words = vocabulary[-2:]
    assert tokenizer.encode(" ".join(words)).tokens == ["[CLS]", *words, "[SEP]"]


def test_a_training_checkpoint_of_version_0_1_keeps_its_query_encoder(tmp_path):
    extra = {"twin.encoder.embed_tokens.weight": torch.ones(20, 8), "queue.keys": torch.ones(1)}
    old = trained(model=random_state() | extra)
    read = checkpoint.read(save(tmp_path / "c.pt", old))
    assert read.state.keys() == random_state().keys() and read.left_behind == ["queue", "twin"]
