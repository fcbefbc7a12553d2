"""Tokenize labelled sentences, or pairs of sentences, ready for `ppa binarize`.

A file is TSV with a header, as SIB-200 (category, text) and PAWS-X (sentence1, sentence2, label) publish it, or JSON
lines with these keys; plain or packed. It holds pairs if it names a second sentence. LANG= says its language, or its
name does:

  --train en=eng_Latn/train.tsv --valid en=eng_Latn/dev.tsv de=deu_Latn/dev.tsv
  --train en=x-final/en/train.tsv fr=x-final/fr/translated_train.tsv --valid en=x-final/en/dev_2k.tsv

The labels are those of all files. Training rows with an empty sentence are left out and counted; in other splits they
are an error. For code-switching, the languages must have the same rows in the same order. OUT gets dict.txt,
labels.txt, the tokenizer's files, statistics.json and LANG/{train,valid,test}.{input0,input1,label}; an earlier run in
OUT is replaced.
"""

import argparse

from ppa_fairseq.commands._preparation import add_preparation_arguments, limit_workers, read_splits
from ppa_fairseq.commands.arguments import add_unquote_argument
from ppa_fairseq.commands.prepare_xnli import table
from ppa_fairseq.utils.markdown import markdown_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_preparation_arguments(parser)
    add_unquote_argument(parser)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.data.classification.prepare import prepare_classification

    limit_workers(args)
    statistics = prepare_classification(args.tokenizer, args.out, read_splits(args, "texts", args.unquote))
    labels = next(iter(statistics.values()))["labels"]
    print(markdown_table(table(statistics, list(labels))))
