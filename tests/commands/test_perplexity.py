"""`ppa perplexity` against transformers' loss on the very inputs that were masked."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.hf_folders import make_bert, make_xlm_roberta, sample_sentences
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands import main as cli
from ppa_fairseq.evaluation.masked_lm import MaskedLM
from ppa_fairseq.utils.errors import InputError

LENGTH = 32


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{family: Hugging Face folder} with an MLM head of random weights and biases."""
    makers = {"bert": make_bert, "xlmr": make_xlm_roberta}
    paths = {name: tmp_path_factory.mktemp(name) for name in makers}
    for name, make in makers.items():
        make(paths[name])
    return paths


def some_sentences(count: int) -> list[str]:
    return sample_sentences("test", 20)[:count]


def masked_lm(folder, **settings) -> MaskedLM:
    return MaskedLM(checkpoint.read(folder), str(folder), **(dict(max_length=LENGTH, cpu=True) | settings))


def watch(model: MaskedLM) -> list[list[int]]:
    """Fills with the token ids of every sequence that the encoder is given."""
    seen = []

    def note(_, args, inputs):
        seen.extend(rows.tolist() for rows in inputs["tokens"].split(inputs["lengths"]))

    model.encoder.register_forward_pre_hook(note, with_kwargs=True)
    return seen


@torch.no_grad()
def loss_by_transformers(folder, given, *sides) -> tuple[int, float, float]:
    """Masked pieces, bits a piece and percent guessed right; `given` are the masked sequences, in any order."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    cut = dict(truncation=True, max_length=LENGTH, return_tensors="pt")
    rows = [tokenizer(*texts, **cut) for texts in zip(*sides, strict=True)]
    masked, bits, right = 0, 0.0, 0
    for ids in given:
        ids = torch.tensor([ids])
        hidden = ids == tokenizer.mask_token_id
        of_its_length = (row for row in rows if row["input_ids"].shape == ids.shape)
        row = next(row for row in of_its_length if torch.equal(row["input_ids"][~hidden], ids[~hidden]))
        labels = row["input_ids"].masked_fill(~hidden, -100)
        output = model(**(row | {"input_ids": ids}), labels=labels)
        masked += int(hidden.sum())
        bits += output.loss.item() * int(hidden.sum()) / math.log(2)
        right += int((output.logits.argmax(-1) == labels).sum())
        wanted = row["input_ids"][hidden]
        assert len(wanted) and not set(wanted.tolist()) & set(tokenizer.all_special_ids)  # nor [UNK]
    return masked, bits / masked, 100 * right / masked


@pytest.mark.parametrize("family", ["bert", "xlmr"])
def test_sentences_and_pairs_equal_transformers(folders, family):
    model, texts = masked_lm(folders[family]), some_sentences(40)
    seen = watch(model)
    for sides in ([texts], [texts[::2], texts[1::2]]):
        seen.clear()
        model.truncated = 0
        sequences = model.sentences(*sides) if len(sides) == 1 else model.pairs(*sides)
        score = model(sequences)
        given = list(seen)
        tokenizer = AutoTokenizer.from_pretrained(folders[family])
        longer = [len(tokenizer(*texts)["input_ids"]) > LENGTH for texts in zip(*sides, strict=True)]
        assert model.truncated == sum(longer) > 0 and len(given) == len(longer)
        # A sequence of nothing but [UNK] has nothing to mask.
        given = [ids for ids in given if model.special.mask() in ids]
        masked, bits, accuracy = loss_by_transformers(folders[family], given, *sides)
        assert score.masked == masked and score.accuracy == pytest.approx(accuracy)
        assert score.bits == pytest.approx(bits, rel=1e-5)


def test_the_share_is_exact_on_average_and_masks_depend_on_nothing_else(folders):
    texts = [text.lower() for text in some_sentences(60)]
    scores, given = [], []
    for settings in (dict(), dict(batch_tokens=40), dict(seed=2), dict(probability=0.5)):
        model = masked_lm(folders["bert"], **settings)
        seen = watch(model)
        scores.append(model(model.sentences(texts)))
        given.append(sorted(seen))
    assert given[0] == given[1] != given[2]
    assert scores[0].bits == pytest.approx(scores[1].bits, rel=1e-5) != scores[2].bits
    ids = np.concatenate([tokens for tokens, _ in model.sentences(texts)])
    maskable = int(model.scheme.maskable[ids].sum())
    for score, probability in ((scores[0], 0.15), (scores[3], 0.5)):
        assert abs(score.masked - probability * maskable) < 3 * np.sqrt(len(texts) / 4) + 0.15 * len(texts)


def test_a_perfect_model_pays_nothing(folders):
    """A decoder bias that only ever names one piece guesses texts of that piece alone."""
    content = checkpoint.read(folders["bert"])
    piece = 7
    content.state["lm_head.bias"] = F.one_hot(torch.tensor(piece), content.shape.vocab_size).float() * 600
    model = MaskedLM(content, "here", max_length=LENGTH, cpu=True)
    letter = model.tokenizer.id_to_token(piece)
    score = model(model.sentences([f"{letter} {letter} {letter}"] * 3))
    assert (score.bits, score.accuracy, score.masked >= 3) == (0, 100, True)
    other = model(model.sentences(["d"]))
    assert letter != "d" and other.bits > 800 and other.accuracy == 0
    content.state["lm_head.bias"] *= 2  # over 1,024 bits the perplexity is no number
    with pytest.raises(InputError, match="not finite or over 1024 bits"):
        model = MaskedLM(content, "here", max_length=LENGTH, cpu=True)
        model(model.sentences(["d"]))


def run(capsys, *flags) -> tuple[int, str, str]:
    status = cli.main(["perplexity", *map(str, flags)])
    return status, *capsys.readouterr()


@pytest.fixture
def texts(tmp_path):
    """de and en as sentences, de-en as pairs: 12 lines each."""
    lines = some_sentences(24)
    for name, side in (("de-en.de", lines[::2]), ("de-en.en", lines[1::2])):
        (tmp_path / name).write_text("\n".join(side) + "\n", encoding="utf-8")
    return tmp_path


def test_models_and_texts_are_reported_with_untrained_heads_marked(folders, texts, tmp_path, capsys):
    """The head that import-hf makes is known for what it is after the import, too."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in folders["bert"].iterdir():
        (bare / path.name).write_bytes(path.read_bytes())
    tensors = load_file(bare / "model.safetensors")
    tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("bert.")}
    save_file(tensors, bare / "model.safetensors")
    assert cli.main(["import-hf", str(bare), str(tmp_path / "imported")]) == 0
    capsys.readouterr()
    models = ["--model", f"whole={folders['bert']}", "--model", f"bare={tmp_path / 'imported'}"]
    data = [f"--text=de={texts / 'de-en.de'}", f"--text=en={texts / 'de-en.en'}", "--pairs", texts / "de-en.de"]
    output = tmp_path / "out"
    status, out, error = run(capsys, *models, *data, "--max-sentences", 10, "--max-length", LENGTH, "--output", output)
    assert status == 0, error
    document = json.loads((output / "perplexity.json").read_text())
    assert {name: about["head_trained"] for name, about in document["models"].items()} == {"whole": True, "bare": False}
    found = {(r["model"], r["kind"], r["text"]): r for r in document["results"]}
    kinds = [("MLM", "de"), ("MLM", "en"), ("MLM", "average"), ("TLM", "de-en")]
    assert found.keys() == {(name, *kind) for name in ("whole", "bare") for kind in kinds}
    model, lines = masked_lm(folders["bert"]), (texts / "de-en.de").read_text(encoding="utf-8").splitlines()[:10]
    score = model(model.sentences(lines))
    result = found["whole", "MLM", "de"]
    assert (result["masked"], result["bits"], result["sentences"]) == (score.masked, pytest.approx(score.bits), 10)
    assert result["perplexity"] == pytest.approx(2**score.bits) and result["accuracy"] == pytest.approx(score.accuracy)
    both = [found["bare", "MLM", text] for text in ("de", "en")]
    average = found["bare", "MLM", "average"]
    assert average["bits"] == pytest.approx(np.mean([r["bits"] for r in both]))
    assert average["perplexity"] == pytest.approx(np.sqrt(both[0]["perplexity"] * both[1]["perplexity"]))
    assert average["masked"] == sum(r["masked"] for r in both)
    assert (output / "table.md").read_text() in out and "* Its MLM head was never trained" in out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines()]
    assert ["text", "sentences", "whole bits", "whole perplexity", "whole accuracy",
            "bare* bits", "bare* perplexity", "bare* accuracy"] in rows  # fmt: skip
    assert ["average", "20"] in [row[:2] for row in rows]
    assert f"whole: {document['models']['whole']['truncated']} of 30 sequences cut to {LENGTH} tokens" in error


def test_pairs_of_a_model_with_xlms_tlm_are_marked(folders, texts, tmp_path, capsys):
    """Not its sentences, which it lays out as any other."""
    assert cli.main(["import-hf", str(folders["bert"]), str(tmp_path / "imported")]) == 0
    content = torch.load(tmp_path / "imported" / "model.pt", weights_only=True)
    content["cfg"]["task"]["tlm_language_embeddings"] = True
    torch.save(content, tmp_path / "xlm.pt")
    checkpoint.write(tmp_path / "again.pt", checkpoint.read(tmp_path / "xlm.pt"))  # as trim-vocab does
    assert checkpoint.read(tmp_path / "again.pt").xlm_tlm and not checkpoint.read(tmp_path / "imported").xlm_tlm
    capsys.readouterr()
    data = [f"--text=de={texts / 'de-en.de'}", "--pairs", texts / "de-en.de", "--max-length", LENGTH]
    models = ["--model", f"ppa={folders['bert']}", "--model", f"xlm={tmp_path / 'xlm.pt'}"]
    status, out, error = run(capsys, *models, *data)
    assert status == 0, error
    sentences, pairs = out.split("Masked tokens of sentence pairs")
    assert "xlm bits" in sentences and "†" not in sentences
    assert "| xlm† bits" in pairs and "| ppa bits" in pairs and "\n† Its TLM used XLM's positions" in pairs


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "neither --text nor --pairs"),
        (["--text", "de={0}/de-en.de", "--text", "de={0}/de-en.en"], "the name is taken"),
        (["--text", "average={0}/de-en.de"], "the name is taken"),
        (["--text", "de={0}/nothing"], "nothing: No such file"),
        (["--text", "de={0}/empty"], "empty: the file is empty"),
        (["--text", "de={0}/unknown"], "model m: de: no token of the text can be masked"),
        (["--pairs", "{0}/empty"], "empty: no language pair in the file's name"),
        (["--text", "de={0}/de-en.de", "--max-sentences", "-1"], "--max-sentences -1"),
        (["--text", "de={0}/de-en.de", "--max-length", "67"], "model m: --max-length 67: the encoder has 66 positions"),
        (["--text", "de={0}/de-en.de", "--output", "{0}/empty"], "empty: is a file"),
    ],
)
def test_bad_input_is_refused_in_one_line(folders, texts, capsys, flags, message):
    (texts / "empty").write_text("")
    (texts / "unknown").write_text("日本\n")
    flags = [flag.format(texts) for flag in flags]
    flags = ["--output", texts / "out", "--max-length", LENGTH, *flags]
    status, _, error = run(capsys, "--model", f"m={folders['bert']}", *flags)
    last = error.splitlines()[-1]
    assert status == 1 and last.startswith("ppa perplexity: error: ") and message in last
    assert not (texts / "out").exists()


def test_a_model_without_head_and_bad_shares_are_refused(folders, texts, tmp_path, capsys):
    content = checkpoint.read(folders["bert"])
    content.state = {name: tensor for name, tensor in content.state.items() if name.startswith("encoder.")}
    checkpoint.write(tmp_path / "headless.pt", content)
    text = ["--text", f"de={texts / 'de-en.de'}"]
    status, _, error = run(capsys, "--model", f"m={tmp_path / 'headless.pt'}", *text, "--max-length", LENGTH)
    assert status == 1 and "headless.pt: no MLM head" in error
    for bad in ("0", "1.1", "x"):
        with pytest.raises(SystemExit, match="2"):
            run(capsys, "--model", f"m={folders['bert']}", *text, "--mask", bad)
