"""Sound files for every reader: (name, content), from which a fuzzer may start."""

import gzip
import json
import lzma
from argparse import Namespace
from functools import cache
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from reader_files import BOM, FILE_SEPARATOR, SYMBOLS, folder, tokenizer_texts

from ppa_fairseq import tokenizer
from ppa_fairseq.data.indexed_text import IndexedWriter
from ppa_fairseq.families import BERT
from ppa_fairseq.weights import Checkpoint

PICKLE = "data.pkl"  # a checkpoint's, in its archive
LABELS, SPECIAL_LABELS = 3, 4  # in the data_folder(): those that fairseq's Dictionary puts before them


@cache
def model_folder() -> Path:
    """A Hugging Face BERT of one layer, 8 wide."""
    import torch
    from safetensors.torch import save_file

    from ppa_fairseq import huggingface
    from ppa_fairseq.models.bert_encoder import BertEncoder, BertShape

    here = folder() / "model"
    here.mkdir()
    shape = BertShape(len(SYMBOLS), layers=1, dim=8, ffn_dim=8, heads=2, max_positions=8)
    torch.manual_seed(0)
    state = {f"encoder.{name}": weight for name, weight in BertEncoder(None, shape).state_dict().items()}
    made = Checkpoint(shape, state | huggingface.initial_head(shape, torch.float32), tokenizer_texts())
    (here / "config.json").write_text(json.dumps(huggingface.to_config(made)))
    save_file(huggingface.to_tensors(made), here / "model.safetensors", metadata={"format": "pt"})
    tokenizer.write_files(made.tokenizer, here)
    return here


def bitext_seeds() -> list[tuple[str, bytes]]:
    tsv = "Das Haus.\tThe house.\nWer da?\tWho is it?\nja\tyes\n水 म\ta b\nja\tyes\n".encode()
    columns = b"a\tb\tsource\nc\td\tsource\nbroken\ne\tf\tg\th\n"
    two = FILE_SEPARATOR.join([b"ja\nnein\n\nHaus\r\n", b"yes\nno\n\nhouse\r\n"])
    return [
        ("de-en.tsv", tsv),
        ("de-en.tsv", columns),
        ("de-en.tsv", BOM + tsv),
        ("a.de", two),
        ("de-en.tsv.gz", gzip.compress(tsv, mtime=0)),
        ("de-en.tsv.xz", lzma.compress(tsv)),
    ]


def nli_seeds() -> list[tuple[str, bytes]]:
    rows = [("A man eats.", "A man sleeps.", "contradiction"), ("a", "b", "neutral"), ("c?", "d", "-"), ("e", "", "-")]
    plain = "".join("\t".join(row) + "\n" for row in rows).encode()
    header = b"gold_label\tsentence1\tsentence2\tpairID\tlanguage\n"
    named = header + b"".join(f"{c}\t{a}\t{b}\t{i}\tde\n".encode() for i, (a, b, c) in enumerate(rows))
    objects = [{"premise": a, "hypothesis": b, "label": -1 if c == "-" else 1} for a, b, c in rows]
    mnli = [{"sentence1": a, "sentence2": b, "gold_label": c, "pairID": f"{i}n"} for i, (a, b, c) in enumerate(rows)]
    return [
        ("dev-en.tsv", plain),
        ("dev.tsv", named),
        ("dev-en.tsv.gz", gzip.compress(plain, mtime=0)),
        *(("dev-en.jsonl", "".join(json.dumps(row) + "\n" for row in made).encode()) for made in (objects, mnli)),
    ]


def squad_seeds() -> list[tuple[str, bytes]]:
    def question(number: int, text: str, start: int) -> dict:
        return {"id": f"q{number}", "question": "Wer?", "answers": [{"text": text, "answer_start": start}]}

    contexts = ["Anna wohnt in Bern.", "水 म a b c, und so weiter"]
    questions = [[question(1, "Anna", 0), question(2, "Bern", 14)], [question(3, "b", 6), question(4, "weiter", 3)]]
    paragraphs = [{"context": c, "qas": qas} for c, qas in zip(contexts, questions, strict=True)]
    lines = [{"id": "a", "context": "x y", "question": "z?", "answers": {"text": ["y"], "answer_start": [2]}}]
    lines.append({"id": 7, "context": "x y", "question": "z?", "answers": {"text": [], "answer_start": []}})
    nested = json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]})
    unanswered = json.dumps({"data": [{"paragraphs": [{"context": "a", "qas": [{"id": 0, "question": "b"}]}]}]})
    return [
        ("dev.json", nested.encode()),
        ("dev.json", unanswered.encode()),
        ("dev.json.gz", gzip.compress(nested.encode(), mtime=0)),
        ("dev.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode()),
    ]


def tokenizer_seeds() -> list[tuple[str, bytes]]:
    import sentencepiece

    built = tokenizer.build_tokenizer(tokenizer_texts(), "base")
    texts = tokenizer.complete(tokenizer_texts(), "base", 64)
    models = []
    for rule in ("identity", "nmt_nfkc"):
        models.append(BytesIO())
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["anna wohnt in bern", "das haus am see", "wer wohnt in dem haus"] * 3),
            model_writer=models[-1], vocab_size=24, num_threads=1, minloglevel=2, hard_vocab_limit=False,
            normalization_rule_name=rule,
        )  # fmt: skip
    return [
        ("vocab.txt", texts["vocab.txt"].encode()),
        ("tokenizer.json", built.to_str().encode()),
        ("tokenizer_config.json", texts["tokenizer_config.json"].encode()),
        ("added_tokens.json", b'{"extra": 90}'),
        *((tokenizer.SENTENCEPIECE_FILE, model.getvalue()) for model in models),
    ]


def config_seeds() -> list[tuple[str, bytes]]:
    bert = (model_folder() / "config.json").read_bytes()
    xlmr = json.loads(bert) | {"model_type": "xlm-roberta", "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    return [("config.json", bert), ("config.json", json.dumps(xlmr | {"type_vocab_size": 1}).encode())]


def model_seeds() -> list[tuple[str, bytes]]:
    return [(name, (model_folder() / name).read_bytes()) for name in ("model.safetensors", "config.json", "vocab.txt")]


def dictionary_seeds() -> list[tuple[str, bytes]]:
    odd = ["[PAD]", "\x85", "\u2028", "a b", "[unused1]", *BERT.specials, "x"]
    return [("dict.txt", "".join(f"{symbol} 1\n" for symbol in symbols).encode()) for symbols in (SYMBOLS[:20], odd)]


def lines_seeds() -> list[tuple[str, bytes]]:
    text = "Das Haus.\nWer da?\n水 म\n a \u2028 b\r\nc\x00\x85\n".encode()
    rows = "Das Haus.\tThe house.\tx\nWer da?\tWho is it?\ty\r\n水 म\ta b\t\n".encode()
    two = FILE_SEPARATOR.join([b"ja\nnein\nHaus\r\n", b"yes\nno\nhouse\r\n"])
    return [
        ("text.txt", text),
        ("text.txt.xz", lzma.compress(text)),
        ("text.txt.gz", gzip.compress(text, mtime=0)),
        ("de-en.tsv", rows),
        ("de-en.tsv.gz", gzip.compress(rows, mtime=0)),
        ("dev.de-en.de", two),
    ]


def words_seeds() -> list[tuple[str, bytes]]:
    bars = "das Haus ||| the house\nja|||yes\n水  म ||| a\u2028b |\nx ||| y\r\n".encode()
    rows = "das Haus\tthe house\nja\tyes\n水  म\ta b\r\n".encode()
    return [
        ("de-en.txt", bars),
        ("de-en.txt.gz", gzip.compress(bars, mtime=0)),
        ("de-en.tsv", rows),
        ("de-en.tsv.xz", lzma.compress(rows)),
    ]


def gold_seeds() -> list[tuple[str, bytes]]:
    links = b"0-0 2-1 1p1\n3-4 0p0 3p4\n\n11-9 1p2\t007-0\r\n"
    return [
        ("gold.txt", links),
        ("gold.base1.txt", b"1-1 3p2\n4-5\n1-1\n12p10"),
        ("gold.txt.gz", gzip.compress(links, mtime=0)),
    ]


@cache
def checkpoint_contents() -> dict[str, dict]:
    """What is in a checkpoint of `ppa import-hf` and in one of a training, of the model of `model_folder`."""
    import torch

    from ppa_fairseq import checkpoint, huggingface

    found = huggingface.read(model_folder())
    checkpoint.write(folder() / "model.pt", Checkpoint(found.shape, found.state, tokenizer_texts()))
    imported = torch.load(folder() / "model.pt")
    rule = {"best_checkpoint_metric": "accuracy", "maximize_best_checkpoint_metric": True}
    trained = imported | {
        "args": Namespace(arch="ppa_bert", lr=[0.5], task=None),
        "cfg": imported["cfg"] | {"checkpoint": rule, "task": {"train_langs": "en,de", "code_switch": True}},
        "model": imported["model"] | {"queue.keys": torch.ones(2, 8), "queue.filled": torch.tensor(2)},
        "extra_state": imported["extra_state"] | {"val_loss": 71.5, "best": 71.5},
        "last_optimizer_state": {"state": {0: {"step": 3, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-4}]},
    }
    return {"model.pt": imported, "training.pt": trained}


@cache
def checkpoint_seeds() -> list[tuple[str, bytes]]:
    """Both; of the latter also the pickle alone, for an archive seldom survives an edit, and torch < 1.6's format."""
    import torch

    contents = checkpoint_contents()
    path, seeds = folder() / "seed.pt", []
    for name, content in contents.items():
        torch.save(content, path)
        seeds.append((name, path.read_bytes()))
    with ZipFile(path) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(f"/{PICKLE}"))
        seeds.append((PICKLE, archive.read(member)))
    torch.save(contents["training.pt"], path, _use_new_zipfile_serialization=False)
    return [*seeds, ("old.pt", path.read_bytes())]


@cache
def data_folder() -> Path:
    """Binarized data of all three tasks: pairs/, nli/, qa/."""
    root, rows = folder() / "data", {
        "pairs/train.de-en.de": [[5, 6, 3], [7, 3], [8, 9, 10, 11, 3]],
        "pairs/train.de-en.en": [[12, 3], [13, 14, 15, 16, 3], [17, 18, 3]],
        "nli/en/input0/train": [[5, 6, 3], [7, 3]],
        "nli/en/input1/train": [[8, 3], [9, 10, 11, 3]],
        "nli/en/label/train": [[SPECIAL_LABELS + 2, 2], [SPECIAL_LABELS, 2]],
        "qa/en/train.question": [[5, 3], [6, 7, 3]],
        "qa/en/train.context": [[8, 9, 10, 3], [11, 12, 3]],
        "qa/en/train.answer": [[0, 2], [1, 1]],
    }  # fmt: skip
    for name, found in rows.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with IndexedWriter(str(path), len(SYMBOLS)) as writer:
            writer.write(np.concatenate(found), np.array([len(row) for row in found]))
    dictionary = "".join(f"{symbol} 1\n" for symbol in SYMBOLS)
    labels = "".join(f"{label} 1\n" for label in ("entailment", "neutral", "contradiction"))
    for name in ("pairs/dict.de.txt", "pairs/dict.en.txt", "qa/dict.txt", *(f"nli/en/input{n}/dict.txt" for n in "01")):
        (root / name).write_text(dictionary)
    (root / "nli/en/label/dict.txt").write_text(labels)
    (root / "qa/en/train.ids.txt").write_text("q1\nfrage 2\n")
    (root / "qa/qa.json").write_text(json.dumps({"max_length": 384, "doc_stride": 128}))
    return root


def indexed_seeds() -> list[tuple[str, bytes]]:
    edited = ["pairs/train.de-en.de", "nli/en/input1/train", "nli/en/label/train"]
    edited += [f"qa/en/train.{part}" for part in ("context", "answer")]
    names = [f"{name}.{ending}" for name in edited for ending in ("idx", "bin")] + ["qa/en/train.ids.txt", "qa/qa.json"]
    return [(name.replace("/", "+"), (data_folder() / name).read_bytes()) for name in names]
