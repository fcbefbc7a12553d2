"""An XLM-RoBERTa is imported, aligned, measured and exported like a BERT."""

import json
import shutil

import numpy as np
import pytest
import sentencepiece
import torch
from helpers.hf_folders import POSITIONS, SAMPLE, make_xlm_roberta, sample_sentences, train_sentencepiece
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    XLMRobertaModel,
    XLMRobertaTokenizer,
)

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files
from ppa_fairseq.commands import main as cli
from ppa_fairseq.modules.packing import pack, pool
from ppa_fairseq.utils.errors import InputError

TEXTS = ["a  b ", "", "ﬁne ①½", "a\u3000b\tc", "\u200b x", "e\u0301 é", "a ▁ b", "😀 ٣ ﷺ", "Ελλάδα, देश!"]


@pytest.fixture(scope="module")
def xlm(tmp_path_factory):
    """A Hugging Face folder of XLMRobertaForMaskedLM: 2 layers x 16, 1,202 pieces."""
    folder = tmp_path_factory.mktemp("xlm")
    make_xlm_roberta(folder)
    return folder


@pytest.fixture
def folder(xlm, tmp_path):
    """A copy of `xlm` to spoil."""
    return shutil.copytree(xlm, tmp_path / "copy")


def run(capsys, *command):
    """(exit status, standard output, standard error) of one command."""
    status = cli.main([str(word) for word in command])
    return status, *capsys.readouterr()


def tensors_of(folder):
    return load_file(folder / "model.safetensors")


def assert_same_tensors(actual, expected):
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype and torch.equal(actual[name], tensor), name


def test_ids_are_sentencepieces_behind_fairseqs_specials(xlm):
    """<s> <pad> </s> <unk>, then SentencePiece's ids and one; last the mask. So does transformers' tokenizer."""
    ours, theirs = ModelTokenizer(read_files(xlm), "xlm").backend, XLMRobertaTokenizer.from_pretrained(xlm)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(xlm / "sentencepiece.bpe.model"))
    sentences = sample_sentences("test", 40) + TEXTS
    ids = [encoding.ids for encoding in ours.encode_batch(sentences)]
    assert ids == theirs(sentences)["input_ids"]
    expected = [[0, *(3 if i == 0 else i + 1 for i in processor.encode(text)), 2] for text in sentences]
    ties = [i for i, row in enumerate(ids) if row != expected[i]]  # of equal probability, as a|aa and aa|a
    assert len(ties) < 0.01 * len(ids) and all(sorted(ids[i]) == sorted(expected[i]) for i in ties)
    assert sum(map(len, ids)) > 10 * len(sentences) and any(3 in row for row in ids)
    assert ours.token_to_id("<mask>") == ours.get_vocab_size() - 1 == processor.get_piece_size() + 1


def test_there_and_back_and_there_is_bit_equal(xlm, tmp_path, capsys):
    status, report, error = run(capsys, "import-hf", xlm, tmp_path / "in")
    assert (status, error) == (0, "")
    assert "XLM-RoBERTa, 2 layers x 16" in report and "1202 tokens" in report and "left out" not in report
    assert run(capsys, "export-hf", tmp_path / "in", tmp_path / "out")[0] == 0
    assert_same_tensors(tensors_of(tmp_path / "out"), tensors_of(xlm))
    assert run(capsys, "import-hf", tmp_path / "out", tmp_path / "again")[0] == 0
    one, again = checkpoint.read(tmp_path / "in"), checkpoint.read(tmp_path / "again")
    assert_same_tensors(again.state, one.state)
    assert (again.shape, again.tokenizer) == (one.shape, one.tokenizer)
    for name in ("dict.txt", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "in" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert one.shape.position_offset == 2 and one.shape.token_types == 1
    ours, theirs = (json.loads((path / "config.json").read_text()) for path in (tmp_path / "out", xlm))
    assert ours["architectures"] == theirs["architectures"] == ["XLMRobertaForMaskedLM"]
    assert {ours[key] == theirs[key] for key in ("pad_token_id", "layer_norm_eps", "type_vocab_size")} == {True}


def test_an_export_loads_everywhere_and_computes_the_same(xlm, tmp_path, capsys):
    run(capsys, "import-hf", xlm, tmp_path / "in")
    out, sentences = tmp_path / "out", [text for text in sample_sentences("test", 3) if len(text) < 60]
    for pooling in ("cls", "mean"):
        assert run(capsys, "export-hf", tmp_path / "in", out, "--pooling", pooling)[0] == 0
        encoder, own = checkpoint.load_encoder(tmp_path / "in")
        packed = pack([torch.tensor(encoding.ids) for encoding in own.encode_batch(sentences)])
        with torch.no_grad():
            layers = encoder(**packed, return_layers=True)["layers"]
        vectors = SentenceTransformer(str(out), device="cpu").encode(sentences, convert_to_tensor=True)
        torch.testing.assert_close(vectors, pool(layers[-1], packed["cu_seqlens"], pooling), rtol=0, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.model_max_length == POSITIONS - 2 == encoder.max_positions()
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    mask = batch["attention_mask"].bool()
    assert batch["input_ids"][mask].tolist() == packed["tokens"].tolist()
    assert json.loads((out / "sentence_bert_config.json").read_text())["max_seq_length"] == POSITIONS - 2
    with torch.no_grad():
        theirs = AutoModelForMaskedLM.from_pretrained(xlm, attn_implementation="eager").eval()
        expected = theirs(**batch, output_hidden_states=True)
        for ours, hidden in zip(layers, expected.hidden_states, strict=True):
            torch.testing.assert_close(ours, hidden[mask], rtol=0, atol=1e-5)
        hidden = AutoModel.from_pretrained(out).eval()(**batch).last_hidden_state
        torch.testing.assert_close(hidden[mask], layers[-1], rtol=0, atol=1e-5)
        logits = AutoModelForMaskedLM.from_pretrained(out).eval()(**batch).logits
        torch.testing.assert_close(logits, expected.logits, rtol=0, atol=1e-5)


def test_the_longest_sequence_is_two_short_of_the_table(xlm):
    encoder, _ = checkpoint.load_encoder(xlm)
    theirs = XLMRobertaModel.from_pretrained(xlm, attn_implementation="eager").eval()
    tokens = torch.arange(4, 4 + POSITIONS - 2)
    with torch.no_grad():
        hidden = encoder(**pack([tokens]))["hidden"]
        torch.testing.assert_close(hidden, theirs(tokens[None]).last_hidden_state[0], rtol=0, atol=1e-5)
        with pytest.raises(InputError, match=f"{POSITIONS - 1} tokens does not fit the encoder's {POSITIONS - 2}"):
            encoder(**pack([torch.arange(4, 4 + POSITIONS - 1)]))


def bare(tensors):
    encoder = {n.removeprefix("roberta."): t for n, t in tensors.items() if n.startswith("roberta.")}
    others = {"pooler.dense.weight": torch.ones(16, 16), "embeddings.position_ids": torch.arange(POSITIONS)[None]}
    return encoder | others


def test_an_encoder_without_prefix_and_head_gets_a_stated_head(folder, tmp_path, capsys):
    expected = {n: t for n, t in tensors_of(folder).items() if n.startswith("roberta.")}
    save_file(bare(tensors_of(folder)), folder / "model.safetensors")
    status, report, _ = run(capsys, "import-hf", folder, tmp_path / "in")
    assert status == 0 and "no MLM head" in report
    assert "left out, as alignment does not use it: roberta.pooler" in report
    run(capsys, "export-hf", tmp_path / "in", tmp_path / "out")
    tensors = tensors_of(tmp_path / "out")
    assert_same_tensors({name: tensors[name] for name in expected}, expected)
    assert {n for n in tensors if n not in expected} == {
        *(f"lm_head.{module}.{kind}" for module in ("dense", "layer_norm") for kind in ("weight", "bias")),
        "lm_head.bias",
    }


@pytest.fixture(scope="module")
def data_bin(xlm, tmp_path_factory):
    """The base model, imported, and two language pairs of the sample, prepared and binarized for it."""
    root = tmp_path_factory.mktemp("data")
    pairs = [f"{pair}={SAMPLE}/{pair}.train.tsv.xz" for pair in ("de-en", "zh-en")]
    for command in (
        ["import-hf", xlm, root / "base"],
        ["prepare-bitext", *pairs, "--tokenizer", root / "base", "--out", root / "text", "--columns", "2,1",
         "--min-tokens", "3", "--max-tokens", "60", "--valid-share", "0.1", "--max-train", "300", "--workers", "1"],
        ["binarize", root / "text", "--destdir", root / "bin", "--workers", "1"],
    ):  # fmt: skip
        assert cli.main([str(word) for word in command]) == 0
    return root


def test_alignment_trains_on_it(data_bin, train, tmp_path, capsys):
    """From text to an aligned encoder in Hugging Face's form, with every command on the way."""
    base = data_bin / "base"
    sizes = "--arch ppa_bert --max-positions 66 --token-types 1 --layer-norm-eps 1e-5 --position-offset 2"
    sizes += " --encoder-layers 2 --max-update 6 --lr 1e-3 --dropout 0"
    trained = train(*sizes.split(), "--pretrained", str(base), data=data_bin / "bin")
    before = checkpoint.read(base)
    assert trained["cfg"]["model"]["position_offset"] == 2
    changed = {n for n, t in before.state.items() if not torch.equal(t, trained["model"][n])}
    assert changed == before.state.keys()
    position = "encoder.embed_positions.weight"
    assert torch.equal(before.state[position][:2], trained["model"][position][:2])
    path = tmp_path / "checkpoints" / "checkpoint_last.pt"

    (tmp_path / "text").write_text("Ein Hund.\nA dog.\n")
    files = ["--input", tmp_path / "text", "--output", tmp_path / "v.npy"]
    assert run(capsys, "embed", "--model", path, *files, "--pooling", "cls")[0] == 0
    assert run(capsys, "export-hf", path, tmp_path / "out", "--pooling", "cls")[0] == 0
    vectors = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(["Ein Hund.", "A dog."])
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), vectors, rtol=0, atol=1e-5)

    (tmp_path / "pairs").mkdir()
    shutil.copy(SAMPLE / "de-en.test.tsv.xz", tmp_path / "pairs")
    status, report, error = run(
        capsys, "retrieve", "--model", f"before={base}", "--model", f"after={path}", "--pairs", tmp_path / "pairs",
        "--output", tmp_path / "retrieval",
    )  # fmt: skip
    assert status == 0, error


def test_two_sentences_are_laid_out_as_transformers_lays_them(data_bin):
    from ppa_fairseq.data.bitext.corpora import load_corpora, load_dictionary
    from ppa_fairseq.data.bitext.dataset import AlignmentDataset
    from ppa_fairseq.data.bitext.masking import MaskingScheme

    folder, theirs = str(data_bin / "bin"), AutoTokenizer.from_pretrained(data_bin / "base")
    dictionary = load_dictionary(folder, ["de-en"])
    corpora = load_corpora(folder, "train", ["de-en"], all_needed=True)
    masking = MaskingScheme.for_dictionary(dictionary, 0.15)
    for languages in (None, ["de", "en"]):
        dataset = AlignmentDataset(
            corpora, dictionary, masking, seed=1, languages=languages, reset_positions=languages is not None
        )
        words = [{*dataset[i]["source"], *dataset[i]["target"]} for i in range(len(dataset))]
        known = [i for i, row in enumerate(words) if dictionary.unk() not in row][:12]  # can be decoded and encoded
        batch = dataset.collater([dataset[i] for i in known])
        packed = batch["net_input"]["query_input"]
        tokens = packed["tokens"].clone()
        tokens[batch["net_input"]["masked"]] = batch["target"]
        sequences = [part.tolist() for part in tokens.split(packed["lengths"])]
        positions = [part.tolist() for part in packed["positions"].split(packed["lengths"])]
        for i, index in enumerate(known):
            sides = [dataset[index][name].tolist()[:-1] for name in ("source", "target")]
            query, key = sides[::-1] if batch["swapped"][i] else sides
            text = [theirs.decode(side) for side in (query, key)]
            assert sequences[12 + i] == theirs(*text)["input_ids"] == [0, *query, 2, 2, *key, 2]
            assert sequences[i] == [0, *query, 2]
            assert dataset.size(index) == len(sequences[12 + i])
            second = len(query) + 3
            if languages is None:
                assert positions[12 + i] == list(range(second + len(key) + 1))
            else:
                assert positions[12 + i] == [*range(second), *range(len(key) + 1)]
                rows = packed["languages"].split(packed["lengths"])[12 + i].tolist()
                own = [1 + int(batch["swapped"][i]), 2 - int(batch["swapped"][i])]
                assert rows == [own[0]] * second + [own[1]] * (len(key) + 1)
        assert not packed["token_types"].any()
        assert not set(batch["target"].tolist()) & {0, 1, 2, dictionary.mask()}
        keys = batch["net_input"]["key_input"]
        assert all(part[0] == 0 and part[-1] == 2 for part in keys["tokens"].split(keys["lengths"]))


def test_specials_as_text_are_dropped(data_bin, tmp_path, capsys):
    words = ["Hund", "</s>", "<mask>", "<s>", "<pad>"]
    rows = [f"a dog barks {i}\tein {word} schläft {i}" for i, word in enumerate(words)]
    (tmp_path / "a.tsv").write_text("\n".join(rows) + "\n")
    status, report, error = run(
        capsys, "prepare-bitext", f"de-en={tmp_path}/a.tsv", "--columns", "2,1", "--tokenizer", data_bin / "base",
        "--out", tmp_path / "text", "--min-tokens", "1", "--valid-share", "0", "--workers", "1",
    )  # fmt: skip
    assert status == 0, error
    statistics = json.loads((tmp_path / "text" / "statistics.json").read_text())
    assert statistics["de-en"]["dropped"] == {"control": 4}


def test_unknown_characters_are_counted(data_bin, tmp_path, capsys):
    rows = [f"a dog barks {i}\tein Hund ☃ schläft {i}" for i in range(5)]
    (tmp_path / "a.tsv").write_text("\n".join(rows) + "\n")
    status, report, error = run(
        capsys, "prepare-bitext", f"de-en={tmp_path}/a.tsv", "--columns", "2,1", "--tokenizer", data_bin / "base",
        "--out", tmp_path / "text", "--min-tokens", "1", "--valid-share", "0", "--workers", "1",
    )  # fmt: skip
    assert status == 0, error
    statistics = json.loads((tmp_path / "text" / "statistics.json").read_text())["de-en"]
    written = (tmp_path / "text" / "train.de-en.de").read_text()
    assert statistics["unknown"] == {"de": written.split().count("<unk>"), "en": 0} and written.count("<unk>") >= 5
    share = sum(statistics["unknown"].values()) / sum(statistics["tokens"].values())
    assert "<unk>" in report and f"{share:.2%}" in report


def change_config(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def with_berts_tokenizer(folder):
    (folder / "sentencepiece.bpe.model").unlink()
    words = "[PAD] [UNK] [CLS] [SEP] [MASK]".split() + [f"w{i}" for i in range(1197)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


def truncated_sentencepiece(folder):
    path = folder / "sentencepiece.bpe.model"
    path.write_bytes(path.read_bytes()[:-7])


FAULTS = {
    "another padding id": (change_config(pad_token_id=0), "pad_token_id is 0; XLM-RoBERTa can be imported with 1 only"),
    "fewer positions": (change_config(max_position_embeddings=64), "embed_positions.weight is (66, 16)"),
    "a BERT's weights": (change_config(model_type="bert"), "is not a BERT's; config.json belongs"),
    "a BERT's vocabulary": (with_berts_tokenizer, "padding token has the id 0, but the model's has 1"),
    "no tokenizer": (lambda folder: (folder / "sentencepiece.bpe.model").unlink(), "has no tokenizer"),
    "a larger vocabulary": (
        lambda folder: train_sentencepiece(folder / "sentencepiece.bpe.model", vocab_size=1300),
        "the tokenizer has 1,302 tokens and the model 1,202 word embeddings",
    ),
    "truncated SentencePiece": (truncated_sentencepiece, "transformers cannot read the tokenizer"),
    "another file": (
        lambda folder: (folder / "sentencepiece.bpe.model").write_text("hello"),
        "transformers cannot read the tokenizer",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_get_one_clear_line_and_no_output(folder, tmp_path, capsys, fault):
    spoil, message = FAULTS[fault]
    spoil(folder)
    capsys.readouterr()
    status, report, error = run(capsys, "import-hf", folder, tmp_path / "in")
    assert status == 1 and report == ""
    assert error.startswith(f"ppa import-hf: error: {tmp_path}")
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "in").exists()
