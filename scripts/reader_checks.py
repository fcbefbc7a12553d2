"""What must hold of every reader of a user's files, whatever is in them: whole, or refused in one line.

A check takes a file's name and its bytes, and returns whether it was read (True) or refused by InputError (False).
It raises AssertionError where something was lost without being counted; any other exception is a crash.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import checkpoint_checks
import indexed_checks
import line_checks
import reader_seeds
from reader_files import (
    FILE_SEPARATOR,
    SYMBOLS,
    Pairs,
    folder,
    is_utf16,
    lines_of,
    place,
    refused,
    tokenizer_texts,
    unpacked,
)

from ppa_fairseq import tokenizer
from ppa_fairseq.commands.evaluate_qa import read_texts
from ppa_fairseq.data.bitext_encoder import PairEncoder
from ppa_fairseq.data.bitext_filters import LengthLimits, read_batches
from ppa_fairseq.data.bitext_reader import MAX_LINE, parse_bitext
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.nli_encoder import RowBatch, RowEncoder
from ppa_fairseq.data.nli_reader import NAMES, NEEDED, NO_CONSENSUS, NLIFile
from ppa_fairseq.data.qa_encoder import QuestionEncoder
from ppa_fairseq.data.squad_reader import read_squad
from ppa_fairseq.errors import InputError
from ppa_fairseq.huggingface import read, read_shape
from ppa_fairseq.strict_json import read_object
from ppa_fairseq.weights import LARGEST_SIZE, check_sizes


@dataclass(frozen=True)
class Reader:
    """A check, and sound files for it: (name, content) that a fuzzer may start from."""

    check: Callable[[str, bytes], bool]
    seeds: Callable[[], list[tuple[str, bytes]]]


@cache
def encoders() -> tuple[PairEncoder, RowEncoder, QuestionEncoder]:
    texts = tokenizer_texts()
    pairs = PairEncoder(texts, "base", LengthLimits(1, 100), valid_share=0.3)
    return pairs, RowEncoder(texts, "base"), QuestionEncoder(texts, "base")


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
        sound = None not in counts and len(set(counts)) == 1 and not any(map(is_utf16, texts))
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
    here = reader_seeds.model_folder()
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


READERS = {
    "bitext": Reader(check_bitext, reader_seeds.bitext_seeds),
    "nli": Reader(check_nli, reader_seeds.nli_seeds),
    "squad": Reader(check_squad, reader_seeds.squad_seeds),
    "predictions": Reader(check_predictions, lambda: [("a.json", b'{"q1": "Anna", "q2": ""}')]),
    "dictionary": Reader(check_dictionary, reader_seeds.dictionary_seeds),
    "tokenizer": Reader(check_tokenizer, reader_seeds.tokenizer_seeds),
    "config": Reader(check_config, reader_seeds.config_seeds),
    "model": Reader(check_model, reader_seeds.model_seeds),
    "lines": Reader(line_checks.check_lines, reader_seeds.lines_seeds),
    "words": Reader(line_checks.check_words, reader_seeds.words_seeds),
    "gold": Reader(line_checks.check_gold, reader_seeds.gold_seeds),
    "checkpoint": Reader(checkpoint_checks.check_checkpoint, reader_seeds.checkpoint_seeds),
    "indexed": Reader(indexed_checks.check_indexed, reader_seeds.indexed_seeds),
}
