"""Measure classifiers of sentence pairs in every language: accuracy, intervals, significance, confusions.

Prints a table. DIR gets it as table.md, all numbers as xnli.json, and predictions-NAME.tsv for each model. Gains are
over the first model.

  ppa evaluate-xnli --model mbert=mbert-xnli/ --model ppa=checkpoint_best.pt --data xnli.test.tsv --output results/
"""

import argparse
from dataclasses import replace

from ppa_fairseq.commands.arguments import Once, check_models
from ppa_fairseq.commands.evaluate_classification import add_classifier_arguments, choose_languages, evaluate
from ppa_fairseq.commands.prepare_xnli import label_order
from ppa_fairseq.evaluation.results import AVERAGE
from ppa_fairseq.utils.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = (
        "labelled pairs, or folders of them: XNLI's and MultiNLI's files, TSV (premise, hypothesis, label), JSON lines"
    )
    add_classifier_arguments(parser, data)
    parser.add_argument("--data-labels", metavar="A,B,C", type=label_order, action=Once,
        help="the classes of the labels 0, 1 and 2 in data whose labels are numbers")  # fmt: skip
    parser.add_argument("--mixed", metavar="XX", action=Once,
        help="also pair the premises of every language with the hypotheses of this one, and the reverse; the rows of "
             "all languages must be translations")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.data.nli.files import find_nli, matched
    from ppa_fairseq.data.nli.reader import LABELS

    check_models(args.models, name_files=True)
    data = matched(choose_languages(find_nli(args.data, args.data_labels, args.unquote), args.langs))
    translations, averages = are_translations(data), None
    if args.mixed:
        if args.mixed not in data or len(data) == 1:
            raise InputError(f"--mixed {args.mixed}: needs it and another language, but the data has {', '.join(data)}")
        if not translations:
            raise InputError(
                f"--mixed {args.mixed}: the languages differ in their number of rows, or in a row's label or pairID; "
                "give files whose rows are translations of each other"
            )
        data, averages = with_mixed_pairs(data, args.mixed)
    evaluate(args, "evaluate-xnli", "xnli.json", data, translations, LABELS, averages)


def with_mixed_pairs(data: dict[str, list], language: str) -> tuple[dict[str, list], dict[str, list[str]]]:
    """Add sets whose premises and hypotheses are in two languages, one of them *language*; return the averages, too."""
    mixed, averages = dict(data), {AVERAGE: list(data)}
    others = [name for name in data if name != language]
    for ends, average in (((0, 1), f"xx-{language}"), ((1, 0), f"{language}-xx")):
        averages[average] = []
        for other in others:
            premises, hypotheses = ((other, language)[end] for end in ends)
            averages[average].append(f"{premises}-{hypotheses}")
            mixed[averages[average][-1]] = [
                replace(row, hypothesis=that.hypothesis)
                for row, that in zip(data[premises], data[hypotheses], strict=True)
            ]
    return mixed, averages


def are_translations(data: dict[str, list]) -> bool:
    """Whether row i of every language is the same example, judging by labels and pairIDs."""
    return len({len(rows) for rows in data.values()}) == 1 and all(
        len({row.label for row in same}) == 1 and len({row.pair_id for row in same} - {None}) <= 1
        for same in zip(*data.values(), strict=True)
    )
