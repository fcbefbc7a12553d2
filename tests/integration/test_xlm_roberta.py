"""An XLM-RoBERTa is imported, laid out and exported as transformers does; trained: test_tokenizer_chain.py."""

import json
import shutil

import pytest
import torch
from helpers.hf_folders import POSITIONS, SAMPLE, make_xlm_roberta, sample_sentences
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.bitext.corpora import load_corpora, load_dictionary
from ppa_fairseq.data.bitext.dataset import AlignmentDataset
from ppa_fairseq.data.bitext.masking import MaskingScheme
from ppa_fairseq.modules.packing import pack, pool


@pytest.fixture(scope="module")
def xlm(tmp_path_factory):
    """A Hugging Face folder of XLMRobertaForMaskedLM: 2 layers x 16, 1,202 tokens."""
    folder = tmp_path_factory.mktemp("xlm")
    make_xlm_roberta(folder)
    return folder


def run(*command):
    assert cli.main([str(word) for word in command]) == 0


def test_there_and_back_and_there_is_bit_equal(xlm, tmp_path, capsys):
    run("import-hf", xlm, tmp_path / "in")
    report = capsys.readouterr().out
    assert "XLM-RoBERTa, 2 layers x 16" in report and "1202 tokens" in report and "left out" not in report
    run("export-hf", tmp_path / "in", tmp_path / "out")
    run("import-hf", tmp_path / "out", tmp_path / "again")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", xlm))
    one, again = checkpoint.read(tmp_path / "in"), checkpoint.read(tmp_path / "again")
    for actual, expected in ((ours, theirs), (again.state, one.state)):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert (again.shape, again.tokenizer) == (one.shape, one.tokenizer)
    assert one.shape.position_offset == 2 and one.shape.token_types == 1
    ours, theirs = (json.loads((path / "config.json").read_text()) for path in (tmp_path / "out", xlm))
    for key in ("architectures", "pad_token_id", "layer_norm_eps", "type_vocab_size"):
        assert ours[key] == theirs[key], key


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_an_export_loads_everywhere_and_computes_the_same(xlm, tmp_path, pooling):
    run("import-hf", xlm, tmp_path / "in")
    out, sentences = tmp_path / "out", [text for text in sample_sentences("test", 3) if len(text) < 60]
    run("export-hf", tmp_path / "in", out, "--pooling", pooling)
    encoder, own = checkpoint.load_encoder(tmp_path / "in")
    packed = pack([torch.tensor(encoding.ids) for encoding in own.encode_batch(sentences)])
    tokenizer = AutoTokenizer.from_pretrained(out)
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    mask = batch["attention_mask"].bool()
    assert batch["input_ids"][mask].tolist() == packed["tokens"].tolist()
    assert tokenizer.model_max_length == POSITIONS - 2 == encoder.max_positions()
    with torch.no_grad():
        hidden = encoder(**packed)["hidden"]
        pairs = [
            (AutoModel.from_pretrained(out).eval()(**batch).last_hidden_state[mask], hidden),
            (SentenceTransformer(str(out), device="cpu").encode(sentences, convert_to_tensor=True),
             pool(hidden, packed["cu_seqlens"], pooling)),
            tuple(AutoModelForMaskedLM.from_pretrained(folder).eval()(**batch).logits for folder in (out, xlm)),
        ]  # fmt: skip
    for actual, expected in pairs:
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def data_bin(xlm, tmp_path_factory):
    """A language pair of the sample, binarized for it."""
    root = tmp_path_factory.mktemp("data")
    limits = "--min-tokens 3 --max-tokens 60 --valid-share 0.1 --max-train 300 --columns 2,1 --workers 1".split()
    pair = f"de-en={SAMPLE}/de-en.train.tsv.xz"
    run("prepare-bitext", pair, "--tokenizer", xlm, "--out", root / "text", *limits)
    run("binarize", root / "text", "--destdir", root / "bin", "--workers", "1")
    return root / "bin"


@pytest.mark.parametrize("languages", [None, ["de", "en"]], ids=["PPA", "XLM's TLM"])
def test_two_sentences_are_laid_out_as_transformers_lays_them(xlm, data_bin, languages):
    folder, theirs = str(data_bin), AutoTokenizer.from_pretrained(xlm)
    dictionary = load_dictionary(folder, ["de-en"])
    dataset = AlignmentDataset(
        load_corpora(folder, "train", ["de-en"], all_needed=True), dictionary,
        MaskingScheme.for_dictionary(dictionary, 0.15), seed=1, languages=languages, reset_positions=bool(languages),
    )  # fmt: skip
    words = [{*dataset[i]["source"], *dataset[i]["target"]} for i in range(len(dataset))]
    known = [i for i, row in enumerate(words) if dictionary.unk() not in row][:12]  # can be decoded and encoded
    batch = dataset.collater([dataset[i] for i in known])
    packed = batch["net_input"]["query_input"]
    packed["tokens"][batch["net_input"]["masked"]] = batch["target"]
    sequences, positions = (packed[name].split(packed["lengths"]) for name in ("tokens", "positions"))
    for i, index in enumerate(known):
        sides = [dataset[index][name].tolist()[:-1] for name in ("source", "target")]
        query, key = sides[::-1] if batch["swapped"][i] else sides
        pair = theirs(*(theirs.decode(side) for side in (query, key)))["input_ids"]
        assert sequences[12 + i].tolist() == pair == [0, *query, 2, 2, *key, 2]
        assert sequences[i].tolist() == [0, *query, 2]
        first, second = len(query) + 3, len(key) + 1
        second_positions = range(second) if languages else range(first, first + second)
        assert positions[12 + i].tolist() == [*range(first), *second_positions]
        if languages:
            rows = packed["languages"].split(packed["lengths"])[12 + i].tolist()
            own = [1 + int(batch["swapped"][i]), 2 - int(batch["swapped"][i])]
            assert rows == [own[0]] * first + [own[1]] * second
    assert not packed["token_types"].any()
    assert not set(batch["target"].tolist()) & {0, 1, 2, dictionary.mask()}


def with_berts_tokenizer(folder):
    (folder / "sentencepiece.bpe.model").unlink()
    words = "[PAD] [UNK] [CLS] [SEP] [MASK]".split() + [f"w{i}" for i in range(1197)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pad_token_id": 0}, "pad_token_id is 0; XLM-RoBERTa can be imported with 1 only"),
        ({"model_type": "bert"}, "is not a BERT's; config.json belongs"),
        (with_berts_tokenizer, "padding token has the id 0, but the model's has 1"),
    ],
    ids=["another padding id", "a BERT's weights", "a BERT's vocabulary"],
)
def test_faults_get_one_clear_line_and_no_output(xlm, tmp_path, capsys, change, message):
    folder = shutil.copytree(xlm, tmp_path / "copy")
    if isinstance(change, dict):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | change))
    else:
        change(folder)
    assert cli.main(["import-hf", str(folder), str(tmp_path / "in")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"ppa import-hf: error: {tmp_path}") and message in error and error.count("\n") == 1
    assert not (tmp_path / "in").exists()
