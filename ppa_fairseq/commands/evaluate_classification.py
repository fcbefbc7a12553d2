"""Measure classifiers of sentences, or of pairs, in every language: accuracy, macro-F1, significance, confusions.

Files are those of `ppa prepare-classification`. Prints a table. DIR gets it as table.md, all numbers as
classification.json, and predictions-NAME.tsv for each model. Gains are over the first model.

  ppa evaluate-classification --model mbert=mbert-sib/ --model ppa=checkpoint_best.pt \\
      --data en=eng_Latn/test.tsv de=deu_Latn/test.tsv --output results/
"""

import argparse
from collections import Counter
from collections.abc import Sequence
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
from ppa_fairseq.utils.errors import InputError, about_model, quote
from ppa_fairseq.utils.files import READABLE, output_folder

if TYPE_CHECKING:  # torch takes a second to import
    import numpy as np

    from ppa_fairseq.evaluation.classification.classifier import PairClassifier

    Data = dict[str, list]  # {language: its examples}, which have parts, a label and a place

JSON_FILE = "classification.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_classifier_arguments(parser, "labelled sentences or pairs, or folders of them: TSV with a header, JSON lines")


def add_classifier_arguments(parser: argparse.ArgumentParser, data: str) -> None:
    """Add the flags of the commands that measure classifiers; *data* describes --data."""
    add_models_argument(parser, "a classifier (a fairseq checkpoint or a Hugging Face folder)")
    add_results_arguments(parser, data)
    add_unquote_argument(parser)
    parser.add_argument("--labels", metavar="A,B,C", type=comma_separated, action=Once,
        help="names of the classes, in the order of their ids, for a model that calls them LABEL_0 …")  # fmt: skip
    add_batching_arguments(parser, max_length=128)


def add_results_arguments(parser: argparse.ArgumentParser, data: str) -> None:
    """Add --data, which *data* describes, --langs and --output."""
    add = parser.add_argument
    add("--data", metavar="PATH", nargs="+", action="extend", required=True,
        help=f"{data}; plain, .gz, .xz, .bz2 or .zst; fr=PATH for a file without its language in the name")  # fmt: skip
    add("--langs", metavar="XX,YY", type=comma_separated, action=Once,
        help="the languages to measure (default: all in the data)")  # fmt: skip
    add("--output", metavar="DIR", type=Path, required=True,
        help="folder for the results; an earlier evaluation there is replaced")  # fmt: skip


def comma_separated(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.data.labelled import are_translations, read_by_language

    check_models(args.models, name_files=True)
    data = choose_languages(read_by_language(args.data, "texts", args.unquote), args.langs)
    evaluate(args, "evaluate-classification", JSON_FILE, data, are_translations(data))


def evaluate(
    args: argparse.Namespace,
    command: str,
    json_file: str,
    data: "Data",
    translations: bool,
    classes: Sequence[str] | None = None,
    averages: dict[str, list[str]] | None = None,
) -> None:
    """Classify *data* with all models and report; without *classes*, those of the first model, with macro-F1.

    *averages* are names and the languages of each (default: one over all).
    """
    from ppa_fairseq.evaluation.classification import report
    from ppa_fairseq.evaluation.classification.classifier import are_unnamed, class_ids
    from ppa_fairseq.evaluation.significance import SETTINGS

    sentences = len(next(iter(data.values()))[0].parts)
    macro = classes is None
    with output_folder(args.output, command) as folder:
        # All are read and checked before hours go into the first.
        classifiers, ids = {}, {}
        for name, path in args.models:
            with about_model(name):
                classifiers[name] = classifier = load(path, args, sentences)
                if classes is None:
                    classes = args.labels if args.labels and are_unnamed(classifier.labels) else classifier.labels
                ids[name] = class_ids(classifier.labels, classes, args.labels)
        gold = {lang: class_numbers(rows, classes) for lang, rows in data.items()}
        models, right, predictions = {}, {}, {}
        for name, path in args.models:
            classifier = classifiers.pop(name)
            logits = classify(name, classifier, data, ids[name])
            facts = {"labels": classifier.labels, "truncated": classifier.truncated, "training": classifier.training}
            models[name] = describe(path, classifier, **facts)
            predictions[name] = predicted = {lang: logits[lang].argmax(1) for lang in data}
            write_predictions(folder / f"predictions-{name}.tsv", data, classes, predicted, logits)
            right[name] = {lang: predicted[lang] == gold[lang] for lang in data}
        others = {"macro_f1": report.macro_f1(gold, predictions)} if macro else {}
        results = report.measure(right, translations, averages, others=others)
        text = report.report(results, translations)
        counts = {lang: dict(Counter(row.label for row in rows)) for lang, rows in data.items()}
        confusions = {name: report.confusions(gold, by, len(classes)) for name, by in predictions.items()}
        write_report(
            folder, json_file, text, args, ("max_length", "batch_tokens"), settings=SETTINGS, models=models,
            data={"paths": args.data, "translations": translations, "languages": counts}, classes=classes,
            confusions={name: {lang: m.tolist() for lang, m in by.items()} for name, by in confusions.items()},
            results=results,
        )  # fmt: skip
    print(text)
    print(f"{args.output}: table.md, {json_file} and the predictions")


def choose_languages(data: "Data", langs: list[str] | None) -> "Data":
    for lang in langs or ():
        if lang not in data:
            raise InputError(f"--langs {lang}: not in the data, which has {', '.join(data)}")
    return {lang: data[lang] for lang in langs or data}


def class_numbers(rows: list, classes: Sequence[str]) -> "np.ndarray":
    """The numbers of the rows' labels, (N,). Raises InputError on a label that is not one of the *classes*."""
    import numpy as np

    numbers = {label: number for number, label in enumerate(classes)}
    if unknown := next((row for row in rows if row.label not in numbers), None):
        raise InputError(
            f"{unknown.place}: the label {quote(unknown.label)} is none of the model's classes, {', '.join(classes)}; "
            "give a model that was fine-tuned on such data"
        )
    return np.array([numbers[row.label] for row in rows])


def load(path: Path, args: argparse.Namespace, sentences: int) -> "PairClassifier":
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.evaluation.classification.classifier import PairClassifier

    return PairClassifier(checkpoint.read(path), str(path), **limits(args), sentences=sentences)


def classify(name: str, classifier: "PairClassifier", data: "Data", ids: list[int]) -> dict[str, "np.ndarray"]:
    """Logits by language, (N, K) in the order of the data's classes, which have these `ids` in the model."""
    logits, total, parts = {}, sum(map(len, data.values())), 0
    with tqdm(total=total, desc=name, unit="row") as bar, about_model(name):
        for lang, rows in data.items():
            sides = [list(side) for side in zip(*(row.parts for row in rows), strict=True)]
            parts = len(sides)
            logits[lang] = classifier(*sides, progress=bar.update)[:, ids]
    note_truncated(name, classifier, total, "pairs" if parts == 2 else "sentences")
    note_precision(name, classifier, "logits")
    return logits


def write_predictions(
    path: Path,
    data: "Data",
    classes: Sequence[str],
    predicted: dict[str, "np.ndarray"],
    logits: dict[str, "np.ndarray"],
) -> None:
    """One line per example: language, row (from 1), classes, the probability of every class, its file and line."""
    from scipy.special import softmax

    with path.open("w", newline="\n", **READABLE) as file:
        file.write("\t".join(["language", "row", "gold", "predicted", *classes, "place"]) + "\n")
        for lang, rows in data.items():
            probabilities = softmax(logits[lang].astype(float), axis=1)
            for number, (row, label, scores) in enumerate(zip(rows, predicted[lang], probabilities, strict=True), 1):
                cells = [lang, str(number), row.label, classes[label], *(f"{score:.6f}" for score in scores), row.place]
                file.write("\t".join(cells) + "\n")
