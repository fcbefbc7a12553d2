"""Measure classifiers of sentence pairs in every language: accuracy, intervals, significance, confusions.

Prints a table. DIR gets it as table.md, all numbers as xnli.json, and predictions-NAME.tsv for each model. Gains are
over the first model.

  ppa evaluate-xnli --model mbert=mbert-xnli/ --model ppa=checkpoint_best.pt --data xnli.test.tsv --output results/
"""

import argparse

from ppa_fairseq.commands.arguments import Once, check_models
from ppa_fairseq.commands.evaluate_classification import add_classifier_arguments, choose_languages, evaluate
from ppa_fairseq.commands.prepare_xnli import label_order


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = (
        "labelled pairs, or folders of them: XNLI's and MultiNLI's files, TSV (premise, hypothesis, label), JSON lines"
    )
    add_classifier_arguments(parser, data)
    parser.add_argument("--data-labels", metavar="A,B,C", type=label_order, action=Once,
        help="the classes of the labels 0, 1 and 2 in data whose labels are numbers")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.data.nli.files import find_nli, matched
    from ppa_fairseq.data.nli.reader import LABELS

    check_models(args.models, name_files=True)
    data = matched(choose_languages(find_nli(args.data, args.data_labels, args.unquote), args.langs))
    evaluate(args, "evaluate-xnli", "xnli.json", data, are_translations(data), LABELS)


def are_translations(data: dict[str, list]) -> bool:
    """Whether row i of every language is the same example, judging by labels and pairIDs."""
    return len({len(rows) for rows in data.values()}) == 1 and all(
        len({row.label for row in same}) == 1 and len({row.pair_id for row in same} - {None}) <= 1
        for same in zip(*data.values(), strict=True)
    )
