"""The benchmarks run, agree with their peers on results, and print their tables; no test measures speed."""

import json
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
    """A folder with a BERT's vocabulary of single characters."""
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


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_any_encoder_agrees_on_losses(run, vocabulary, kind):
    """Every run checks that the losses of all forms are equal."""
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    (vocabulary / "other.json").write_text(json.dumps({"model_type": kind, **sizes, "max_position_embeddings": 128}))
    (vocabulary / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    rows = run("any_encoder", f"{vocabulary} --config {vocabulary}/other.json --rounds 1 --batch-size 4 --threads 1")
    own = ["ppa_bert"] if kind == "bert" else []
    assert [row[0] for row in rows] == ["ppa_transformers", *own, "transformers, plain"]


def test_gpu_prints_what_runs_and_names_what_does_not(run, monkeypatch):
    """Without the trainers around a step, which take long to start."""
    import gpu

    def left_out(*arguments):
        raise gpu.NotRunError("not in a test")

    for name in ("loop_step", "sentence_transformers_step"):
        monkeypatch.setattr(gpu, name, left_out)
    monkeypatch.setattr(gpu, "BATCHES", 2)
    monkeypatch.setattr(gpu, "CUDA", False)
    monkeypatch.setattr(gpu, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(gpu, "print", lambda *line, **how: printed.append(line[0] if line else ""), raising=False)
    printed = []
    run("gpu", "--tiny")
    table = next(text for text in printed if "pairs/s" in text)
    ran = ["ppa_fairseq, bf16, 8 pairs", "transformers, plain, 8 pairs", "transformers, tuned, 16 pairs"]
    assert all(f"| {name} " in table for name in ran)
    assert "- fairseq-train, bf16, 8 pairs: not in a test" in printed
    assert "- ppa_fairseq, fp16: needs a GPU" in printed
    assert any(re.fullmatch(r"ppa_fairseq, bf16, 8 pairs: [\d.]+ times transformers, tuned, 8 pairs", line)
               for line in printed)  # fmt: skip


def test_the_gpus_sides_agree_on_losses(run):
    """Ours in fp32, and both of theirs, with the same weights and without dropout."""
    import dataclasses

    import gpu

    shape = dataclasses.replace(gpu.SHAPES["tiny"], dropout=0.0, attention_dropout=0.0)
    batch = gpu.make_batches(gpu.made_up_pairs(shape.vocab_size, 24), 8, 1)["shuffled"][0]
    ours = gpu.Ours(shape, "fp32")
    loss, pairs, _ = ours.criterion(ours.model, batch)
    for kind in (gpu.Plain, gpu.Tuned):
        theirs = gpu.Theirs(kind, shape, torch.float32).side
        for _ in range(2):  # the second time from what the first has kept in the batch
            torch.testing.assert_close(theirs.loss(batch), loss / pairs, rtol=1e-4, atol=1e-4)


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
