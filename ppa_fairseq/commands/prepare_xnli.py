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
import os

from ppa_fairseq.commands.arguments import add_unquote_argument, positive
from ppa_fairseq.data.nli.reader import LABELS, SYNONYMS
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.markdown import markdown_table

SPLITS = ("train", "valid", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tokenizer", required=True, metavar="DIR", help="folder that `ppa import-hf` wrote, or a Hugging Face model")
    add("--out", required=True, metavar="OUT", help="folder to write")
    for split in SPLITS:
        help_text = f"files or folders of the {split} split"
        add(f"--{split}", nargs="+", action="extend", default=[], metavar="[LANG=]PATH", help=help_text)
    add("--langs", metavar="A,B,C", help="languages to take (default: all in the files)")
    add("--labels", metavar="A,B,C", type=label_order,
        help="the classes of the labels 0, 1 and 2, where labels are numbers: publishers number differently (XNLI: "
        f"{','.join(LABELS)})")  # fmt: skip
    add_unquote_argument(parser)
    add("--workers", type=positive, metavar="N", help="threads that tokenize (default: all cores)")


def label_order(text: str) -> list[str]:
    names = [SYNONYMS.get(name.strip(), name.strip()) for name in text.split(",")]
    if sorted(names) != sorted(LABELS):
        raise argparse.ArgumentTypeError(f"{text!r} does not name each of {', '.join(LABELS)} once")
    return names


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.data.nli.files import nli_files
    from ppa_fairseq.data.nli.prepare import prepare_nli

    if args.workers:
        os.environ["RAYON_NUM_THREADS"] = str(args.workers)  # what the tokenizers library reads
    files = {split: nli_files(getattr(args, split), args.labels, args.unquote) for split in SPLITS}
    if not any(files.values()):
        raise InputError("nothing to prepare; name files with --train, --valid or --test")
    statistics = prepare_nli(args.tokenizer, args.out, files, args.langs.split(",") if args.langs else ())
    lines = [["", "rows read", "no consensus", "empty", *LABELS, "tokens a row", "[UNK]"]]
    for split, of_split in statistics.items():
        counts = [of_split["read"], *of_split["dropped"].values(), *of_split["labels"].values()]
        counts = [f"{number:,}" for number in counts]
        for language, of_language in of_split["languages"].items():
            tokens, share = of_language["tokens"], of_language["unknown"] / of_language["tokens"]
            lines.append([f"{split} {language}", *counts, f"{tokens / of_split['rows']:.1f}", f"{share:.2%}"])
    print(markdown_table(lines))
    for split, of_split in statistics.items():
        if absent := [label for label, number in of_split["labels"].items() if not number]:
            print(f"WARNING: {split}: no row is labelled {' or '.join(absent)}")
