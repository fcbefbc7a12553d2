"""Fine-tuned heads in Hugging Face's classes and back, for both families: same logits, same bits, same labels."""

import json

import pytest
import torch
import transformers
from helpers.hf_folders import make_bert, make_xlm_roberta
from safetensors.torch import load_file, save_file
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, AutoTokenizer

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, SPAN_HEAD, TAGGING_HEAD, Checkpoint, part
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.modules.packing import pack, pool
from ppa_fairseq.utils.errors import InputError

FAMILIES = {"Bert": make_bert, "XLMRoberta": make_xlm_roberta}
LABELS = ["entailment", "neutral", "contradiction"]
PAIRS = [("a dog barks.", "an animal makes noise."), ("no", "yes"), ("who is it?", "it is a cat that sat on a mat.")]


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def base(family, tmp_path_factory):
    """A Hugging Face folder of the family's masked-LM model."""
    folder = tmp_path_factory.mktemp("base")
    FAMILIES[family](folder)
    return folder


@pytest.fixture
def make_theirs(family, tmp_path_factory):
    """``make_theirs("ForQuestionAnswering", …)``: a folder that transformers wrote, and its model."""

    def make(kind, **options):
        folder = tmp_path_factory.mktemp("theirs")
        return folder, FAMILIES[family](folder, getattr(transformers, family + kind), **options)

    return make


def run(capsys, *command):
    """(exit status, standard output, standard error) of one command."""
    capsys.readouterr()
    status = cli.main([str(word) for word in command])
    return status, *capsys.readouterr()


def finetuned(base, path, labels=None):
    """A checkpoint as fairseq writes it after fine-tuning `base`: with labels a classifier, else a reader."""
    imported = checkpoint.read(base)
    state = {name: tensor for name, tensor in imported.state.items() if name.startswith("encoder.")}
    torch.manual_seed(1)
    if labels:
        sizes = {"dense.weight": (16, 16), "dense.bias": (16,), "out_proj.weight": (3, 16), "out_proj.bias": (3,)}
        state |= {CLASSIFICATION_HEAD + name: torch.randn(size) for name, size in sizes.items()}
    else:
        state |= {SPAN_HEAD + "weight": torch.randn(2, 16), SPAN_HEAD + "bias": torch.randn(2)}
    written = Checkpoint(imported.shape, state, imported.tokenizer, labels=labels)
    checkpoint.write(path, written)
    return written


def lay_pairs(model, tokenizer):
    """PAIRS, packed by our own layout."""
    layout = PairLayout(model.build_tokenizer("here"), 64)
    ids = [[tokenizer.encode(side, add_special_tokens=False).ids for side in pair] for pair in PAIRS]
    laid = [layout.lay(*map(torch.tensor, pair)) for pair in ids]
    return pack(*([torch.from_numpy(part) for part in parts] for parts in zip(*laid, strict=True)))


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def outputs(folder, packed, auto_class):
    """The loaded model's output for PAIRS as AutoTokenizer makes them, and their mask."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    premises, hypotheses = map(list, zip(*PAIRS, strict=True))
    batch = tokenizer(premises, hypotheses, padding=True, return_tensors="pt", return_token_type_ids=True)
    mask = batch["attention_mask"].bool()
    assert batch["input_ids"][mask].tolist() == packed["tokens"].tolist()
    assert batch["token_type_ids"][mask].tolist() == packed["token_types"].tolist()
    with torch.no_grad():
        return auto_class.from_pretrained(folder).eval()(**batch), mask


def test_a_classifier_has_the_same_logits_and_labels(base, family, tmp_path, capsys):
    state = finetuned(base, tmp_path / "c.pt", LABELS).state
    status, report, error = run(capsys, "export-hf", tmp_path / "c.pt", tmp_path / "out")
    assert (status, error, report) == (0, "", f"{tmp_path}/out: {family}ForSequenceClassification\n")
    encoder, tokenizer = checkpoint.load_encoder(tmp_path / "c.pt")
    packed = lay_pairs(checkpoint.read(tmp_path / "c.pt"), tokenizer)
    assert packed["token_types"].any() == (family == "Bert")
    head = part(state, CLASSIFICATION_HEAD)
    with torch.no_grad():
        features = pool(encoder(**packed)["hidden"], packed["cu_seqlens"], "cls")
        inner = torch.tanh(features @ head["dense.weight"].T + head["dense.bias"])
        expected = inner @ head["out_proj.weight"].T + head["out_proj.bias"]
    output, _ = outputs(tmp_path / "out", packed, AutoModelForSequenceClassification)
    assert_equal(output.logits, expected)
    assert expected.std() > 0.1
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config
    assert config.id2label == dict(enumerate(LABELS)) and config.problem_type == "single_label_classification"
    assert config.label2id == {label: index for index, label in enumerate(LABELS)}
    assert not (tmp_path / "out" / "modules.json").exists()


def test_a_reader_has_the_same_logits(base, family, tmp_path, capsys):
    state = finetuned(base, tmp_path / "c.pt").state
    assert run(capsys, "export-hf", tmp_path / "c.pt", tmp_path / "out")[1].endswith(f"{family}ForQuestionAnswering\n")
    encoder, tokenizer = checkpoint.load_encoder(tmp_path / "c.pt")
    packed = lay_pairs(checkpoint.read(tmp_path / "c.pt"), tokenizer)
    with torch.no_grad():
        expected = encoder(**packed)["hidden"] @ state[SPAN_HEAD + "weight"].T + state[SPAN_HEAD + "bias"]
    output, mask = outputs(tmp_path / "out", packed, AutoModelForQuestionAnswering)
    assert_equal(torch.stack([output.start_logits[mask], output.end_logits[mask]], dim=1), expected)


@pytest.mark.parametrize("kind", ["ForSequenceClassification", "ForQuestionAnswering", "ForTokenClassification"])
def test_theirs_are_read_and_come_back_bit_equal(make_theirs, kind, tmp_path, capsys):
    labels = {"id2label": {i: label for i, label in enumerate(LABELS)}} if "Classification" in kind else {}
    theirs, _ = make_theirs(kind, **labels)
    read = checkpoint.read(theirs)
    assert read.labels == (LABELS if labels else None)
    heads = (CLASSIFICATION_HEAD, TAGGING_HEAD, SPAN_HEAD)
    head = next(head for head, name in zip(heads, ("Sequence", "Token", "Question"), strict=True) if name in kind)
    assert all(name.startswith(("encoder.", head)) for name in read.state) and part(read.state, head)
    status, report, _ = run(capsys, "import-hf", theirs, tmp_path / "in")
    assert status == 0 and "left out" not in report and "no MLM head" not in report
    assert ("3 classes, entailment to contradiction" if labels else "question-answering head") in report
    assert run(capsys, "export-hf", tmp_path / "in", tmp_path / "out")[0] == 0
    ours, expected = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", theirs))
    assert ours.keys() == expected.keys() and all(torch.equal(ours[name], expected[name]) for name in expected)
    configs = [json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "out", theirs)]
    for key in ("architectures", "id2label"):
        assert configs[0].get(key) == configs[1].get(key)


def test_heads_of_other_tasks_are_left_out(make_theirs, tmp_path, capsys):
    theirs, _ = make_theirs("ForMultipleChoice")
    status, report, _ = run(capsys, "import-hf", theirs, tmp_path / "in")
    assert status == 0 and "no MLM head" in report
    assert "classifier" in report.partition("left out, as alignment does not use it: ")[2]
    assert checkpoint.read(tmp_path / "in").labels is None


def test_an_export_of_another_kind_is_replaced(base, tmp_path, capsys):
    finetuned(base, tmp_path / "c.pt", LABELS)
    for source, has_vectors in ((base, True), (tmp_path / "c.pt", False), (base, True)):
        assert run(capsys, "export-hf", source, tmp_path / "out")[0] == 0
        assert (tmp_path / "out" / "modules.json").exists() == has_vectors


def test_a_fine_tuned_model_gives_no_sentence_vectors(base, tmp_path, capsys):
    finetuned(base, tmp_path / "c.pt", LABELS)
    status, _, error = run(capsys, "export-hf", tmp_path / "c.pt", tmp_path / "out", "--pooling", "cls")
    assert status == 1 and f"--pooling cls: {tmp_path}/c.pt is fine-tuned; leave the flag out" in error
    assert not (tmp_path / "out").exists()


def change_config(**changes):
    def change(folder, tensors):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def spoil_tensor(value):
    def change(folder, tensors):
        name = next(name for name in tensors if name.startswith("classifier.") and name.endswith("weight"))
        tensors.pop(name) if value is None else tensors[name].fill_(value)
        save_file(tensors, folder / "model.safetensors")

    return change


FAULTS = {
    "fewer labels": (change_config(id2label={"0": "a", "1": "b"}), r"\(3, 16\) .*, not \(2, 16\) .*labels\) belongs"),
    "no labels": (change_config(id2label=None), r"\(3, 16\) .*, not \(2, 16\) .*labels\) belongs"),
    "labels with a gap": (change_config(id2label={"0": "a", "2": "b", "3": "c"}), "does not name the classes 0, 1"),
    "labels that are none": (change_config(id2label=["a", "b", "c"]), "does not name the classes 0, 1"),
    "half a head": (spoil_tensor(None), "tensor classifier.* is missing"),
    "NaN": (spoil_tensor(torch.nan), "holds NaN or infinity"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_classifiers_get_one_clear_line(make_theirs, fault):
    folder, _ = make_theirs("ForSequenceClassification", num_labels=3)
    spoil, message = FAULTS[fault]
    spoil(folder, load_file(folder / "model.safetensors"))
    with pytest.raises(InputError, match=message) as caught:
        checkpoint.read(folder)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)
