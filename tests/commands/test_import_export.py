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
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM, BertForPreTraining

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
    save_random(BertForPreTraining(BertConfig(**SIZES, vocab_size=len(VOCABULARY))), folder)
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
    (tmp_path / "hf" / "config.json").write_text('{"model_type": "bert"}')
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
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
    assert [encoding.ids for encoding in tokenizer.encode_batch(texts)] == theirs(texts)["input_ids"]
    dictionary = WordPieceDictionary.load(str(tmp_path / "in" / "dict.txt"))
    assert len(dictionary) == len(theirs) == encoder.cfg.vocab_size


def test_a_lower_casing_tokenizer_of_a_cased_vocabulary_is_reported(folder, tmp_path, capsys):
    (folder / "tokenizer_config.json").unlink()  # transformers' default is to lower-case
    assert "WARNING: the tokenizer lower-cases text" in run(capsys, "import-hf", folder, tmp_path / "in")[1]


def test_imports_and_exports_are_light(bert, tmp_path):
    """Without fairseq, without transformers after the import, and readable for whom the umask lets."""
    program = (
        "import os, sys; from ppa_fairseq.commands import main as cli; os.umask(0o027)\n"
        "assert cli.main(sys.argv[2:]) == 0 and not {'fairseq', *sys.argv[1].split()} & sys.modules.keys()"
    )
    for unwanted, *command in (
        ("", "import-hf", bert, tmp_path / "in"),
        ("transformers", "export-hf", tmp_path / "in", tmp_path / "out"),
        ("transformers", "import-hf", tmp_path / "out", tmp_path / "again"),
    ):
        subprocess.run([sys.executable, "-c", program, unwanted, *command], check=True)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").glob("*.*")} == {0o640}


def test_folders_of_sentence_transformers(folder, tmp_path, capsys):
    """The transformer in a folder of its own; cls pooling and the length are kept, whatever else is named."""
    inner = tmp_path / "st" / "0_Transformer"
    shutil.copytree(folder, inner)
    kinds = {"Transformer": "0_Transformer", "Pooling": "1_Pooling", "Dense": "2_Dense"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds.items()]
    (tmp_path / "st" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "st" / "1_Pooling").mkdir()
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (tmp_path / "st" / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    (inner / "sentence_roberta_config.json").write_text('{"max_seq_length": 12, "do_lower_case": true}')
    (tmp_path / "st" / "config_sentence_transformers.json").write_text('{"default_prompt_name": "query"}')
    report, _ = imported_and_exported(capsys, tmp_path / "st", tmp_path)
    assert "a sentence encoder: cls pooling, 12 tokens at most" in report
    for named in ("its module Dense (2_Dense)", "its do_lower_case", "its default prompt (query)"):
        assert f"not taken: {named}" in report
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
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    return tensors | {"bert.embeddings.position_ids": torch.arange(POSITIONS)[None]}


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


@pytest.mark.parametrize("wrapper", ["", "model.", "encoder.", "0.auto_model."])
def test_an_encoder_alone_is_taken_under_any_name_and_gets_a_stated_head(folder, tmp_path, capsys, wrapper):
    encoder = {n: t for n, t in tensors_of(folder).items() if n.startswith("bert.") and "pooler" not in n}
    renamed = {name.replace("bert.", wrapper, 1): tensor for name, tensor in encoder.items()}
    save_file(renamed, folder / "model.safetensors")
    report, tensors = imported_and_exported(capsys, folder, tmp_path)
    assert "no MLM head" in report and "seed 0" in report and "tied" in report and "left out" not in report
    assert_same_tensors({n: tensors[n] for n in encoder}, encoder)
    assert_same_tensors(imported_and_exported(capsys, folder, tmp_path)[1], tensors)  # the same head each time
    head = {name.removeprefix("cls.predictions."): tensors[name] for name in tensors if name not in encoder}
    assert 0.015 < head.pop("transform.dense.weight").std() < 0.025
    assert head.pop("transform.LayerNorm.weight").eq(1).all()
    assert head.keys() == {"bias", "transform.dense.bias", "transform.LayerNorm.bias"}
    assert all(tensor.eq(0).all() for tensor in head.values())


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


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2000])


def untie(tensors):
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"] + 1


def missing_shard(folder):
    save_shards(folder, tensors_of(folder))
    (folder / "model-00002-of-00002.safetensors").unlink()


BIAS = "bert.encoder.layer.1.output.dense.bias"
FAULTS = {
    "another architecture": (change_config(model_type="my-bert"), "config.json: model_type is 'my-bert'"),
    "another activation": (change_config(hidden_act="relu"), "hidden_act is 'relu'"),
    "a missing size": (change_config(num_hidden_layers=None), "num_hidden_layers is None"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json: no such file"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors and no pytorch"),
    "truncated safetensors": (truncate, "model.safetensors: truncated"),
    "missing shard": (missing_shard, "names model-00002-of-00002.safetensors, which is missing"),
    "missing tensor": (change_tensors(lambda t: t.pop(BIAS)), f"tensor {BIAS} is missing"),
    "no encoder": (lambda folder: save_bin(folder, {"a": torch.ones(2)}), "no tensor bert.embeddings.word_embeddings"),
    "untied decoder": (change_tensors(untie), "only a tied MLM head can be taken"),
    "quantised": (change_tensors(lambda t: t.update({BIAS: t[BIAS].to(torch.int8)})), "torch.int8"),
    "another vocabulary": (
        lambda folder: (folder / "vocab.txt").write_text("\n".join([*VOCABULARY, "noch"])),
        "the tokenizer has 15 tokens and the model 14 word embeddings",
    ),
    "no vocabulary": (lambda folder: (folder / "vocab.txt").unlink(), "has no tokenizer"),
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
