"""The benchmarks run, agree with their peers on results, and print their tables; no test measures speed."""

import multiprocessing
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def run(monkeypatch, capsys):
    """``run("alignment", "--shape tiny …")`` runs a benchmark in this process; returns the rows of its table."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def start(name: str, flags: str) -> list[list[str]]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *flags.split()])
        __import__(name).main()
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]

    return start


@pytest.fixture
def vocabulary(tmp_path):
    """A folder with the vocabulary of single characters."""
    letters = [chr(code) for code in range(33, 127)]
    symbols = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    (tmp_path / "vocab.txt").write_text("\n".join(symbols) + "\n")
    return tmp_path


def test_finetuning_agrees_on_losses(run):
    """Every run checks that the losses are equal."""
    rows = run("finetuning", "--shape tiny --rounds 2 --batch-size 4 --threads 1")
    names = [f"{task}, {order}" for task in ("xnli", "mlqa") for order in ("shuffled", "by length")]
    assert [row[0] for row in rows] == names
    assert all(re.fullmatch(r"\*\*\d+\.\d\d×\*\*", row[4]) for row in rows)


def test_questions_name_their_peers(run, imported):
    rows = run("evaluation", f"questions --model {imported(max_positions=512)} --count 6 --chunk 3 --threads 1")
    peers = ("ppa_fairseq", "transformers, to the full length", "transformers, to the longest")
    assert [row[0] for row in rows] == list(peers)


def test_pairs_get_the_answers_of_transformers(run, imported):
    """Every run checks that the logits are equal."""
    rows = run("evaluation", f"pairs --model {imported(max_positions=128)} --count 40 --chunk 20 --threads 1")
    ways = ("to the full length", "to the longest", "by length, to the longest")
    assert [row[0] for row in rows] == ["ppa_fairseq", *(f"transformers, {way}" for way in ways)]
    assert {row[3] for row in rows} == {"100.0 %"}


def test_alignment_agrees_on_losses(run, vocabulary, monkeypatch):
    """Every run checks that the losses are equal. Here the sides are threads, which start faster than processes."""
    import alignment

    threads = SimpleNamespace(Pipe=multiprocessing.Pipe, Process=threading.Thread)
    monkeypatch.setattr(alignment.multiprocessing, "get_context", lambda kind: threads)
    flags = "--shape tiny --rounds 1 --batch-size 4 --threads 1 --processor-time"
    rows = run("alignment", f"--tokenizer {vocabulary} {flags}")
    sides = ["transformers, plain, shuffled", "ppa_fairseq, by length", "transformers, tuned, by length"]
    assert [row[0] for row in rows] == ["ppa_fairseq, shuffled", *sides]


def test_preparation_repeats_no_pair(run, vocabulary, monkeypatch):
    import preparation

    (vocabulary / "few.tsv").write_text("".join(f"sentence {n} of them\tder Satz {n} davon\n" for n in range(20)))
    monkeypatch.chdir(vocabulary)
    ((pairs, *values),) = run("preparation", "--tokenizer . --bitext few.tsv --pairs 300 --workers 1")
    assert pairs == "300" and len(values) == 9 and all(float(value.replace(",", "")) > 0 for value in values)
    made = preparation.endless_pairs([vocabulary / "few.tsv"])
    assert len({side for _ in range(300) for side in next(made).split("\t")}) == 600
    assert not [path for path in vocabulary.iterdir() if path.is_dir()]


def test_needed_work_is_what_torch_counts(run, make_dataset):
    """In a step of the model, with sequences just below the multiple of 8 to which attention pads them."""
    from alignment import Ours, needed_work
    from torch.utils.flop_counter import FlopCounterMode

    from ppa_fairseq.modules.bert import BertShape

    dataset = make_dataset({"de-en": 6})
    for corpus in dataset.corpora:  # 6 and 6 tokens with their [SEP]: sequences of 8, 8 and 15 tokens
        for side in (corpus.source, corpus.target):
            side.dataset[:] = [torch.tensor([20 + row] * 6 + [8]) for row in range(6)]
    batch = dataset.collater([dataset[index] for index in range(6)])
    shape = BertShape(210, layers=3, dim=64, ffn_dim=128, heads=4, dropout=0.0, attention_dropout=1e-9)
    side = Ours(shape)
    # On the CPU, torch does not count its own attention; with dropout, ours is written out.
    with FlopCounterMode(display=False) as counter:
        side.step(batch)
    assert counter.get_total_flops() == pytest.approx(needed_work(shape, batch), rel=0.02)
