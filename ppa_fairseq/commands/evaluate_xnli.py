"""Measure classifiers of sentence pairs in every language: accuracy, intervals, significance, confusions.

Prints a table. DIR gets it as table.md, all numbers as xnli.json, and predictions-NAME.tsv for each model. Gains are
over the first model.

  ppa evaluate-xnli --model mbert=mbert-xnli/ --model ppa=checkpoint_best.pt --data xnli.test.tsv --output results/
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ppa_fairseq.commands._evaluation import describe, limits, note_precision, note_truncated, write_report
from ppa_fairseq.commands.arguments import (
    Once,
    add_batching_arguments,
    add_models_argument,
    add_unquote_argument,
    check_models,
)
from ppa_fairseq.commands.prepare_xnli import label_order
from ppa_fairseq.utils.errors import InputError, about_model
from ppa_fairseq.utils.files import READABLE, output_folder

if TYPE_CHECKING:  # torch takes a second to import
    import numpy as np

    from ppa_fairseq.data.nli.reader import NLIExample
    from ppa_fairseq.evaluation.classification.classifier import PairClassifier

    Data = dict[str, list[NLIExample]]  # {language: its rows}

JSON_FILE = "xnli.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_models_argument(parser, "a classifier (a fairseq checkpoint or a Hugging Face folder)")
    add("--data", metavar="PATH", nargs="+", action="extend", required=True,
        help="labelled pairs, or folders of them: XNLI's and MultiNLI's files, TSV (premise, hypothesis, label), JSON "
             "lines; plain, .gz, .xz, .bz2 or .zst; fr=PATH for a file without its language in the name")  # fmt: skip
    add("--langs", metavar="XX,YY", type=comma_separated, action=Once,
        help="the languages to measure (default: all in the data)")  # fmt: skip
    add("--data-labels", metavar="A,B,C", type=label_order, action=Once,
        help="the classes of the labels 0, 1 and 2 in data whose labels are numbers")  # fmt: skip
    add_unquote_argument(parser)
    add("--labels", metavar="A,B,C", type=comma_separated, action=Once,
        help="names of the classes, in the order of their ids, for a model that calls them LABEL_0 …")  # fmt: skip
    add("--output", metavar="DIR", type=Path, required=True,
        help="folder for the results; an earlier evaluation there is replaced")  # fmt: skip
    add_batching_arguments(parser, max_length=128)


def comma_separated(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def run(args: argparse.Namespace) -> None:
    import numpy as np

    from ppa_fairseq.data.nli.files import find_nli, matched
    from ppa_fairseq.data.nli.reader import LABELS
    from ppa_fairseq.evaluation.classification import report
    from ppa_fairseq.evaluation.classification.classifier import class_ids
    from ppa_fairseq.evaluation.significance import SETTINGS

    check_models(args.models, name_files=True)
    data = matched(choose_languages(find_nli(args.data, args.data_labels, args.unquote), args.langs))
    translations = are_translations(data)
    gold = {lang: np.array([LABELS.index(row.label) for row in rows]) for lang, rows in data.items()}
    with output_folder(args.output, "evaluate-xnli") as folder:
        # All are read and checked before hours go into the first.
        classifiers, ids = {}, {}
        for name, path in args.models:
            with about_model(name):
                classifiers[name] = load(path, args)
                ids[name] = class_ids(classifiers[name].labels, LABELS, args.labels)
        models, right, confusions = {}, {}, {}
        for name, path in args.models:
            classifier = classifiers.pop(name)
            logits = classify(name, classifier, data, ids[name])
            facts = {"labels": classifier.labels, "truncated": classifier.truncated, "training": classifier.training}
            models[name] = describe(path, classifier, **facts)
            predicted = {lang: logits[lang].argmax(1) for lang in data}
            write_predictions(folder / f"predictions-{name}.tsv", data, predicted, logits)
            right[name] = {lang: predicted[lang] == gold[lang] for lang in data}
            confusions[name] = report.confusions(gold, predicted, len(LABELS))
        results = report.measure(right, translations)
        text = report.report(results, translations)
        counts = {lang: dict(Counter(row.label for row in rows)) for lang, rows in data.items()}
        write_report(
            folder, JSON_FILE, text, args, ("max_length", "batch_tokens"), settings=SETTINGS, models=models,
            data={"paths": args.data, "translations": translations, "languages": counts}, classes=LABELS,
            confusions={name: {lang: m.tolist() for lang, m in by.items()} for name, by in confusions.items()},
            results=results,
        )  # fmt: skip
    print(text)
    print(f"{args.output}: table.md, {JSON_FILE} and the predictions")


def choose_languages(data: "Data", langs: list[str] | None) -> "Data":
    for lang in langs or ():
        if lang not in data:
            raise InputError(f"--langs {lang}: not in the data, which has {', '.join(data)}")
    return {lang: data[lang] for lang in langs or data}


def are_translations(data: "Data") -> bool:
    """Whether row i of every language is the same example, judging by labels and pairIDs."""
    return len({len(rows) for rows in data.values()}) == 1 and all(
        len({row.label for row in same}) == 1 and len({row.pair_id for row in same} - {None}) <= 1
        for same in zip(*data.values(), strict=True)
    )


def load(path: Path, args: argparse.Namespace) -> "PairClassifier":
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.evaluation.classification.classifier import PairClassifier

    return PairClassifier(checkpoint.read(path), str(path), **limits(args))


def classify(name: str, classifier: "PairClassifier", data: "Data", ids: list[int]) -> dict[str, "np.ndarray"]:
    """Logits by language, (N, K) in the order of the data's classes, which have these `ids` in the model."""
    logits = {}
    total = sum(map(len, data.values()))
    with tqdm(total=total, desc=name, unit="pair") as bar, about_model(name):
        for lang, rows in data.items():
            sides = [row.premise for row in rows], [row.hypothesis for row in rows]
            logits[lang] = classifier(*sides, bar.update)[:, ids]
    note_truncated(name, classifier, total, "pairs")
    note_precision(name, classifier, "logits")
    return logits


def write_predictions(
    path: Path, data: "Data", predicted: dict[str, "np.ndarray"], logits: dict[str, "np.ndarray"]
) -> None:
    """One line per example: language, row (from 1), classes, the probability of every class, its file and line."""
    from scipy.special import softmax

    from ppa_fairseq.data.nli.reader import LABELS

    with path.open("w", newline="\n", **READABLE) as file:
        file.write("\t".join(["language", "row", "gold", "predicted", *LABELS, "place"]) + "\n")
        for lang, rows in data.items():
            probabilities = softmax(logits[lang].astype(float), axis=1)
            for number, (row, label, scores) in enumerate(zip(rows, predicted[lang], probabilities, strict=True), 1):
                cells = [lang, str(number), row.label, LABELS[label], *(f"{score:.6f}" for score in scores), row.place]
                file.write("\t".join(cells) + "\n")
