"""What must hold of every reader of a user's files, whatever is in them: whole, or refused in one line.

A check takes a file's name and its bytes, and returns whether it was read (True) or refused by InputError (False).
It raises AssertionError where something was lost without being counted; any other exception is a crash.
"""

import gzip
import json
import lzma
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

from ppa_fairseq import tokenizer
from ppa_fairseq.commands.evaluate_qa import read_texts
from ppa_fairseq.data.bitext_encoder import PairEncoder
from ppa_fairseq.data.bitext_filters import LengthLimits, read_batches
from ppa_fairseq.data.bitext_reader import MAX_LINE, UTF16_MARKS, parse_bitext
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.nli_encoder import RowBatch, RowEncoder
from ppa_fairseq.data.nli_reader import NAMES, NEEDED, NO_CONSENSUS, NLIFile
from ppa_fairseq.data.qa_encoder import QuestionEncoder
from ppa_fairseq.data.squad_reader import read_squad
from ppa_fairseq.errors import InputError
from ppa_fairseq.families import BERT
from ppa_fairseq.huggingface import read, read_shape
from ppa_fairseq.strict_json import read_object
from ppa_fairseq.weights import LARGEST_SIZE, Checkpoint, check_sizes

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!äü水म"
SYMBOLS = [*BERT.specials, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
FILE_SEPARATOR = b"\x1c"  # between the two files of a pair, in the one string of bytes that a check takes
LONGEST_MESSAGE = 1000
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Reader:
    """A check, and sound files for it: (name, content) that a fuzzer may start from."""

    check: Callable[[str, bytes], bool]
    seeds: Callable[[], list[tuple[str, bytes]]]


@cache
def folder() -> Path:
    """An empty folder for the files of this process."""
    folder.kept = tempfile.TemporaryDirectory(prefix="reader-checks-")
    return Path(folder.kept.name)


@cache
def tokenizer_texts() -> dict[str, str]:
    return {"vocab.txt": "".join(symbol + "\n" for symbol in SYMBOLS)}


@cache
def encoders() -> tuple[PairEncoder, RowEncoder, QuestionEncoder]:
    texts = tokenizer_texts()
    pairs = PairEncoder(texts, "base", LengthLimits(1, 100), valid_share=0.3)
    return pairs, RowEncoder(texts, "base"), QuestionEncoder(texts, "base")


def place(name: str, content: bytes) -> Path:
    path = folder() / name
    path.write_bytes(content)
    return path


def refused(error: InputError) -> bool:
    """False, the outcome of a refusal. Its message must be one short line that a terminal can show."""
    message = str(error)
    assert message and len(message) <= LONGEST_MESSAGE and message.isprintable(), repr(message[: 2 * LONGEST_MESSAGE])
    return False


def unpacked(name: str, content: bytes) -> bytes | None:
    """The content without .gz or .xz; None if it is damaged."""
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(Path(name).suffix)
    try:
        return opener(BytesIO(content)).read() if opener else content
    except Exception:
        return None


def lines_of(content: bytes) -> list[bytes]:
    lines = content.removeprefix(BOM).split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def check_bitext(name: str, content: bytes) -> bool:
    """Every line is a row; every row is kept or counted as dropped; kept symbols are parted by single spaces."""
    contents = [content] if ".tsv" in name else [*content.partition(FILE_SEPARATOR)[::2]]
    names = [name] if len(contents) == 1 else [name, name.replace(".de", ".en")]
    paths = [place(*file) for file in zip(names, contents, strict=True)]
    texts = [unpacked(*file) for file in zip(names, contents, strict=True)]
    counts = [None if text is None else len(lines_of(text)) for text in texts]
    try:
        rows = list(parse_bitext(f"de-en={','.join(map(str, paths))}").rows())
    except InputError as error:
        sound = None not in counts and len(set(counts)) == 1 and not any(text.startswith(UTF16_MARKS) for text in texts)
        assert len(contents) == 1 or not sound, f"two files of equal length refused: {error}"
        return refused(error)
    assert [len(rows)] * len(counts) == counts
    kept = 0
    for batch in read_batches(iter(rows), 5, pivot_side=1):
        encoded = encoders()[0].encode(batch)
        pairs = [pair for split in encoded.splits.values() for pair in split]
        assert batch.read == len(pairs) + (batch.dropped + encoded.dropped).total()
        assert len(batch.broken_lines) == sum(batch.dropped[reason] for reason in {r for r, _ in batch.broken_lines})
        for line in (line for pair in pairs for line in pair):
            assert line.split() == line.split(" ") and set(line.split()) <= set(SYMBOLS)
        kept += batch.read
    assert kept == len(rows)
    return True


def check_nli(name: str, content: bytes) -> bool:
    """Every line that is neither empty nor the header is a row; every row is kept or counted as dropped."""
    path = place(name, content)
    try:
        found = list(NLIFile(path))
    except InputError as error:
        return refused(error)
    lines = [line for line in lines_of(unpacked(name, content)) if line.removesuffix(b"\r")]
    assert all(len(line) <= MAX_LINE for line in lines)
    if ".json" not in name:
        header = {cell.strip() for cell in lines[0].decode().removesuffix("\r").split("\t")}
        lines = lines[all(header.intersection(NAMES[field]) for field in NEEDED) :]
    assert len(found) == len(lines)
    rows = [(example,) for _, example in found]
    encoded = encoders()[1].encode(RowBatch("train", ("en",), rows))
    assert encoded.counts.read == len(rows) == encoded.counts.rows + encoded.counts.dropped.total()
    assert all(len(written) == encoded.counts.rows for written in encoded.lines.values())
    assert encoded.counts.dropped["no consensus"] == sum(example.label == NO_CONSENSUS for _, example in found)
    return True


def check_squad(name: str, content: bytes) -> bool:
    """Every entry of a `qas`, or every line of a .jsonl, is a question; each is kept or counted as dropped."""
    path = place(name, content)
    try:
        questions = read_squad(path)
    except InputError as error:
        return refused(error)
    text = unpacked(name, content).decode("utf-8-sig")
    if ".jsonl" in name:
        entries = sum(bool(line.strip()) for line in text.split("\n"))
    else:  # of keys that stand twice, all are counted
        pairs = json.loads(text, object_pairs_hook=Pairs)
        articles = [article for data in pairs.all("data") for article in data]
        paragraphs = [paragraph for article in articles for found in article.all("paragraphs") for paragraph in found]
        entries = sum(len(found) for paragraph in paragraphs for found in paragraph.all("qas"))
    assert len(questions) == entries
    encoded = encoders()[2].encode(questions)
    assert len(questions) == len(encoded.examples) + encoded.dropped.total()
    assert len({question.id for question in questions}) == entries
    for example in encoded.examples:
        assert 0 <= example.span[0] <= example.span[1] < len(encoded.contexts[example.context])
    return True


class Pairs(list):
    """A JSON object as its (key, value) pairs."""

    def all(self, key: str) -> list:
        return [value for name, value in self if name == key]


def check_predictions(name: str, content: bytes) -> bool:
    """Every prediction of the file is there."""
    try:
        texts = read_texts(place(name, content))
    except InputError as error:
        return refused(error)
    assert len(texts) == len(json.loads(content, object_pairs_hook=Pairs))
    return True


def check_dictionary(name: str, content: bytes) -> bool:
    """A line is an id; what is read is written again as it was."""
    try:
        dictionary = WordPieceDictionary.load(str(place(name, content)))
    except InputError as error:
        return refused(error)
    lines = content.decode().split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    assert dictionary.symbols == [line.rpartition(" ")[0] for line in lines]
    dictionary.save(str(folder() / "again.txt"))
    assert WordPieceDictionary.load(str(folder() / "again.txt")).symbols == dictionary.symbols
    ids = dictionary.encode_line(" ".join(dictionary.symbols[:50]))
    assert int(ids.max()) < len(dictionary) and ids[-1] == dictionary.eos()
    return True


def check_tokenizer(name: str, content: bytes) -> bool:
    """One symbol an id, none with white space; any text becomes ids of these; and so again from what is written."""
    here = folder() / "tokenizer"
    here.mkdir(exist_ok=True)
    for path in here.iterdir():
        path.unlink()
    files = {} if name == tokenizer.SENTENCEPIECE_FILE else {k: v.encode() for k, v in tokenizer_texts().items()}
    for file, text in (files | {name: content}).items():
        (here / file).write_bytes(text)
    try:
        texts = tokenizer.complete(tokenizer.read_files(here), str(here), 64)
        symbols = tokenizer.symbols(texts, str(here))
        built = tokenizer.build_tokenizer(texts, str(here))
    except InputError as error:
        return refused(error)
    assert not any(tokenizer.WHITE_SPACE.search(symbol) for symbol in symbols)
    for text in ("", "Haus? ab, ä水म 1!", "a\x00\ud7ff\u2028 \U0001f600" * 3):
        assert all(0 <= index < len(symbols) and symbols[index] for index in built.encode(text).ids)
    return True


def check_config(name: str, content: bytes) -> bool:
    """Sizes are numbers that an encoder can have."""
    path = place(name, content)
    try:
        layout, shape = read_shape(read_object(path), path)
        check_sizes(shape, LARGEST_SIZE, str(path))
    except InputError as error:
        return refused(error)
    for size, value in vars(shape).items():
        assert isinstance(value, (int, float)) and math.isfinite(value), (size, value)
    assert shape.dim % shape.heads == 0 and 0 <= shape.dropout < 1 and 0 <= shape.attention_dropout < 1
    assert layout.family.position_offset == shape.position_offset
    return True


def check_model(name: str, content: bytes) -> bool:
    """A Hugging Face folder, of which one file is *content*: every weight has the size of the shape, and is finite."""
    here = model_folder()
    sound = (here / name).read_bytes()
    (here / name).write_bytes(content)
    try:
        found = read(here)
    except InputError as error:
        return refused(error)
    finally:
        (here / name).write_bytes(sound)
    assert len(found.state["encoder.embed_tokens.weight"]) == found.shape.vocab_size
    assert all(tensor.double().isfinite().all() for tensor in found.state.values())
    return True


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


READERS = {
    "bitext": Reader(check_bitext, bitext_seeds),
    "nli": Reader(check_nli, nli_seeds),
    "squad": Reader(check_squad, squad_seeds),
    "predictions": Reader(check_predictions, lambda: [("a.json", b'{"q1": "Anna", "q2": ""}')]),
    "dictionary": Reader(check_dictionary, dictionary_seeds),
    "tokenizer": Reader(check_tokenizer, tokenizer_seeds),
    "config": Reader(check_config, config_seeds),
    "model": Reader(check_model, model_seeds),
}
