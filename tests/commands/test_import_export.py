"""`ppa import-hf` and `ppa export-hf`: bit for bit there and back, one clear line for whatever is not a BERT."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from helpers.hf_folders import POSITIONS, SIZES, TOKENIZERS, sample_sentences, save_random
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
)

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.modules.packing import pack, pool

VOCABULARY = [*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *"Ein Hund bell ##t ##e schläft 東 ! .".split()]
SENTENCES = ["Ein Hund bellt !", "Hund", "Ein schläft 東 . Ein Hund bellte ."]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A Hugging Face folder of BertForPreTraining (pooler, MLM and NSP heads): 2 layers x 16."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    model = BertForPreTraining(
        BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=24,
            initializer_range=0.3,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    return folder


@pytest.fixture
def folder(bert, tmp_path):
    """A copy of `bert` to spoil."""
    return shutil.copytree(bert, tmp_path / "copy")


def tensors_of(folder):
    return load_file(folder / "model.safetensors")


def run(capsys, *command):
    """(exit status, standard output, standard error) of one command."""
    status = cli.main([str(word) for word in command])
    return status, *capsys.readouterr()


def imported_and_exported(capsys, folder, tmp_path):
    capsys.readouterr()  # progress of transformers
    status, report, error = run(capsys, "import-hf", folder, tmp_path / "in")
    assert (status, error) == (0, "")
    assert run(capsys, "export-hf", tmp_path / "in", tmp_path / "out")[0] == 0
    return report, tensors_of(tmp_path / "out")


def assert_same_tensors(actual, expected):
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype and torch.equal(actual[name], tensor), name


def encoder_and_mlm(tensors):
    return {n: t for n, t in tensors.items() if not n.startswith(("bert.pooler", "cls.seq_relationship"))}


def test_there_and_back_is_bit_equal(bert, tmp_path, capsys):
    report, tensors = imported_and_exported(capsys, bert, tmp_path)
    assert_same_tensors(tensors, encoder_and_mlm(tensors_of(bert)))
    assert "left out, as alignment does not use it: bert.pooler.dense, cls.seq_relationship" in report
    assert (tmp_path / "out" / "vocab.txt").read_bytes() == (bert / "vocab.txt").read_bytes()
    assert "2 layers x 16, 14 tokens" in report and "WARNING" not in report
    dictionary = WordPieceDictionary.load(str(tmp_path / "in" / "dict.txt"))
    assert dictionary.symbols == VOCABULARY


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_bert_has_any_tokenizer(tmp_path, capsys, kind):
    """As multilingual-e5-small: BERT's layers, XLM-RoBERTa's vocabulary."""
    (tmp_path / "hf").mkdir()
    TOKENIZERS[kind](tmp_path / "hf")
    theirs = AutoTokenizer.from_pretrained(write_config(tmp_path / "hf", {"model_type": "bert"}))
    theirs.add_tokens(["New York"])
    theirs.save_pretrained(tmp_path / "hf")
    save_random(BertForMaskedLM(BertConfig(**SIZES, vocab_size=len(theirs) + 7)), tmp_path / "hf")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    report, tensors = imported_and_exported(capsys, tmp_path / "hf", tmp_path)
    assert "left out: the last 7 word embeddings, which belong to no token" in report
    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(tensors[name], tensors_of(tmp_path / "hf")[name][:-7])
    ours = AutoTokenizer.from_pretrained(tmp_path / "out")
    texts = ["a New York [MASK]<mask> \n\n\t b", *sample_sentences("test", 3)]
    assert ours(texts)["input_ids"] == theirs(texts)["input_ids"]
    encoder, tokenizer = checkpoint.load_encoder(tmp_path / "in")
    dictionary = WordPieceDictionary.load(str(tmp_path / "in" / "dict.txt"))
    assert len(dictionary) == len(theirs) == encoder.cfg.vocab_size
    model = AutoModel.from_pretrained(tmp_path / "hf", attn_implementation="eager").eval()
    for text, ids in zip(texts, theirs(texts)["input_ids"], strict=True):
        assert tokenizer.encode(text).ids == ids
        with torch.no_grad():
            ids = ids[:POSITIONS]
            expected = model(torch.tensor([ids])).last_hidden_state[0]
            torch.testing.assert_close(encoder(**pack([torch.tensor(ids)]))["hidden"], expected, rtol=0, atol=1e-5)


def write_config(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_lower_casing_tokenizer_of_a_cased_vocabulary_is_reported(folder, tmp_path, capsys):
    (folder / "tokenizer_config.json").unlink()  # transformers' default is to lower-case
    assert "WARNING: the tokenizer lower-cases text" in run(capsys, "import-hf", folder, tmp_path / "in")[1]


def test_an_export_can_be_read_by_whom_the_umask_lets(bert, tmp_path, capsys):
    run(capsys, "import-hf", bert, tmp_path / "in")
    before = os.umask(0o027)
    try:
        assert run(capsys, "export-hf", tmp_path / "in", tmp_path / "out")[0] == 0
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").glob("*.*")} == {0o640}


def test_neither_command_imports_fairseq(bert, tmp_path):
    program = (
        "import sys; from ppa_fairseq.commands import main as cli; bert, imported, out = sys.argv[1:]\n"
        "assert cli.main(['import-hf', bert, imported]) == cli.main(['export-hf', imported, out]) == 0\n"
        "assert 'fairseq' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, bert, tmp_path / "in", tmp_path / "out"], check=True)


def test_folders_of_sentence_transformers(folder, tmp_path, capsys):
    """The transformer in a folder of its own; cls pooling and the length are kept, a Dense layer is named."""
    inner = tmp_path / "st" / "0_Transformer"
    shutil.copytree(folder, inner)
    kinds = {"Transformer": "0_Transformer", "Pooling": "1_Pooling", "Dense": "2_Dense"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds.items()]
    (tmp_path / "st" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "st" / "1_Pooling").mkdir()
    write_config(tmp_path / "st" / "1_Pooling", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    (inner / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    report, _ = imported_and_exported(capsys, tmp_path / "st", tmp_path)
    assert "a sentence encoder: cls pooling, 12 tokens at most" in report
    assert "not taken: its module Dense (2_Dense)" in report
    read = checkpoint.read(tmp_path / "in")
    assert (read.pooling, read.max_length) == ("cls", 12)
    exported = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert exported.max_seq_length == 12 and exported[1].pooling_mode == "cls"
    again = checkpoint.read(tmp_path / "out")
    assert (again.pooling, again.max_length, again.tokenizer) == ("cls", 12, read.tokenizer)


def test_a_pooling_of_the_newest_sentence_transformers_is_read(folder, tmp_path, capsys):
    modules = [Transformer(str(folder), max_seq_length=9), Pooling(16, "mean")]
    SentenceTransformer(modules=modules).save(str(tmp_path / "st"))
    read = checkpoint.read(tmp_path / "st")
    assert (read.pooling, read.max_length) == ("mean", 9)
    assert any("mean pooling" in note for note in read.notes)
    (tmp_path / "st" / "1_Pooling" / "config.json").write_text('{"pooling_mode": "max"}')
    read = checkpoint.read(tmp_path / "st")
    assert read.pooling is None and any("not taken: its pooling (max)" in note for note in read.notes)


def save_bin(folder, tensors, **options):
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin", **options)


def save_shards(folder, tensors):
    (folder / "model.safetensors").unlink()
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    weight_map = {tensor: files[i % 2] for i, tensor in enumerate(sorted(tensors))}
    for file in files:
        save_file({tensor: tensors[tensor] for tensor in tensors if weight_map[tensor] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def with_copies(tensors):
    """As old releases name and repeat them."""
    tensors = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in tensors.items()}
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    words = tensors["bert.embeddings.word_embeddings.weight"]
    copies = {"bert.embeddings.position_ids": torch.arange(24)[None], "cls.predictions.decoder.weight": words.clone()}
    return tensors | copies


FORMS = {
    "bin of old torch": lambda folder, t: save_bin(folder, t, _use_new_zipfile_serialization=False),
    "old names and copies": lambda folder, t: save_bin(folder, with_copies(t)),
    "shards": save_shards,
    "wrapped": lambda folder, t: save_file({"module." + n: x for n, x in t.items()}, folder / "model.safetensors"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_weights_is_taken(folder, tmp_path, capsys, form):
    expected = encoder_and_mlm(tensors_of(folder))
    FORMS[form](folder, tensors_of(folder))
    report, tensors = imported_and_exported(capsys, folder, tmp_path)
    assert_same_tensors(tensors, expected)
    assert "decoder" not in report and "position_ids" not in report


@pytest.mark.parametrize("wrapper", ["encoder.", "0.auto_model."])
def test_wrapped_encoders_are_taken(folder, tmp_path, capsys, wrapper):
    expected = {n: t for n, t in encoder_and_mlm(tensors_of(folder)).items() if n.startswith("bert.")}
    tensors = {n.replace("bert.", wrapper, 1): t for n, t in tensors_of(folder).items() if n.startswith("bert.")}
    save_file(tensors, folder / "model.safetensors")
    _, exported = imported_and_exported(capsys, folder, tmp_path)
    assert_same_tensors({name: exported[name] for name in expected}, expected)


def test_without_head_and_prefix_a_stated_head_is_made(folder, tmp_path, capsys):
    encoder = {n: t for n, t in tensors_of(folder).items() if n.startswith("bert.") and "pooler" not in n}
    bare = {name.removeprefix("bert."): tensor for name, tensor in encoder.items()}
    save_file(bare, folder / "model.safetensors")
    report, tensors = imported_and_exported(capsys, folder, tmp_path)
    assert "no MLM head" in report and "seed 0" in report and "tied" in report and "left out" not in report
    assert_same_tensors({n: tensors[n] for n in encoder}, encoder)
    head = {name: tensor for name, tensor in tensors.items() if name not in encoder}
    assert head.keys() == {n for n in encoder_and_mlm(tensors_of(tmp_path / "out")) if n.startswith("cls.")}
    dense = head.pop("cls.predictions.transform.dense.weight")
    assert 0.015 < dense.std() < 0.025
    assert head.pop("cls.predictions.transform.LayerNorm.weight").eq(1).all()
    assert all(tensor.eq(0).all() for tensor in head.values())
    imported_and_exported(capsys, folder, tmp_path)
    assert torch.equal(tensors_of(tmp_path / "out")["cls.predictions.transform.dense.weight"], dense)


def test_fairseq_reads_the_checkpoint(bert, tmp_path, capsys):
    run(capsys, "import-hf", bert, tmp_path / "in")
    state = load_checkpoint_to_cpu(str(tmp_path / "in" / "model.pt"))
    assert state["cfg"].model._name == "ppa_bert" and state["cfg"].model.encoder_layers == 2
    assert state["optimizer_history"][-1]["num_updates"] == 0
    assert "encoder.layers.1.self_attn.qkv_proj.weight" in state["model"]


def test_an_export_loads_everywhere_and_computes_the_same(bert, tmp_path, capsys):
    imported_and_exported(capsys, bert, tmp_path)
    out = tmp_path / "out"
    tokenizer = AutoTokenizer.from_pretrained(out)
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    theirs = AutoModelForMaskedLM.from_pretrained(bert, attn_implementation="eager").eval()
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(out).eval()(**batch).last_hidden_state
        logits = AutoModelForMaskedLM.from_pretrained(out).eval()(**batch).logits
        torch.testing.assert_close(hidden, theirs.bert(**batch).last_hidden_state, rtol=0, atol=1e-5)
        torch.testing.assert_close(logits, theirs(**batch).logits, rtol=0, atol=1e-5)
        for path in (tmp_path / "in", tmp_path / "in" / "model.pt", out, bert):
            encoder, own = checkpoint.load_encoder(path)
            packed = pack([torch.tensor(encoding.ids) for encoding in own.encode_batch(SENTENCES)])
            ours = encoder(**packed)["hidden"]
            torch.testing.assert_close(ours, hidden[batch["attention_mask"].bool()], rtol=0, atol=1e-5)
    for pooling in ("mean", "cls"):
        assert run(capsys, "export-hf", tmp_path / "in", out, "--pooling", pooling)[0] == 0
        vectors = SentenceTransformer(str(out), device="cpu").encode(SENTENCES, convert_to_tensor=True)
        torch.testing.assert_close(vectors, pool(ours, packed["cu_seqlens"], pooling), rtol=0, atol=1e-5)


def test_pooling_is_as_trained(bert, tmp_path, capsys):
    run(capsys, "import-hf", bert, tmp_path / "in")
    trained = torch.load(tmp_path / "in" / "model.pt", weights_only=True)
    trained["cfg"]["model"]["pooling"] = "cls"
    torch.save(trained, tmp_path / "trained.pt")
    assert "cls pooling" in run(capsys, "export-hf", tmp_path / "trained.pt", tmp_path / "out")[1]
    assert json.loads((tmp_path / "out/1_Pooling/config.json").read_text())["pooling_mode_cls_token"] is True


def test_an_earlier_result_is_replaced_and_nothing_else(bert, tmp_path, capsys):
    imported_and_exported(capsys, bert, tmp_path)
    imported_and_exported(capsys, bert, tmp_path)
    for command, source, out in (
        ("import-hf", bert, "in"),
        ("export-hf", tmp_path / "in" / "model.pt", "out"),
    ):
        (tmp_path / out / "notes.txt").write_text("mine")
        before = sorted((tmp_path / out).rglob("*"))
        status, _, error = run(capsys, command, source, tmp_path / out)
        assert status == 1 and "name a new or empty folder" in error
        assert sorted((tmp_path / out).rglob("*")) == before
        (tmp_path / "file").write_text("mine")
        assert run(capsys, command, source, tmp_path / "file")[0] == 1
        assert (tmp_path / "file").read_text() == "mine"
        (tmp_path / out / "notes.txt").unlink()
    assert run(capsys, "export-hf", tmp_path / "in", bert)[0] == 1  # not over another model
    assert (bert / "vocab.txt").exists()


def test_a_full_disk_leaves_nothing_behind(bert, tmp_path, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    run(capsys, "import-hf", bert, tmp_path / "in")
    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr("ppa_fairseq.commands.export_hf.save_file", full)
    for command in (["import-hf", bert, tmp_path / "new"], ["export-hf", tmp_path / "in", tmp_path / "new"]):
        status, _, error = run(capsys, *command)
        assert status == 1 and "No space left" in error
    assert os.listdir(tmp_path) == ["in"]


def change_config(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def change_tensors(change):
    def apply(folder):
        tensors = tensors_of(folder)
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return apply


def truncate(name):
    def apply(folder):
        if name.endswith(".bin"):
            save_bin(folder, tensors_of(folder))
        (folder / name).write_bytes((folder / name).read_bytes()[:-2000])

    return apply


def untie(tensors):
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"] + 1


def missing_shard(folder):
    save_shards(folder, tensors_of(folder))
    (folder / "model-00002-of-00002.safetensors").unlink()


BIAS = "bert.encoder.layer.1.output.dense.bias"
FAULTS = {
    "another architecture": (change_config(model_type="roberta"), "config.json: model_type is 'roberta'"),
    "another activation": (change_config(hidden_act="relu"), "hidden_act is 'relu'"),
    "a missing size": (change_config(num_hidden_layers=None), "num_hidden_layers is None"),
    "more layers": (change_config(num_hidden_layers=3), "bert.encoder.layer.2.attention.self.query.weight is missing"),
    "too narrow": (change_config(intermediate_size=31), "fc1.weight is (32, 16) of torch.float32, not (31, 16)"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json: no such file"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), "config.json: no JSON"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors and no pytorch"),
    "truncated safetensors": (truncate("model.safetensors"), "model.safetensors: truncated"),
    "truncated bin": (truncate("pytorch_model.bin"), "pytorch_model.bin: truncated"),
    "missing shard": (missing_shard, "names model-00002-of-00002.safetensors, which is missing"),
    "missing tensor": (change_tensors(lambda t: t.pop(BIAS)), f"tensor {BIAS} is missing"),
    "no encoder": (lambda folder: save_bin(folder, {"a": torch.ones(2)}), "no tensor bert.embeddings.word_embeddings"),
    "untied decoder": (change_tensors(untie), "only a tied MLM head can be taken"),
    "NaN": (change_tensors(lambda t: t[BIAS].fill_(torch.nan)), "encoder.layers.1.fc2.bias holds NaN"),
    "quantised": (change_tensors(lambda t: t.update({BIAS: t[BIAS].to(torch.int8)})), "torch.int8"),
    "another vocabulary": (
        lambda folder: (folder / "vocab.txt").write_text("\n".join([*VOCABULARY, "noch"])),
        "the tokenizer has 15 tokens and the model 14 word embeddings",
    ),
    "no vocabulary": (lambda folder: (folder / "vocab.txt").unlink(), "has no tokenizer"),
    "no folder": (shutil.rmtree, "no such file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_not_a_bert_gets_one_clear_line_and_no_output(folder, tmp_path, capsys, fault):
    spoil, message = FAULTS[fault]
    spoil(folder)
    status, report, error = run(capsys, "import-hf", folder, tmp_path / "in")
    assert status == 1 and report == ""
    assert error.startswith(f"ppa import-hf: error: {tmp_path}")
    assert message in error and error.count("\n") == 1
    assert os.listdir(tmp_path) == ["copy"] * folder.exists()
