"""`ppa fit-head`: the encoder stays bit for bit, the new head predicts the data, TLM begins from there."""

import re

import pytest
import torch

from ppa_fairseq.commands.main import main


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


def test_tlm_begins_below_the_unigram_entropy_of_the_data(fitted, train, caplog):
    """The data draws 100 words of each language evenly: log2(200) bits a token. An untrained head has more."""
    caplog.set_level("INFO", "train_inner")
    losses = []
    for number, folder in enumerate(fitted):
        caplog.clear()
        train("--pretrained", str(folder), "--max-update", "1", "--log-interval", "1", save_dir=f"run{number}")
        losses.append(float(re.search(r"tlm=([\d.]+)", caplog.text)[1]))
    assert losses[1] < min(losses[0], 7.75), losses


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
