"""Sound files for every reader: (name, content), from which a fuzzer may start."""

import gzip
import json
import lzma
from functools import cache
from io import BytesIO
from pathlib import Path

from reader_files import BOM, FILE_SEPARATOR, SYMBOLS, folder, tokenizer_texts

from ppa_fairseq import tokenizer
from ppa_fairseq.families import BERT
from ppa_fairseq.weights import Checkpoint


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
