"""Tokenize NLI in one or more languages, rows side by side, ready for `ppa binarize`.

A file is TSV or JSON lines as XNLI-1.0, XNLI-MT-1.0, MultiNLI or Hugging Face publish them, or TSV of three columns:
premise, hypothesis, label; plain or packed. Its rows say the language (XNLI-1.0), or LANG= does, or its name:

  --train en=multinli_1.0_train.txt                    English alone (zero-shot)
  --train XNLI-MT-1.0/multinli/multinli.train.*.tsv    15 languages (translate-train)
  --train en=nli-en/                                   all .tsv, .jsonl and .json in the folder, one after the other
  --valid XNLI-1.0/xnli.dev.tsv --test XNLI-1.0/xnli.test.tsv

The languages of a split must have the same rows in the same order; in a file of several languages, the pairIDs say
which belong together. Other counts, labels or pairIDs are an error. Rows without consensus on the label, and training
rows with an empty sentence, are left out in every language and counted. OUT gets dict.txt, labels.txt, the tokenizer's
files, statistics.json and LANG/{train,valid,test}.{input0,input1,label}; an earlier run in OUT is replaced. Memory does
not grow with the text, except for files of several languages.
"""

import argparse
from collections.abc import Sequence

from ppa_fairseq.commands._preparation import (
    SPLITS,
    add_preparation_arguments,
    languages_of,
    limit_workers,
    refuse_nothing,
)
from ppa_fairseq.commands.arguments import add_unquote_argument
from ppa_fairseq.data.nli.reader import LABELS, SYNONYMS
from ppa_fairseq.utils.markdown import markdown_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_preparation_arguments(parser)
    add_unquote_argument(parser)
    parser.add_argument("--labels", metavar="A,B,C", type=label_order,
        help="the classes of the labels 0, 1 and 2, where labels are numbers: publishers number differently (XNLI: "
        f"{','.join(LABELS)})")  # fmt: skip


def label_order(text: str) -> list[str]:
    names = [SYNONYMS.get(name.strip(), name.strip()) for name in text.split(",")]
    if sorted(names) != sorted(LABELS):
        raise argparse.ArgumentTypeError(f"{text!r} does not name each of {', '.join(LABELS)} once")
    return names


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.data.nli.files import nli_files
    from ppa_fairseq.data.nli.prepare import prepare_nli

    limit_workers(args)
    refuse_nothing(args)
    files = {split: nli_files(getattr(args, split), args.labels, args.unquote) for split in SPLITS}
    statistics = prepare_nli(args.tokenizer, args.out, files, languages_of(args))
    print(markdown_table(table(statistics, LABELS)))
    for split, of_split in statistics.items():
        if absent := [label for label, number in of_split["labels"].items() if not number]:
            print(f"WARNING: {split}: no row is labelled {' or '.join(absent)}")


def table(statistics: dict[str, dict], labels: Sequence[str]) -> list[list[str]]:
    """A line for each split and language: how many rows, of which labels, of how many tokens.

    A group of rows in one language is named after both.
    """
    lines = [["", "rows read", "no consensus", "empty", *labels, "tokens a row", "[UNK]"]]
    for group, of_group in statistics.items():
        counts = [of_group["read"], *of_group["dropped"].values(), *of_group["labels"].values()]
        counts = [f"{number:,}" for number in counts]
        for language, of_language in of_group["languages"].items():
            name = group if group.endswith(f" {language}") else f"{group} {language}"
            tokens, share = of_language["tokens"], of_language["unknown"] / of_language["tokens"]
            lines.append([name, *counts, f"{tokens / of_group['rows']:.1f}", f"{share:.2%}"])
    return lines
