"""`ppa perplexity` against transformers' loss on the very inputs that were masked."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.hf_folders import sample_sentences
from helpers.tables import table_rows
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands import main as cli
from ppa_fairseq.evaluation.masked_lm import MaskedLM
from ppa_fairseq.utils.errors import InputError

LENGTH = 32


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
    """Masked tokens, bits a token and percent guessed right; `given` are the masked sequences, in any order."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    cut = dict(truncation=True, max_length=LENGTH, return_tensors="pt")
    rows = [tokenizer(*texts, **cut) for texts in zip(*sides, strict=True)]
    masked, bits, right = 0, 0.0, 0
    for ids in map(torch.tensor, given):
        hidden = ids[None] == tokenizer.mask_token_id
        of_its_length = (row for row in rows if row["input_ids"].shape == hidden.shape)
        row = next(row for row in of_its_length if torch.equal(row["input_ids"][~hidden], ids[~hidden[0]]))
        labels = row["input_ids"].masked_fill(~hidden, -100)
        output = model(**(row | {"input_ids": ids[None]}), labels=labels)
        masked += int(hidden.sum())
        bits += output.loss.item() * int(hidden.sum()) / math.log(2)
        right += int((output.logits.argmax(-1) == labels).sum())
        assert not set(row["input_ids"][hidden].tolist()) & set(tokenizer.all_special_ids)  # nor [UNK]
    return masked, bits / masked, 100 * right / masked


@pytest.mark.parametrize("family", ["bert", "xlmr"])
@pytest.mark.parametrize("kind", ["sentences", "pairs"])
def test_bits_and_accuracy_equal_transformers(folders, family, kind):
    model, texts = masked_lm(folders[family]), some_sentences(40)
    sides = [texts] if kind == "sentences" else [texts[::2], texts[1::2]]
    given = watch(model)
    score = model(getattr(model, kind)(*sides))
    tokenizer = AutoTokenizer.from_pretrained(folders[family])
    longer = [len(tokenizer(*texts)["input_ids"]) > LENGTH for texts in zip(*sides, strict=True)]
    assert model.truncated == sum(longer) > 0 and len(given) == len(longer)
    given = [ids for ids in given if model.special.mask() in ids]  # a sequence of [UNK] alone has nothing to mask
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


def test_a_perfect_model_needs_no_bits(folders):
    """A decoder bias that only ever names one token guesses texts of that token alone."""
    content = checkpoint.read(folders["bert"])
    token = 7
    content.state["lm_head.bias"] = F.one_hot(torch.tensor(token), content.shape.vocab_size).float() * 600
    model = MaskedLM(content, "here", max_length=LENGTH, cpu=True)
    letter = model.tokenizer.id_to_token(token)
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
    bare = shutil.copytree(folders["bert"], tmp_path / "bare")
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
    score, result = model(model.sentences(lines)), found["whole", "MLM", "de"]
    assert (result["masked"], result["bits"], result["sentences"]) == (score.masked, pytest.approx(score.bits), 10)
    assert result["perplexity"] == pytest.approx(2**score.bits) and result["accuracy"] == pytest.approx(score.accuracy)
    one, other, average = (found["bare", "MLM", text] for text in ("de", "en", "average"))
    assert average["bits"] == pytest.approx((one["bits"] + other["bits"]) / 2)
    assert average["perplexity"] == pytest.approx(np.sqrt(one["perplexity"] * other["perplexity"]))
    assert average["masked"] == one["masked"] + other["masked"]
    assert (output / "table.md").read_text() in out and "* Its MLM head was never trained" in out
    measures = ("bits", "perplexity", "accuracy")
    heading = ["text", "sentences", *(f"{model} {measure}" for model in ("whole", "bare*") for measure in measures)]
    rows = table_rows(out)
    assert heading in rows and ["average", "20"] in [row[:2] for row in rows]
    assert f"whole: {document['models']['whole']['truncated']} of 30 sequences cut to {LENGTH} tokens" in error


def test_a_model_trained_with_xlms_tlm_is_known(folders, texts, tmp_path):
    content = checkpoint.read(folders["bert"])
    content.xlm_tlm = True
    checkpoint.write(tmp_path / "xlm.pt", content)
    models = [f"--model=ppa={folders['bert']}", f"--model=xlm={tmp_path}/xlm.pt", f"--output={tmp_path}/out"]
    assert cli.main(["perplexity", *models, f"--pairs={texts}", f"--max-length={LENGTH}"]) == 0
    document = json.loads((tmp_path / "out" / "perplexity.json").read_text())
    assert {name: about["xlm_tlm"] for name, about in document["models"].items()} == {"ppa": False, "xlm": True}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param([], "neither --text nor --pairs", id="nothing"),
        pytest.param(["--text", "de={0}/de-en.de", "--text", "de={0}/de-en.en"], "the name is taken", id="one name"),
        pytest.param(["--text", "average={0}/de-en.de"], "the name is taken", id="average"),
        pytest.param(["--text", "de={0}/unknown"], "model m: de: no token of the text can be masked", id="[UNK] alone"),
        pytest.param(["--pairs", "{0}/unknown"], "unknown: no parallel text found", id="no pairs"),
        pytest.param(["--text", "de={0}/de-en.de", "--max-sentences", "-1"], "--max-sentences -1", id="sentences"),
        pytest.param(["--text", "de={0}/de-en.de", "--max-length", "67"], "model m: --max-length 67", id="length"),
        pytest.param(["--pairs", "{0}", "--model", "x={0}/headless.pt"], "headless.pt: no MLM head", id="no head"),
    ],
)
def test_bad_input_is_refused_in_one_line(folders, texts, capsys, flags, message):
    (texts / "unknown").write_text("日本\n")
    content = checkpoint.read(folders["bert"])
    content.state = {name: tensor for name, tensor in content.state.items() if name.startswith("encoder.")}
    checkpoint.write(texts / "headless.pt", content)
    flags = ["--output", texts / "out", "--max-length", LENGTH, *(flag.format(texts) for flag in flags)]
    status, _, error = run(capsys, "--model", f"m={folders['bert']}", *flags)
    last = error.splitlines()[-1]
    assert status == 1 and last.startswith("ppa perplexity: error: ") and message in last
    assert not (texts / "out").exists()


@pytest.mark.parametrize("share", ["0", "1.1", "x"])
def test_a_share_outside_0_to_1_is_refused(share, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["perplexity", "--model", f"m={tmp_path}", "--mask", share])
