"""Measure classifiers of sentence pairs in every language: accuracy, intervals, significance, confusions.

Prints a table; DIR gets it as table.md, everything as xnli.json, plots, and predictions-NAME.tsv of each model.
Gains are over the first model.

  ppa evaluate-xnli --model mbert=mbert-xnli/ --model ppa=checkpoint_best.pt --data xnli.test.tsv --output results/
"""

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ppa_fairseq.commands.arguments import Once, add_batching_arguments, add_models_argument, check_models
from ppa_fairseq.utils.errors import InputError, about_model
from ppa_fairseq.utils.files import READABLE, output_folder

if TYPE_CHECKING:  # imported where they are used: torch and fairseq take seconds
    import numpy as np

    from ppa_fairseq.data.nli.reader import NLIExample
    from ppa_fairseq.evaluation.classification.classifier import PairClassifier

    Data = dict[str, list[NLIExample]]  # {language: its rows}

JSON_FILE = "xnli.json"
OUTPUTS = {JSON_FILE, "table.md", "by-language.png", "confusions.png"}
PREDICTIONS = re.compile(r"predictions-.+\.tsv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_models_argument(parser, "a classifier (a fairseq checkpoint or a Hugging Face folder)")
    add("--data", metavar="PATH", nargs="+", action="extend", required=True,
        help="labelled pairs, or folders of them: XNLI's and MultiNLI's files, TSV (premise, hypothesis, label), "
             "JSON lines; plain, .gz or .xz; fr=PATH where a file's name does not tell its language")  # fmt: skip
    add("--langs", metavar="XX,YY", type=comma_separated, action=Once,
        help="the languages to measure (default: all in the data)")  # fmt: skip
    add("--labels", metavar="A,B,C", type=comma_separated, action=Once,
        help="names of the classes, in the order of their ids, for a model that calls them LABEL_0 …")  # fmt: skip
    add("--output", metavar="DIR", type=Path, required=True, help="new folder (an earlier evaluation is replaced)")
    add_batching_arguments(parser, max_length=128)


def comma_separated(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different names, as in en,fr")
    return names


def run(args: argparse.Namespace) -> None:
    import numpy as np

    from ppa_fairseq.data.nli.files import find_nli
    from ppa_fairseq.data.nli.reader import LABELS
    from ppa_fairseq.evaluation.classification import report
    from ppa_fairseq.evaluation.classification.classifier import are_unnamed
    from ppa_fairseq.evaluation.significance import SETTINGS

    check_models(args.models, name_files=True)
    data = matched(choose_languages(find_nli(args.data), args.langs))
    translations = are_translations(data)
    gold = {lang: np.array([LABELS.index(row.label) for row in rows]) for lang, rows in data.items()}
    with output_folder(args.output, "evaluate-xnli") as folder:
        # All are sound before hours go into the first.
        classes = {name: load(name, path, args)[0].labels for name, path in args.models}
        if args.labels and not any(map(are_unnamed, classes.values())):
            (name, labels), *_ = classes.items()
            raise InputError(
                f"--labels {','.join(args.labels)}: {name} names its classes itself ({', '.join(labels)}), as all "
                "models given; leave the flag out"
            )
        models, records, right, confusions = {}, {}, {}, {}
        for name, path in args.models:
            models[name], records[name], logits = classify(name, path, data, args)
            predicted = {lang: logits[lang].argmax(1) for lang in data}
            write_predictions(folder / f"predictions-{name}.tsv", data, predicted, logits)
            right[name] = {lang: predicted[lang] == gold[lang] for lang in data}
            confusions[name] = report.confusions(gold, predicted, len(LABELS))
        results = report.measure(right, translations)
        text = report.report(results, confusions, LABELS, translations, records)
        report.plot(results, confusions, LABELS, folder)
        document = {
            "settings": {"max_length": args.max_length, "batch_tokens": args.batch_tokens, **SETTINGS},
            "models": models,
            "data": {"paths": args.data, "translations": translations, "languages": label_counts(data)},
            "classes": LABELS,
            "results": [asdict(result) for result in results],
            "confusions": {
                name: {lang: matrix.tolist() for lang, matrix in by_language.items()}
                for name, by_language in confusions.items()
            },
        }
        (folder / JSON_FILE).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", **READABLE)
        (folder / "table.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"{args.output}: table.md, {JSON_FILE}, plots and the predictions")


def choose_languages(data: "Data", wanted: list[str] | None) -> "Data":
    """The wanted languages (None: all), each with rows enough to tell how sure its accuracy is."""
    for lang in wanted or ():
        if lang not in data:
            raise InputError(f"--langs {lang}: not in the data, which has {', '.join(data)}")
    chosen = {lang: data[lang] for lang in wanted or data}
    for rows in chosen.values():
        if len(rows) < 2:
            raise InputError(f"{rows[0].place}: the only labelled row of its language; give two or more")
    return chosen


def matched(data: "Data") -> "Data":
    """Every language's rows in the order of the first one's pairIDs, if all have the same ones; else as they are."""
    by_id = {lang: {row.pair_id: row for row in rows} for lang, rows in data.items()}
    first = next(iter(by_id.values()))
    if None in first or any(by_id[lang].keys() != first.keys() or len(by_id[lang]) < len(data[lang]) for lang in data):
        return data
    return {lang: [rows[pair_id] for pair_id in first] for lang, rows in by_id.items()}


def are_translations(data: "Data") -> bool:
    """Whether row i of every language is the same example, as far as labels and pairIDs tell."""
    return len({len(rows) for rows in data.values()}) == 1 and all(
        len({row.label for row in same}) == 1 and len({row.pair_id for row in same} - {None}) <= 1
        for same in zip(*data.values(), strict=True)
    )


def label_counts(data: "Data") -> dict[str, dict[str, int]]:
    return {lang: dict(Counter(row.label for row in rows)) for lang, rows in data.items()}


def load(name: str, path: Path, args: argparse.Namespace) -> tuple["PairClassifier", list[int]]:
    """A classifier, and its ids of the data's classes."""
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.data.nli.reader import LABELS
    from ppa_fairseq.evaluation.classification.classifier import PairClassifier, class_ids

    with about_model(name):
        classifier = PairClassifier(checkpoint.read(path), str(path), args.max_length, args.batch_tokens, args.cpu)
        return classifier, class_ids(classifier.labels, LABELS, args.labels)


def classify(
    name: str, path: Path, data: "Data", args: argparse.Namespace
) -> tuple[dict, str, dict[str, "np.ndarray"]]:
    """What one model is, what it tells of its training, and its logits (N, K) by language, in the data's classes."""
    from ppa_fairseq.evaluation.training_record import read_record

    classifier, ids = load(name, path, args)
    logits = {}
    total = sum(map(len, data.values()))
    with tqdm(total=total, desc=name, unit="pair") as bar:
        for lang, rows in data.items():
            sides = [row.premise for row in rows], [row.hypothesis for row in rows]
            with about_model(name):
                logits[lang] = classifier(*sides, bar.update)[:, ids]
    if classifier.truncated:
        print(f"{name}: {classifier.truncated} of {total} pairs cut to {args.max_length} pieces", file=sys.stderr)
    record = read_record(path)
    model = {
        "path": str(path),
        "layers": classifier.encoder.cfg.layers,
        "dim": classifier.encoder.cfg.dim,
        "labels": classifier.labels,
        "truncated": classifier.truncated,
        "device": str(classifier.device),
        "training": asdict(record) if record else None,
    }
    return model, str(record or ""), logits


def write_predictions(
    path: Path, data: "Data", predicted: dict[str, "np.ndarray"], logits: dict[str, "np.ndarray"]
) -> None:
    """One line an example: language, row (from 1), where it was read, classes, the probability of every class."""
    from scipy.special import softmax

    from ppa_fairseq.data.nli.reader import LABELS

    with path.open("w", newline="\n", **READABLE) as file:
        file.write("\t".join(["language", "row", "gold", "predicted", *LABELS, "place"]) + "\n")
        for lang, rows in data.items():
            probabilities = softmax(logits[lang].astype(float), axis=1)
            for number, (row, label, scores) in enumerate(zip(rows, predicted[lang], probabilities, strict=True), 1):
                cells = [lang, str(number), row.label, LABELS[label], *(f"{score:.6f}" for score in scores), row.place]
                file.write("\t".join(cells) + "\n")


