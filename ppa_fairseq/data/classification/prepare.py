"""From labelled sentences to a folder of tokens as text, for `ppa binarize`."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files, write_files
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder

BATCH = 4000  # sentences to tokenize at once
FIELDS = ("input0", "input1", "label")  # fairseq's names: first sentence (premise), second (hypothesis), label
SPACE = "\u2581"  # a space within a label: fairseq splits a line at spaces


class Rows(NamedTuple):
    """The examples of some languages side by side.

    A row is a tuple of one example a language, which has parts (one sentence or two), a label and a place (file:line).
    """

    split: str
    languages: Sequence[str]
    rows: Iterable[tuple]


def prepare_classification(tokenizer_folder: str, out: str | Path, splits: dict[str, dict[str, list]]) -> dict:
    """`prepare` the examples of each split and language, {split: {language: examples}}, by themselves.

    Their labels are those of the data. Raises InputError if some have one sentence and some two.
    """
    every = [example for by_language in splits.values() for rows in by_language.values() for example in rows]
    if odd := next((example for example in every if len(example.parts) != len(every[0].parts)), None):
        raise InputError(f"{odd.place}: one sentence here, a pair in {every[0].place}, or the reverse; give one kind")
    fields = FIELDS if len(every[0].parts) == 2 else (FIELDS[0], FIELDS[2])
    groups = {
        f"{split} {language}": Rows(split, [language], zip(rows, strict=True))
        for split, by_language in splits.items()
        for language, rows in by_language.items()
    }
    labels = sorted({example.label for example in every})
    return prepare(tokenizer_folder, out, "prepare-classification", groups, fields, labels)


def prepare(
    tokenizer_folder: str,
    out: str | Path,
    command: str,
    groups: dict[str, Rows],
    fields: Sequence[str],
    labels: Sequence[str],
) -> dict[str, dict]:
    """Write all rows, labels, dictionary, tokenizer and statistics.json to *out*; return the statistics by group.

    A row with another label than *labels* is left out. Raises InputError if none of a group is left.
    """
    texts, tokenizer = read_tokenizer(tokenizer_folder)
    statistics = {}
    with output_folder(out, command) as folder:
        for name, group in groups.items():
            statistics[name] = counts = _write(group, folder, tokenizer, fields, labels)
            if not counts["rows"]:
                dropped = ", ".join(f"{number:,} {reason}" for reason, number in counts["dropped"].items())
                raise InputError(
                    f"--{name}: none of {counts['read']:,} rows is left ({dropped}); give other files or --langs"
                )
        write_common_files(folder, texts, tokenizer, labels, statistics)
    return statistics


def read_tokenizer(folder: str) -> tuple[dict[str, str], ModelTokenizer]:
    """Read the tokenizer of a folder, and print what looks wrong with it."""
    texts = read_files(folder)
    tokenizer = ModelTokenizer(texts, folder)
    if warning := tokenizer.case_warning():
        print(warning)
    return texts, tokenizer


def write_common_files(
    folder: Path, texts: dict[str, str], tokenizer: ModelTokenizer, labels: Sequence[str], statistics: dict
) -> None:
    """Write what all languages share: the tokenizer, dict.txt, labels.txt and statistics.json."""
    write_files(texts, folder)
    symbols = [label.replace(" ", SPACE) for label in labels]
    for name, entries in (("dict.txt", tokenizer.symbols), ("labels.txt", symbols)):
        (folder / name).write_text("".join(f"{entry} 1\n" for entry in entries), encoding="utf-8")
    (folder / "statistics.json").write_text(json.dumps(statistics, indent=1) + "\n", encoding="utf-8")


def _write(group: Rows, folder: Path, tokenizer: ModelTokenizer, fields: Sequence[str], labels: Sequence[str]) -> dict:
    """Write `{language}/{split}.{field}` in *folder*, a row a line, and count.

    Drop a row in all languages at once: one without consensus on the label, and in the training split one with a
    sentence without tokens. Raises InputError on the latter in another split: no row of a benchmark may vanish.
    """
    split, languages, _ = group
    read, counts, dropped = 0, Counter(dict.fromkeys(labels, 0)), {"no consensus": 0, "empty": 0}
    of_language = {language: {"tokens": 0, "unknown": 0} for language in languages}
    rows = iter(tqdm(group.rows, desc=split, unit=" rows"))
    with ExitStack() as stack:
        files = {}
        for language in languages:
            (folder / language).mkdir(exist_ok=True)
            for field in fields:
                path = folder / language / f"{split}.{field}"
                files[language, field] = stack.enter_context(open(path, "w", encoding="utf-8", newline="\n"))
        while batch := list(islice(rows, BATCH // (2 * len(languages) or 1))):
            sentences = [text for row in batch for example in row for text in example.parts]
            encodings = iter(tokenizer.backend.encode_batch_fast(sentences, add_special_tokens=False))
            read += len(batch)
            for row in batch:
                sides = [[next(encodings).ids for _ in example.parts] for example in row]
                empty = next((example for example, ids in zip(row, sides, strict=True) if not all(ids)), None)
                if any(example.label not in labels for example in row):
                    dropped["no consensus"] += 1
                elif empty and split == "train":
                    dropped["empty"] += 1
                elif empty:
                    which = "premise or the hypothesis" if len(empty.parts) == 2 else "sentence"
                    raise InputError(
                        f"{empty.place}: the {which} is empty or has no token; correct it, or remove the row in every "
                        "language"
                    )
                else:
                    counts[row[0].label] += 1
                    for language, side in zip(languages, sides, strict=True):
                        for field, ids in zip(fields, side, strict=False):
                            files[language, field].write(" ".join(map(tokenizer.symbols.__getitem__, ids)) + "\n")
                            of_language[language]["tokens"] += len(ids)
                            of_language[language]["unknown"] += ids.count(tokenizer.unk())
                        files[language, "label"].write(row[0].label.replace(" ", SPACE) + "\n")
    return {"read": read, "rows": counts.total(), "labels": counts, "dropped": dropped, "languages": of_language}
