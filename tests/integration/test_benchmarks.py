"""The benchmarks run, agree with the peer on what is computed, and print their tables; how fast is not tested."""

import csv
import multiprocessing
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def write_vocabulary(folder):
    """Of single characters, as a tokenizer's folder."""
    letters = [chr(code) for code in range(33, 127)]
    symbols = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(symbols) + "\n")


def test_finetuning():
    """Its own check that the losses are equal is part of every run."""
    start = [sys.executable, str(BENCHMARKS / "finetuning.py"), "--shape", "tiny", "--rounds", "2"]
    command = [*start, "--batch-size", "4", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "×" in line]
    assert [row.split("|")[1].strip() for row in rows] == [
        f"{task}, {order}" for task in ("xnli", "mlqa") for order in ("shuffled", "by length")
    ]
    assert all(re.search(r"\*\*\d+\.\d\d×\*\*", row) for row in rows)


def test_prediction(imported, tmp_path):
    """On the bundled sample, with an encoder of a tiny vocabulary."""
    command = [sys.executable, str(BENCHMARKS / "prediction.py"), "--model", str(imported(max_positions=512))]
    command += ["--questions", "6", "--chunk", "3", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if "×" in line]
    assert [row[1].strip() for row in rows] == [
        "ppa_fairseq", "transformers, to the full length", "transformers, to the longest"
    ]  # fmt: skip


def test_classification(imported):
    """Its own check that the logits are equal is part of every run."""
    command = [sys.executable, str(BENCHMARKS / "classification.py"), "--model", str(imported(max_positions=128))]
    command += ["--pairs", "40", "--chunk", "20", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if "×" in line]
    ways = ("to the full length", "to the longest", "by length, to the longest")
    assert [row[1].strip() for row in rows] == ["ppa_fairseq", *(f"transformers, {way}" for way in ways)]
    assert {row[4].strip() for row in rows} == {"100.0 %"}


def test_alignment(tmp_path, monkeypatch, capsys):
    """Its own check that the losses are equal is part of every run. Here the sides are threads, which start faster."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import alignment

    threads = SimpleNamespace(Pipe=multiprocessing.Pipe, Process=threading.Thread)
    monkeypatch.setattr(alignment.multiprocessing, "get_context", lambda kind: threads)
    write_vocabulary(tmp_path)
    flags = f"--tokenizer {tmp_path} --shape tiny --rounds 1 --batch-size 4 --threads 1 --processor-time"
    monkeypatch.setattr(sys, "argv", ["alignment.py", *flags.split()])
    alignment.main()
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "×" in line]
    peers = ("transformers, plain, shuffled", "transformers, tuned, by length", "fairseq masked_lm, by length")
    assert [row[1].strip() for row in rows] == list(peers)


def test_vocabulary_head(monkeypatch, capsys):
    """Its own check that both ways give the same loss and gradient is part of every run."""
    if not hasattr(torch.nn.functional, "linear_cross_entropy"):
        pytest.skip("needs torch 2.13")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import vocabulary_head

    threads = SimpleNamespace(Process=threading.Thread)
    monkeypatch.setattr(vocabulary_head.multiprocessing, "get_context", lambda kind: threads)
    monkeypatch.setattr(sys, "argv", "vocabulary_head.py --vocabulary 300 --dim 16 --threads 1".split())
    vocabulary_head.main()
    names = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[2:]]
    assert names[0] == "" and names[2:] == ["logits", "linear_cross_entropy"]


def test_attention_dropout(monkeypatch, capsys):
    """Torch's side has dropout as ours does: the sides differ in time alone."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import attention_dropout

    inputs = [torch.ones(2, 2, 64, 4) for _ in range(3)]
    kept = {name: (side(*inputs, 0.5) == 1).double().mean() for name, side in attention_dropout.SIDES.items()}
    assert kept.pop("no dropout") == 1 and all(share < 0.5 for share in kept.values())
    monkeypatch.setattr(sys, "argv", "attention_dropout.py --lengths 4 8 --tokens 16 --rounds 2 --threads 1".split())
    attention_dropout.main()
    assert [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[4:]] == ["4", "8"]


def test_scaling(tmp_path, monkeypatch):
    """Every size is that of the step that is timed: a sweep's rows have it, and the others stay."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scaling

    from ppa_fairseq.modules.bert import BertShape

    seen = []
    step = scaling.Ours.step

    def spy(side, batch):
        shape, tokens = side.model.encoder.cfg, batch["net_input"]["key_input"]["lengths"]
        seen.append((len(side.model.queue.keys), len(tokens), tokens[0] - 2, shape.vocab_size))
        return step(side, batch)

    monkeypatch.setattr(scaling.Ours, "step", spy)
    monkeypatch.setattr(scaling, "SHAPES", {"standin": BertShape(0, layers=1, dim=16, ffn_dim=32, heads=2)})
    monkeypatch.setattr(scaling, "BASE", {"queue": 64, "batch": 4, "length": 5, "vocabulary": 90})
    monkeypatch.setattr(scaling, "QUICK", {"queue": [32], "batch": [2], "length": [7], "vocabulary": [80]})
    flags = f"--output {tmp_path / 'curves'} --rounds 1 --threads 1 --processor-time"
    monkeypatch.setattr(sys, "argv", ["scaling.py", *flags.split()])
    scaling.main()
    expected = [(32, 4, 5, 90), (64, 2, 5, 90), (64, 4, 7, 90), (64, 4, 5, 80)]
    assert seen == [sizes for sizes in expected for _ in range(scaling.WARM_UP + 1)]
    for name, value in {"queue": "32", "batch": "2", "length": "7", "vocabulary": "80"}.items():
        (row,) = csv.DictReader((tmp_path / "curves" / f"{name}.tsv").open(), delimiter="\t")
        assert row[name] == value and float(row["pairs/s"]) > 0 and (tmp_path / "curves" / f"{name}.png").exists()


def test_scaling_of_preparation(tmp_path, monkeypatch):
    """Of a text that is read several times every pair counts: none is a duplicate of another."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scaling_preparation

    text = tmp_path / "few.tsv"
    text.write_text("".join(f"sentence {number} of them\tder Satz {number} davon\n" for number in range(20)))
    write_vocabulary(tmp_path)
    flags = f"--tokenizer {tmp_path} --output {tmp_path / 'curves'} --bitext {text} --pairs 300 --workers 1"
    monkeypatch.setattr(sys, "argv", ["scaling_preparation.py", *flags.split()])
    kept = []
    size_of = scaling_preparation.size_of

    def spy(folder, pattern):
        kept.append(sum(path.read_bytes().count(b"\n") for path in folder.glob("*.en-xx.en")))
        return size_of(folder, pattern)

    monkeypatch.setattr(scaling_preparation, "size_of", spy)
    scaling_preparation.main()
    (row,) = csv.DictReader((tmp_path / "curves" / "preparation.tsv").open(), delimiter="\t")
    assert row["pairs"] == "300" and kept[0] == 300 and all(float(value) > 0 for value in row.values())
    for command in ("prepare", "binarize"):
        assert float(row[f"{command}, pairs/CPU s"]) == pytest.approx(300 / float(row[f"{command}, CPU s"]))
        assert f"{command}, MiB" in row
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["curves"]


def test_needed_work_is_what_torch_counts(monkeypatch, make_dataset):
    """In a step of the model, when sequences are next to the multiple of 8 to which attention pads them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from alignment import needed_work
    from alignment_sides import Ours
    from torch.utils.flop_counter import FlopCounterMode

    from ppa_fairseq.modules.bert import BertShape

    dataset = make_dataset({"de-en": 6})
    for corpus in dataset.corpora:  # 6 and 6 WordPieces and their [SEP]: 8, 8 and 15 tokens a sequence
        for side in (corpus.source, corpus.target):
            side.dataset[:] = [torch.tensor([20 + row] * 6 + [8]) for row in range(6)]
    batch = dataset.collater([dataset[index] for index in range(6)])
    shape = BertShape(210, layers=3, dim=64, ffn_dim=128, heads=4, dropout=0.0, attention_dropout=1e-9)
    side = Ours(shape)
    # torch does not count its own attention on the CPU; with any dropout, ours is written out.
    with FlopCounterMode(display=False) as counter:
        side.step(batch)
    assert counter.get_total_flops() == pytest.approx(needed_work(shape, batch), rel=0.02)
