"""`ppa score-bitext`: each pair with its cosine and its margin, as torch computes them, in the order of the files."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.hf_folders import sample_sentences
from sklearn.metrics import roc_auc_score

from ppa_fairseq.checkpoints.format import load_encoder
from ppa_fairseq.commands import main as cli
from ppa_fairseq.evaluation.embedding import SentenceEmbedder
from ppa_fairseq.evaluation.retrieval.accuracy import mean_nearest


@pytest.fixture
def bitext(tmp_path):
    """120 pairs, some sentences repeated; and lines that are left out."""
    sentences = sample_sentences("train", 10)
    first, second = sentences[0:240:2], sentences[1:241:2]
    first[7], second[9] = first[3], second[3]
    first[20] = second[20] = "the same"
    lines = [f"{a}\t{b}" for a, b in zip(first, second, strict=True)]
    (tmp_path / "de-en.tsv").write_text("\n".join([*lines[:50], "one column", "\tempty", *lines[50:]]) + "\n")
    return first, second


def run(capsys, tmp_path, *arguments):
    status = cli.main(["score-bitext", *map(str, arguments), "--output", str(tmp_path / "scored"), "--cpu"])
    return status, *capsys.readouterr()


def expected_scores(folder, first, second, k):
    """Cosine and margin in fp64; the neighbours of a sentence are different ones."""
    encoder, tokenizer = load_encoder(folder)
    embed = SentenceEmbedder(encoder, tokenizer, [2], ["mean"], cpu=True)
    sides = [F.normalize(embed(side)["mean"][0].double(), dim=1) for side in (first, second)]
    unique = [side[[texts.index(text) for text in dict.fromkeys(texts)]]
              for side, texts in zip(sides, (first, second), strict=True)]  # fmt: skip
    near = mean_nearest(sides[0], unique[1], k, 100), mean_nearest(sides[1], unique[0], k, 100)
    cosine = (sides[0] * sides[1]).sum(dim=1)
    return torch.stack([cosine, 2 * cosine / (near[0] + near[1])], dim=1).numpy()


@pytest.mark.parametrize("k", [1, 4])
def test_scores_are_those_of_torch_in_the_order_of_the_file(folders, bitext, tmp_path, capsys, k):
    status, printed, _ = run(
        capsys, tmp_path, tmp_path / "de-en.tsv", "--model", folders["bert"], "--neighbours", k, "--columns", "1,2"
    )
    assert status == 0 and "|de-en|120|2|" in "".join(printed.split())
    rows = [line.split("\t") for line in (tmp_path / "scored" / "de-en.tsv").read_text().splitlines()]
    assert [row[:2] for row in rows] == [list(pair) for pair in zip(*bitext, strict=True)]
    scores = np.array([row[2:] for row in rows], dtype=float)
    np.testing.assert_allclose(scores, expected_scores(folders["bert"], *bitext, k), atol=2e-5)
    assert {path.name for path in (tmp_path / "scored").iterdir()} - {".ppa-output.json"} == {
        "de-en.tsv",
        "de-en.png",
        "table.md",
    }


def test_scored_bitext_is_filtered_by_its_column(folders, bitext, tmp_path, capsys):
    assert run(capsys, tmp_path, f"de-en={tmp_path}/de-en.tsv", "--model", folders["bert"])[0] == 0
    scored = tmp_path / "scored"
    margins = sorted(float(line.split("\t")[3]) for line in (scored / "de-en.tsv").read_text().splitlines())
    command = ["prepare-bitext", str(scored), "--tokenizer", str(folders["bert"]), "--out", str(tmp_path / "text")]
    command += ["--workers", "1", "--min-tokens", "1", "--valid-share", "0.1", "--score-column", "4", "--min-score"]
    assert cli.main([*command, str(margins[40])]) == 0
    statistics = (tmp_path / "text" / "statistics.json").read_text()
    assert '"score": 40' in statistics


def test_the_lowest_margins_are_those_of_shuffled_pairs(folders, tmp_path, capsys):
    """Sentences that are equal on both sides but for case: any encoder finds these."""
    sentences = list(dict.fromkeys(sample_sentences("train", 12)))[:200]
    shuffled = sentences[150:]
    random.Random(0).shuffle(shuffled)
    pairs = zip(sentences, sentences[:150] + shuffled, strict=True)
    (tmp_path / "de-en.tsv").write_text("".join(f"{first}\t{second} .\n" for first, second in pairs))
    assert run(capsys, tmp_path, tmp_path / "de-en.tsv", "--model", folders["bert"])[0] == 0
    rows = [line.split("\t") for line in (tmp_path / "scored" / "de-en.tsv").read_text().splitlines()]
    wrong = [f"{first} ." != second for first, second, *_ in rows]
    margins = np.array([float(row[3]) for row in rows])
    assert 40 < sum(wrong) <= 50
    assert roc_auc_score(wrong, -margins) > 0.9


BAD = {
    "no pair": ("de-en={}/empty.tsv", "de-en: no pair can be read"),
    "no file": ("de-en={}/none.tsv", "none.tsv: no such file"),
    "no column": ("de-en={}/de-en.tsv --columns 1,3", "de-en.tsv: its lines have 2 columns, no column 3"),
    "layer": ("de-en={}/de-en.tsv --layer 7", "--layer 7: no such layer"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_leaves_nothing(folders, bitext, tmp_path, capsys, text, message):
    (tmp_path / "empty.tsv").write_text("\t\n")
    status, _, error = run(capsys, tmp_path, *text.format(tmp_path).split(), "--model", folders["bert"])
    assert status == 1 and message in error.splitlines()[-1]
    assert not list(tmp_path.glob("*scored*"))
