"""`ppa word-align` against plain float64 loops over transformers' vectors; the error rate against worked examples."""

import json
import lzma
import runpy
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.hf_folders import POSITIONS, sample_sentences
from helpers.tables import table_rows
from transformers import AutoModel, AutoTokenizer

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands import main as cli
from ppa_fairseq.commands import word_align
from ppa_fairseq.evaluation.word_alignment.aligner import WordAligner
from ppa_fairseq.evaluation.word_alignment.error_rate import Gold, Tally, read_gold
from ppa_fairseq.utils.errors import InputError

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "word_alignment.py"
THRESHOLD = 0.05  # random encoders are less sure of themselves than trained ones


def some_pairs(count: int) -> list[tuple[list[str], list[str]]]:
    """Pairs of the sample's words, from a single one to 8 a side; of one word nothing can be seen."""
    rng = np.random.default_rng(0)
    words = [word for line in sample_sentences("test", 20) for word in line.split()]
    pairs = [tuple(list(rng.choice(words, rng.integers(1, 9))) for _ in range(2)) for _ in range(count)]
    pairs[3][0].insert(1, "\u200b\u200d")  # BERT has no tokens for it, XLM-RoBERTa the space before it
    return pairs


class Oracle:
    """One sentence at a time, one link at a time, in float64."""

    def __init__(self, folder, max_length=POSITIONS - 2):
        self.model = AutoModel.from_pretrained(folder).double().eval()
        self.tokenizer, self.max_length, self.known = AutoTokenizer.from_pretrained(folder), max_length, {}

    @torch.no_grad()
    def tokens(self, words: list[str], layer: int) -> list[tuple[int, np.ndarray]]:
        """(number of the word, vector) of each token."""
        if tuple(words) not in self.known:
            cut = dict(truncation=True, max_length=self.max_length, return_tensors="pt")
            inputs = self.tokenizer(words, is_split_into_words=True, **cut)
            hidden = self.model(**inputs, output_hidden_states=True).hidden_states
            self.known[tuple(words)] = inputs.word_ids(0), [one[0].numpy() for one in hidden]
        numbers, hidden = self.known[tuple(words)]
        return [(word, vector) for word, vector in zip(numbers, hidden[layer], strict=True) if word is not None]

    def links(self, pair, layer, method, threshold=THRESHOLD) -> set[tuple[int, int]]:
        source, target = (self.tokens(words, layer) for words in pair)
        if not source or not target:
            return set()
        dots = np.array([[x @ y for _, y in target] for _, x in source])
        if method == "argmax":
            dots /= np.outer(*([np.sqrt(x @ x) for _, x in side] for side in (source, target)))
        found = set()
        for i, j in np.ndindex(dots.shape):
            row, column = dots[i, :], dots[:, j]
            linked = row.argmax() == j and column.argmax() == i
            if method == "softmax":
                sure = [np.exp(dots[i, j] - line.max()) / np.exp(line - line.max()).sum() for line in (row, column)]
                linked = min(sure) > threshold
            if linked:
                found.add((source[i][0], target[j][0]))
        return found


def aligner_of(folder, layers=(0, 1, 2), **settings) -> WordAligner:
    settings = dict(methods=("softmax", "argmax"), threshold=THRESHOLD, cpu=True) | settings
    return WordAligner(*checkpoint.load_encoder(folder), layers, **settings)


def as_sets(links: list[np.ndarray]) -> list[set[tuple[int, int]]]:
    return [set(map(tuple, pair.tolist())) for pair in links]


@pytest.mark.parametrize("family", ["bert", "xlmr"])
def test_links_equal_plain_loops(folders, family):
    pairs, oracle = some_pairs(14), Oracle(folders[family])
    found = aligner_of(folders[family], batch_tokens=150)(pairs)
    assert found.keys() == set(product((0, 1, 2), ("softmax", "argmax")))
    for (layer, method), links in found.items():
        expected = [oracle.links(pair, layer, method) for pair in pairs]
        assert as_sets(links) == expected
        possible = sum(len(source) * len(target) for source, target in pairs)
        assert 0.02 < sum(map(len, expected)) / possible < 0.8  # neither nothing nor everything
        assert all(pair.tolist() == sorted(pair.tolist()) for pair in links)
        assert family != "bert" or all(source != 1 for source, _ in as_sets(links)[3])


def test_cut_words_have_no_links(folders):
    pairs = [(["abcde", "fg", "ijklm"], ["nop", "qrst"]), (["a"], ["b", "c"])]
    aligner, oracle = aligner_of(folders["bert"], [2], max_length=9), Oracle(folders["bert"], max_length=9)
    for (layer, method), links in aligner(pairs).items():
        assert as_sets(links) == [oracle.links(pair, layer, method) for pair in pairs]
        assert max(i for i, _ in as_sets(links)[0]) == 1
    assert aligner.truncated == 1


def test_error_rate_of_worked_examples(tmp_path):
    """Two pairs; |A| = 3 + 1, |S| = 2 + 1, of the links 1 + 1 sure and 2 + 1 possible: AER = 1 - 5 / 7."""
    (tmp_path / "gold").write_text("1-1 2p3 2-2\r\n1p2 2-1")
    gold = read_gold(tmp_path / "gold", 1, [(3, 3), (2, 2)])
    assert gold[0] == Gold(frozenset({(0, 0), (1, 1)}), frozenset({(0, 0), (1, 1), (1, 2)}))
    tally = Tally()
    tally.add({(0, 0), (1, 2), (2, 2)}, gold[0])
    assert (tally.precision, tally.recall, tally.error_rate) == pytest.approx((200 / 3, 50, 40))
    tally.add({(1, 0)}, gold[1])
    assert (tally.precision, tally.recall, tally.error_rate) == pytest.approx((75, 200 / 3, 100 * 2 / 7))
    perfect, nothing = Tally(), Tally()
    perfect.add(set(gold[0].sure), gold[0])  # to miss a possible link is no error
    nothing.add(set(), gold[0])
    assert (perfect.precision, perfect.recall, perfect.error_rate) == (100, 100, 0)
    assert (nothing.precision, nothing.recall, nothing.error_rate) == (0, 0, 100)


@pytest.mark.parametrize(
    ("text", "base", "message"),
    [
        pytest.param("0-0\n", 0, "gold: 1 lines, but more pairs", id="short"),
        pytest.param("0-0\n\n0-0\n", 0, "gold: 2 pairs, but more lines", id="long"),
        pytest.param("0-0\n0-1 1_1\n", 0, "gold:2: '1_1' is not a link", id="no link"),
        pytest.param("0-0\n0-3\n", 0, "gold:2: 0-3 links words that do not exist: the sentences", id="word"),
        pytest.param("1-1\n0-1\n", 1, "gold:2: 0-1 links words that do not exist", id="base"),
        pytest.param("0p0\n\n", 0, "gold: no sure link", id="none sure"),
    ],
)
def test_bad_gold_is_refused(tmp_path, text, base, message):
    (tmp_path / "gold").write_text(text)
    with pytest.raises(InputError, match=message):
        read_gold(tmp_path / "gold", base, [(2, 3), (2, 3)])


def run(capsys, *flags) -> tuple[int, str, str]:
    status = cli.main(["word-align", *map(str, flags)])
    return status, *capsys.readouterr()


@pytest.fixture
def text(tmp_path):
    """14 pairs as `source ||| target`, and their gold standard, counted from 1: i-i sure, its neighbour possible."""
    lines, gold = [], []
    for source, target in some_pairs(14):
        lines.append(f"{' '.join(source)}  ||| {' '.join(target)} \n")
        both = range(1, 1 + min(len(source), len(target)))
        gold.append(" ".join([f"{i}-{i}" for i in both] + [f"{i}p{i - 1}" for i in both if i > 1]) + "\n")
    (tmp_path / "pairs.txt").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "gold").write_text("".join(gold))
    return tmp_path / "pairs.txt"


def test_links_are_printed_in_the_texts_order(folders, text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(word_align, "WINDOW", 5)
    sides = [[" ".join(side) for side in pair] for pair in some_pairs(14)]
    (tmp_path / "pairs.tsv.xz").write_bytes(lzma.compress("".join(f"{b}\tx\t{a}\n" for a, b in sides).encode()))
    expected = [sorted(links) for links in as_sets(aligner_of(folders["bert"], [1])(some_pairs(14))[1, "argmax"])]
    lines = [" ".join(f"{i}-{j}" for i, j in links) + "\n" for links in expected]
    flags = ["--model", f"m={folders['bert']}", "--layer", 1, "--method", "argmax", "--text"]
    assert run(capsys, *flags, text)[:2] == (0, "".join(lines))
    assert run(capsys, *flags, tmp_path / "pairs.tsv.xz", "--columns", "3,1")[:2] == (0, "".join(lines))


def test_models_layers_and_methods_are_measured(folders, text, tmp_path, capsys):
    output = tmp_path / "out"
    models = [flag for name, path in folders.items() for flag in ("--model", f"{name}={path}")]
    gold = ["--gold", tmp_path / "gold", "--gold-base", 1]
    flags = ["--text", text, *gold, "--method", "both", "--layer", "all", "--output", output]
    status, out, error = run(capsys, *models, *flags)
    assert status == 0, error
    document = json.loads((output / "alignment.json").read_text())
    assert document["text"]["pairs"] == 14 and document["settings"]["threshold"] == 0.001
    results = {(r["model"], r["layer"], r["method"]): r for r in document["results"]}
    assert results.keys() == set(product(folders, (0, 1, 2), ("softmax", "argmax")))
    pairs = some_pairs(14)
    truth = read_gold(tmp_path / "gold", 1, [tuple(map(len, pair)) for pair in pairs])
    assert document["gold"]["sure"] == sum(len(links.sure) for links in truth)
    for (model, layer, method), result in results.items():
        lines = (output / f"{model}-layer{layer}-{method}.txt").read_text().splitlines()
        tally = Tally()
        for line, links in zip(lines, truth, strict=True):
            tally.add({tuple(map(int, link.split("-"))) for link in line.split()}, links)
        assert [result[name] for name in ("pairs", "links", "precision", "recall", "aer")] == [
            14, tally.links, tally.precision, tally.recall, tally.error_rate
        ]  # fmt: skip
    assert (output / "table.md").read_text() in out
    last = [results[model, 2, "argmax"] for model in folders]
    cells = [f"{r[measure]:.1f}" for r in last for measure in ("precision", "recall", "aer")]
    assert ["2", *cells] in table_rows(out)
    names = {path.name for path in output.iterdir() if not path.name.endswith("max.txt")}
    assert names == {"alignment.json", "table.md", ".ppa-output.json"}

    # The same folder again: another run's files are replaced. Without --output, nothing but the table is printed.
    flags = ["--model", f"m={folders['bert']}", "--text", text]
    assert run(capsys, *flags, "--output", output)[0] == 0
    assert {path.name for path in output.iterdir()} == {"alignment.json", "m-layer2-softmax.txt", ".ppa-output.json"}
    _, out, _ = run(capsys, *flags, *gold)
    assert len(table_rows(out)) == 3 and table_rows(out)[2][:2] == ["m", "2"]


@pytest.mark.parametrize(
    ("lines", "flags", "message"),
    [
        pytest.param("a ||| b\na b\n", [], "text:2: 1 sentences, or an empty one", id="one side"),
        pytest.param("a ||| b ||| c\n", [], "text:1: 3 sentences, or an empty one", id="three sides"),
        pytest.param("a ||| b\n", ["--layer", "3"], "model m: --layer 3: no such layer", id="layer"),
        pytest.param("a ||| b\n", ["--layer", "all"], "--layer all: give --output DIR", id="layers"),
        pytest.param("a ||| b\n", ["--method", "both"], "several models or methods: give --output", id="methods"),
    ],
)
def test_bad_input_is_refused_in_one_line(folders, tmp_path, capsys, lines, flags, message):
    (tmp_path / "text").write_text(lines)
    status, out, error = run(capsys, "--model", f"m={folders['bert']}", "--text", tmp_path / "text", *flags)
    last = error.splitlines()[-1]
    assert status == 1 and out == "" and last.startswith("ppa word-align: error: ") and message in last


def test_standin_on_hansards_equals_plain_loops(shared_data):
    """Real words of two languages under a real encoder, where near ties and unknown characters are."""
    standin, data = shared_data("standin"), shared_data("align-en-fr")
    lines = (data / "enfr.src-tgt").read_text(encoding="utf-8").splitlines()[100:107]
    pairs = [tuple(side.split() for side in line.split("|||")) for line in lines]
    oracle = Oracle(standin, max_length=512)
    for (layer, method), links in aligner_of(standin, [6], threshold=0.001)(pairs).items():
        assert as_sets(links) == [oracle.links(pair, layer, method, 0.001) for pair in pairs]


def test_benchmark(folders, monkeypatch, capsys):
    """The peers' sides are in it where they are installed; ours always are."""
    monkeypatch.setattr(sys, "argv", f"x --model {folders['bert']} --pairs 6 --threads 1".split())
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    runpy.run_path(str(BENCHMARK), run_name="__main__")
    rows = [row for row in table_rows(capsys.readouterr().out) if "×" in "".join(row)]
    assert [row[0] for row in rows if "ppa_fairseq" in row[0]] == ["ppa_fairseq, softmax", "ppa_fairseq, argmax"]
    assert all(row[3] == "100.00 %" for row in rows)
