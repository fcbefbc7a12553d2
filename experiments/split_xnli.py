"""Split XNLI's development set into translations for training and rows for measuring, with no premise in both.

    python experiments/split_xnli.py XNLI_DEV OUT --test 1245 --train 1245

Writes test-xx.tsv and train-xx.tsv into OUT: the same rows in every language, selected by the English premise.
"""

import argparse
import random
from pathlib import Path

from ppa_fairseq.data.nli.files import find_nli
from ppa_fairseq.data.nli.reader import NLIExample
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder

LANGUAGE = "en"


def split(english: list[str], test: int, train: int) -> dict[str, list[int]]:
    """Row numbers of each part, in order; a part is full with the premise that completes its size."""
    rows: dict[str, list[int]] = {}
    for number, premise in enumerate(english):
        rows.setdefault(premise, []).append(number)
    premises = sorted(rows)
    random.Random(0).shuffle(premises)
    parts = {"test": [], "train": []}
    for premise in premises:
        for part, size in (("test", test), ("train", train)):
            if len(parts[part]) < size:
                parts[part] += rows[premise]
                break
    for part, size in (("test", test), ("train", train)):
        if len(parts[part]) < size:
            raise InputError(f"{len(english)} rows are too few for --test {test} and --train {train}; lower one")
    return {part: sorted(numbers) for part, numbers in parts.items()}


def main(data: dict[str, list[NLIExample]], out: Path, test: int, train: int) -> None:
    counts = {lang: len(rows) for lang, rows in data.items()}
    if LANGUAGE not in data or len(set(counts.values())) > 1:
        raise InputError(f"every language, English among them, must have the same rows; found {counts}")
    parts = split([row.premise for row in data[LANGUAGE]], test, train)
    with output_folder(out, "split-xnli") as folder:
        for part, numbers in parts.items():
            for lang, rows in data.items():
                chosen = (rows[number] for number in numbers)
                text = "".join(f"{row.premise}\t{row.hypothesis}\t{row.label}\n" for row in chosen)
                (folder / f"{part}-{lang}.tsv").write_text(text, encoding="utf-8")
    print(f"{len(data)} languages: {len(parts['test'])} rows for measuring, {len(parts['train'])} for training")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xnli", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--test", type=int, required=True)
    parser.add_argument("--train", type=int, required=True)
    args = parser.parse_args()
    main(find_nli([str(args.xnli)]), args.out, args.test, args.train)
