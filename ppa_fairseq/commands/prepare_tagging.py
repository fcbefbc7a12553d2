"""Tokenize words with tags, ready for `ppa binarize`.

A file is CoNLL-U (FORM and UPOS), or has a word and its tag a line and an empty line between sentences, as CoNLL and
WikiANN (en:Paris, B-LOC) publish it; plain or packed. LANG= says its language, or its name does:

  --train en=en_ewt-ud-train.conllu --valid en=en_ewt-ud-dev.conllu de=de_gsd-ud-dev.conllu
  --train en=wikiann/en/train --valid en=wikiann/en/dev de=wikiann/de/dev

A word is tokenized by itself; its tag stands at its first token. The tags are those of all files; a word tagged _ has
none. OUT gets dict.txt, labels.txt, the tokenizer's files, statistics.json and LANG/{train,valid,test}.{input0,label};
an earlier run in OUT is replaced. Sentences are stored whole: training cuts them to its --max-length.
"""

import argparse

from ppa_fairseq.commands._preparation import add_preparation_arguments, limit_workers, read_splits
from ppa_fairseq.utils.markdown import markdown_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_preparation_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.data.tagging.prepare import prepare_tagging

    limit_workers(args)
    statistics = prepare_tagging(args.tokenizer, args.out, read_splits(args, "tags"))
    lines = [["", "sentences", "words", "tagged", "longest, in tokens", "[UNK]"]]
    for split, by_language in statistics.items():
        for language, counts in by_language.items():
            numbers = (f"{counts[name]:,}" for name in ("sentences", "words", "tagged", "longest"))
            lines.append([f"{split} {language}", *numbers, f"{counts['unknown'] / counts['tokens']:.2%}"])
    print(markdown_table(lines))
