"""What must hold of the readers of binarized data: every row is what its .bin has there, read byte by byte; words are
in the dictionary."""

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import reader_seeds
from reader_files import Pairs, as_expected

from ppa_fairseq.data import corpora, qa_corpora
from ppa_fairseq.data.corpora import load_corpora
from ppa_fairseq.data.nli_corpora import load_dictionaries, load_nli
from ppa_fairseq.data.qa_corpora import load_qa, window_sizes

Rows = list[list[int]]
HEAD = struct.Struct("<9sQBQ")  # of an .idx: name of the format, version, type of the ids, rows
# The type's name in `struct`. fairseq knows floats and uint64 as well, which are no ids.
ID_TYPES = {1: "B", 2: "b", 3: "h", 4: "i", 5: "q", 8: "H", 9: "I"}


def check_indexed(name: str, content: bytes) -> bool:
    """Every row that a training or a fine-tuning reads is the ids that .bin has there; a label is one, a span inside.

    *name* is that of a file in the folder of sound data, with + for /. What cannot be opened prints nothing.
    """
    root = reader_seeds.data_folder()
    path = root / name.replace("+", "/")
    sound, faults = path.read_bytes(), []
    path.unlink()  # it may be mapped
    path.write_bytes(content)
    hook, sys.unraisablehook = sys.unraisablehook, faults.append
    try:
        outcome = as_expected(*{"pairs": pair_rows, "nli": nli_rows, "qa": qa_rows}[name.partition("+")[0]](root))
    finally:
        sys.unraisablehook = hook
        path.unlink()
        path.write_bytes(sound)
    assert not faults, f"a traceback was printed: {faults[0].exc_value!r}"
    return outcome


def plain_rows(prefix: Path) -> Rows | None:
    """The rows of .idx and .bin, which lie end to end; None unless they are all that is there."""
    index, data = (Path(f"{prefix}.{ending}").read_bytes() for ending in ("idx", "bin"))
    if len(index) < HEAD.size:
        return None
    magic, version, kind, count = HEAD.unpack_from(index)
    known = (magic, version) == (b"MMIDIDX\0\0", 1) and kind in ID_TYPES
    if not known or not count or len(index) != HEAD.size + 12 * count:
        return None
    sizes = struct.unpack_from(f"<{count}i", index, HEAD.size)
    starts = struct.unpack_from(f"<{count}q", index, HEAD.size + 4 * count)
    width, place, rows = struct.calcsize(ID_TYPES[kind]), 0, []
    for size, start in zip(sizes, starts, strict=True):
        if size < 0 or start != place or place + size * width > len(data):
            return None
        rows.append(list(struct.unpack_from(f"<{size}{ID_TYPES[kind]}", data, place)))
        place += size * width
    return rows if data and place == len(data) else None


def in_dictionary(*sides: Rows) -> bool:
    return all(0 <= word < len(reader_seeds.SYMBOLS) for side in sides for row in side for word in row)


def as_lists(dataset) -> Rows:
    assert dataset.sizes.tolist() == [len(dataset[row]) for row in range(len(dataset))]
    return [dataset[row].tolist() for row in range(len(dataset))]


def pair_rows(root: Path) -> tuple[Callable, object]:
    """What `ppa_alignment` reads of a language pair, and what is there: as many rows of either language."""
    folder = root / "pairs"

    def read() -> list[Rows]:
        dictionary = corpora.load_dictionary(str(folder), ["de-en"])
        (corpus,) = load_corpora(str(folder), "train", ["de-en"], all_needed=True, dictionary=dictionary)
        return [as_lists(corpus.source), as_lists(corpus.target)]

    rows = [plain_rows(folder / f"train.de-en.{language}") for language in ("de", "en")]
    sound = None not in rows and len(rows[0]) == len(rows[1]) and in_dictionary(*rows)
    return read, rows if sound else None


def nli_rows(root: Path) -> tuple[Callable, object]:
    """What `xnli_codeswitch` reads: two sentences a row, each with more than its end, and one label that is known."""
    folder = root / "nli"

    def read() -> list[Rows]:
        words, labels = load_dictionaries(str(folder), ["en"])
        (corpus,) = load_nli(str(folder), "train", ["en"], labels, words)
        assert len(labels) - labels.nspecial == reader_seeds.LABELS
        return [as_lists(corpus.premise), as_lists(corpus.hypothesis), corpus.label.tolist()]

    *sides, label = (plain_rows(folder / "en" / part / "train") for part in ("input0", "input1", "label"))
    if None in (*sides, label) or len({len(rows) for rows in (*sides, label)}) > 1:
        return read, None
    sound = all(len(row) > 1 for side in sides for row in side) and all(len(row) == 2 for row in label)
    classes = [row[0] - reader_seeds.SPECIAL_LABELS for row in label if row]
    sound = sound and all(0 <= one < reader_seeds.LABELS for one in classes) and in_dictionary(*sides)
    return read, [*sides, classes] if sound else None


def qa_rows(root: Path) -> tuple[Callable, object]:
    """What `qa_codeswitch` reads: the answer of each question is a span of its context; ids differ."""
    folder = root / "qa"

    def read() -> list:
        (corpus,) = load_qa(str(folder), "train", ["en"], qa_corpora.load_dictionary(str(folder)))
        return [as_lists(corpus.question), as_lists(corpus.context), corpus.answer.tolist(), corpus.number.tolist(),
                list(window_sizes(str(folder)))]  # fmt: skip

    question, context, answer = (
        plain_rows(folder / "en" / f"train.{part}") for part in ("question", "context", "answer")
    )
    ids, meta = plain_ids(folder / "en" / "train.ids.txt"), plain_sizes(folder / "qa.json")
    if None in (question, context, answer, ids, meta) or len({*map(len, (question, context, answer, ids))}) > 1:
        return read, None
    sound = len(set(ids)) == len(ids) and all(len(span) == 2 for span in answer)
    sound = sound and all(0 <= a <= b < len(row) - 1 for (a, b), row in zip(answer, context, strict=True))
    sound = sound and in_dictionary(question, context)
    return read, [question, context, answer, list(range(len(ids))), meta] if sound else None


def plain_ids(path: Path) -> list[str] | None:
    try:
        return path.read_bytes().decode().split("\n")[:-1]
    except UnicodeDecodeError:
        return None


def plain_sizes(path: Path) -> list[int] | None:
    """Length and stride in an object, each once; None if one is no whole number."""
    try:
        pairs = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=Pairs)
        found = [pairs.all(name) for name in ("max_length", "doc_stride")]
        once = all(len(values) == 1 for values in found)
        return [values[0] for values in found] if once and all(type(values[0]) is int for values in found) else None
    except (ValueError, RecursionError, AttributeError, IndexError):
        return None
