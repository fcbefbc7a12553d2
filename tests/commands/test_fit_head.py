"""`ppa fit-head`: the encoder stays bit for bit, the new head knows the data."""

import lzma
import re

import pytest
import torch
from helpers.hf_folders import SAMPLE

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands.main import main
from ppa_fairseq.evaluation.masked_lm import MaskedLM


@pytest.fixture
def fitted(imported, data_bin, tmp_path):
    encoder = imported()
    assert main(["fit-head", str(encoder), str(data_bin), str(tmp_path / "fitted"), "--cpu"]) == 0
    return encoder, tmp_path / "fitted"


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)["model"]


def test_fit_head_changes_the_head_alone(fitted, capsys):
    before, after = map(weights, fitted)
    assert before.keys() == after.keys()
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    fitted_parts = ("dense.weight", "dense.bias", "layer_norm.weight", "bias")
    assert changed == {f"lm_head.{name}" for name in fitted_parts}


def test_masked_tokens_of_a_real_encoder_cost_much_less(shared_data, tmp_path):
    """With an untrained head a masked token costs 16 bits; 800 pairs of the sample save 4 of them."""
    paths = {name: str(tmp_path / name) for name in ("raw", "imported", "text", "bin", "fitted")}
    (tmp_path / "raw").mkdir()
    rows = lzma.open(SAMPLE / "de-en.train.tsv.xz", "rt", encoding="utf-8").readlines()
    (tmp_path / "raw" / "de-en.tsv").write_text("".join(rows[:2000]), encoding="utf-8")
    assert main(["import-hf", str(shared_data("standin")), paths["imported"]]) == 0
    prepare = ["--tokenizer", paths["imported"], "--out", paths["text"], "--workers", "1", "--min-tokens", "3"]
    assert main(["prepare-bitext", paths["raw"], *prepare]) == 0
    assert main(["binarize", paths["text"], "--destdir", paths["bin"], "--workers", "1"]) == 0
    fit = ["--cpu", "--pairs", "800"]
    assert main(["fit-head", paths["imported"], paths["bin"], paths["fitted"], *fit]) == 0
    sentences = [row.split("\t")[0] for row in rows[3000:3100]]
    models = (MaskedLM(checkpoint.read(paths[name]), name, cpu=True) for name in ("imported", "fitted"))
    untrained, ours = (model(model.sentences(sentences)).bits for model in models)
    assert ours < untrained - 4, (untrained, ours)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["{encoder}", "none", "{out}"], "none: no such folder", id="no data"),
        pytest.param(["none", "{data}", "{out}"], "none: no such checkpoint", id="no encoder"),
        pytest.param(["{encoder}", "{data}", "{out}", "--pairs", "3"], "only .* masked tokens", id="too few pairs"),
    ],
)
def test_bad_input_is_one_line(imported, data_bin, tmp_path, capsys, arguments, message):
    paths = {"encoder": imported(), "data": data_bin, "out": tmp_path / "out"}
    assert main(["fit-head", "--cpu", *(argument.format(**paths) for argument in arguments)]) == 1
    assert re.match(f"ppa fit-head: error: .*{message}", capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "out").exists()


def test_another_vocabulary_is_refused(imported, dictionary, data_bin, tmp_path, capsys):
    encoder = imported(symbols=[*dictionary.symbols[:-1], "other"])
    assert main(["fit-head", str(encoder), str(data_bin), str(tmp_path / "out"), "--cpu"]) == 1
    assert "of the data" in capsys.readouterr().err
