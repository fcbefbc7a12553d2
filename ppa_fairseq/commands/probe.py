"""Measure transfer in minutes: probes on frozen encoders, trained on English, tested in every language.

Each task names its English training data and its test data, as NAME=TRAIN:TEST. TRAIN is a file or several joined by
commas; TEST is a folder of files whose names end in the language (test-de.tsv), or one such file.

  ppa probe --model before=mbert/ --model after=checkpoint_best.pt --sentences topics=sib/train-en.tsv:sib/ \\
      --pairs xnli=multinli.tsv:xnli-dev/ --tags pos=ud/train-en.tsv:ud/ --output probes/
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ppa_fairseq.commands._evaluation import (
    describe,
    load_embedder,
    note_precision,
    note_truncated,
    optional_folder,
    write_report,
)
from ppa_fairseq.commands.arguments import (
    add_embedding_arguments,
    add_models_argument,
    add_unquote_argument,
    check_models,
    positive,
)
from ppa_fairseq.data.labelled import PROBED, Example, are_translations, files_by_language, read_files
from ppa_fairseq.evaluation.probing import report
from ppa_fairseq.utils.errors import InputError, about_model

JSON_FILE = "probes.json"
SETTINGS = ("layer", "pooling", "seeds", "max_train", "mixed", "batch_tokens")
HELP = {
    "sentences": "a label for a sentence: TSV with a header that names text and label, or JSON lines",
    "pairs": "a label for a pair: TSV (first, second, label) or JSON lines with premise, hypothesis, label",
    "tags": "a tag for each word: a word and its tag a line, an empty line between sentences; or CoNLL-U",
}
Task = tuple[str, str, list[Example], dict[str, list[Example]]]  # kind, name, English to train on, tests by language


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_models_argument(parser, "an encoder (a fairseq checkpoint, an imported folder or a Hugging Face folder)")
    for kind in PROBED:
        add(f"--{kind}", metavar="NAME=TRAIN:TEST", action="append", default=[], help=HELP[kind])
    add("--mixed", metavar="LANG", help="also test pairs whose second sentence is in this language, and the reverse "
        "(row by row, the test files must translate each other)")  # fmt: skip
    add("--layer", default="last", help="last (default) or a number; 0 is the embeddings")
    add("--seeds", metavar="N", type=positive, default=1, help="fit each probe with N seeds and average (default: 1)")
    add("--max-train", metavar="N", type=positive, default=20_000,
        help="train on the first N labels (default: 20000)")  # fmt: skip
    add_unquote_argument(parser)
    add("--output", metavar="DIR", type=Path, help=f"folder for table.md and {JSON_FILE}")
    add_embedding_arguments(parser)


def run(args: argparse.Namespace) -> None:
    check_models(args.models)
    tasks = [read_task(kind, text, args) for kind in PROBED for text in getattr(args, kind)]
    if not tasks:
        raise InputError(f"nothing to measure: give {', '.join(f'--{kind}' for kind in PROBED)} NAME=TRAIN:TEST")
    names = [name for _, name, _, _ in tasks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two tasks are named {twice}; give each its own name")
    with optional_folder(args.output, "probe") as folder:
        models: dict[str, dict] = {}
        right: dict[str, dict[str, Mapping[str, np.ndarray]]] = {}
        for name, path in args.models:
            with about_model(name):
                models[name], answers = measure(name, path, tasks, args)
            for task, by_language in answers.items():
                right.setdefault(task, {})[name] = by_language
        results = []
        for _, task, _, tests in tasks:
            results += report.measure(task, right[task], are_translations(tests))
        tables = report.tables(results)
        if folder:
            write_report(folder, JSON_FILE, tables, args, SETTINGS, models=models, results=results)
    print(tables)


def read_task(kind: str, text: str, args: argparse.Namespace) -> Task:
    """Read a task as *text* names it. Raises InputError on a bad form, a missing file, or labels unknown in English."""
    name, _, paths = text.partition("=")
    train_paths, _, test_path = paths.partition(":")
    if not (name and train_paths and test_path):
        raise InputError(f"--{kind} {text}: expected NAME=TRAIN:TEST, as in topics=sib/train-en.tsv:sib/")
    every = [*map(Path, train_paths.split(",")), Path(test_path)]
    if missing := next((path for path in every if not path.exists()), None):
        raise InputError(f"--{kind} {text}: {missing}: no such file or folder")
    train = read_files(every[:-1], kind, args.unquote)
    found = files_by_language(every[-1])
    tests = {language: read_files([file], kind, args.unquote) for language, file in found.items()}
    known = {label for example in train for label in example.labels}
    if len(known) < 2:
        raise InputError(f"--{kind} {text}: {train_paths} has one label, {known.pop()}; a probe needs two or more")
    for language, examples in tests.items():
        if not known & {label for example in examples for label in example.labels}:
            raise InputError(f"--{kind} {text}: the labels of {language} are none of {', '.join(sorted(known)[:8])}")
    if kind == "pairs" and args.mixed:
        tests |= mixed_pairs(tests, args.mixed)
    return kind, name, train, tests


def mixed_pairs(tests: dict[str, list[Example]], with_language: str) -> dict[str, list[Example]]:
    """Pair each language's first sentences with the other language's second ones, and the reverse."""
    if with_language not in tests:
        raise InputError(f"--mixed {with_language}: there is no test data in it, but in {', '.join(tests)}")
    fixed, mixed = tests[with_language], {}
    for language, examples in tests.items():
        if language == with_language:
            continue
        if [one.labels for one in examples] != [one.labels for one in fixed]:
            raise InputError(f"--mixed {with_language}: {language} does not have the same rows, by their labels")
        for first, second in ((language, with_language), (with_language, language)):
            rows = zip(tests[first], tests[second], strict=True)
            mixed[f"{first}{report.BETWEEN}{second}"] = [Example([a.parts[0], b.parts[1]], a.labels) for a, b in rows]
    return mixed


def measure(name: str, path: Path, tasks: list[Task], args: argparse.Namespace) -> tuple[dict, dict]:
    """Fit and test all probes on one encoder: facts about it, and {task: {language: share of seeds that are right}}."""
    from ppa_fairseq.evaluation.probing.features import features
    from ppa_fairseq.evaluation.probing.probes import right_answers

    embedder = load_embedder(name, path, args)
    answers, total = {}, 0
    for kind, task, train, tests in tasks:
        sets = {"": up_to(train, args.max_train), **tests}
        count = sum(len(examples) * (2 if kind == "pairs" else 1) for examples in sets.values())
        total += count
        data = {}
        with tqdm(total=count, desc=f"{name}, {task}", unit="sentence") as bar:
            for language, examples in sets.items():
                labels = np.array([label for example in examples for label in example.labels])
                data[language] = features(embedder, examples, kind, bar.update), labels
        answers[task] = right_answers(data.pop(""), data, kind, args.seeds)
    note_truncated(name, embedder, total, "sentences")
    note_precision(name, embedder, "token vectors")
    facts = {"pooling": embedder.poolings[0], "sentences": total, "truncated": embedder.truncated}
    return describe(path, embedder, **facts), answers


def up_to(examples: list[Example], labels: int) -> list[Example]:
    """Return the first examples that have about so many labels together."""
    ends = np.cumsum([len(example.labels) for example in examples])
    return examples[: max(1, int(np.searchsorted(ends, labels, side="right")))]
