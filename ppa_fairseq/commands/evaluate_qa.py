"""Measure question answering: F1 and exact match of fine-tuned models, or of existing predictions.

Data are SQuAD-format files. MLQA's files, recognised by their names, are measured by MLQA's metric; given all at once,
they make a grid of context languages by question languages (G-XLT) with its diagonal (XLT). Other files are measured by
SQuAD's metric. Gains are over the first model.

Prints tables. DIR gets them as table.md, all numbers as qa.json, and the predictions of each model as
predictions-NAME/SET.json, {id: text}, which the official scripts take.

  ppa evaluate-qa --model before=mbert-qa/ --model after=checkpoint_best.pt --data MLQA_V1/test/ --output results/
  ppa evaluate-qa --predictions theirs=results/predictions-after/xquad.de.json --data xquad.de.json
"""

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ppa_fairseq.commands._evaluation import describe, note_precision, optional_folder, write_json, write_report
from ppa_fairseq.commands.arguments import add_batching_arguments, check_models, named_path, positive
from ppa_fairseq.evaluation.question_answering.metrics import METRICS, score
from ppa_fairseq.evaluation.question_answering.sets import QuestionSet, find_question_sets
from ppa_fairseq.utils.errors import InputError, about_model
from ppa_fairseq.utils.json_files import read_object

if TYPE_CHECKING:  # torch takes a second to import
    from ppa_fairseq.data.qa.squad import Question
    from ppa_fairseq.evaluation.question_answering.answerer import QuestionAnswerer

Predictions = dict[str, dict[str, str]]  # {name of a set: {question id: text}}
JSON_FILE = "qa.json"
SIZES = ("max_length", "doc_stride", "max_answer_length", "batch_tokens")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", dest="models", metavar="NAME=PATH", type=named_path, action="append", default=[],
        help="a question answerer (a fairseq checkpoint or a Hugging Face folder) and a name for it; repeat the flag "
             "for several models")  # fmt: skip
    add("--predictions", metavar="NAME=PATH", type=named_path, action="append", default=[],
        help="predictions to measure, {id: text}: a file, or for several sets a folder with a SET.json for each")
    add("--data", metavar="[LANG=]PATH", nargs="+", action="extend", required=True,
        help="SQuAD-format files or folders of them, as in MLQA_V1/dev/ xquad.de.json sw=tydiqa.json; plain, .gz or "
             ".xz (in a folder, *.train.* is ignored)")  # fmt: skip
    add("--metric", choices=METRICS, help="default: mlqa for MLQA's file names, else squad")
    add("--renumber", action="store_true",
        help="give the questions new ids, FILE:1, FILE:2 …, in files that repeat ids (some copies of TyDiQA)")
    add("--doc-stride", metavar="N", type=int, default=128,
        help="tokens that two consecutive windows of a long context share (default: 128)")  # fmt: skip
    add("--max-answer-length", metavar="N", type=positive, default=30,
        help="tokens in an answer, at most (default: 30)")  # fmt: skip
    add("--output", metavar="DIR", type=Path, help="folder for the results; an earlier evaluation there is replaced")
    add_batching_arguments(parser, max_length=384)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.evaluation.question_answering.report import Measured, report, results_of
    from ppa_fairseq.evaluation.significance import SETTINGS

    check(args)
    sets = find_question_sets(args.data, args.metric)
    questions = {one.name: one.read(args.renumber) for one in sets}
    predictions = {name: read_predictions(path, sets) for name, path in args.predictions}
    with optional_folder(args.output, "evaluate-qa") as folder:
        # All are read and checked before hours go into the first.
        answerers = {name: load(name, path, args) for name, path in args.models}
        models = {}
        for name, path in args.models:
            answerer = answerers.pop(name)
            predictions[name] = predict(name, answerer, questions)
            note_precision(name, answerer, "logits")
            models[name] = describe(path, answerer, training=answerer.training)
            if folder:
                (folder / f"predictions-{name}").mkdir()
                for of, texts in predictions[name].items():
                    write_json(folder / f"predictions-{name}" / f"{of}.json", texts)
        gaps = [gap for name in dict(args.predictions) for gap in find_gaps(name, predictions[name], questions)]
        results = results_of(
            [
                Measured(name, one, score(questions[one.name], predictions[name][one.name], one.words))
                for name in [*models, *dict(args.predictions)]
                for one in sets
            ]
        )
        text = report(results)
        if folder:
            write_report(
                folder, JSON_FILE, text, args, SIZES, settings=SETTINGS, models=models,
                predictions={name: str(path) for name, path in args.predictions},
                sets={one.name: {**asdict(one), "path": str(one.path)} for one in sets}, results=results, gaps=gaps,
            )  # fmt: skip
    print(text)
    if folder:
        print(f"{args.output}: table.md, {JSON_FILE}{' and the predictions' if models else ''}")


def check(args: argparse.Namespace) -> None:
    """Raise InputError for names and flags that contradict each other."""
    check_models(args.models, name_files=True)
    names = [name for name, _ in args.models + args.predictions]
    if not names:
        raise InputError("neither --model nor --predictions; give something to measure")
    if len(set(names)) < len(names):
        raise InputError("two models or predictions have the same name; give each its own")
    for _, path in args.predictions:
        if args.output and Path(os.path.realpath(path)).parent.is_relative_to(os.path.realpath(args.output)):
            raise InputError(f"{path}: is inside --output, which is replaced as a whole; give another folder")


def read_predictions(path: Path, sets: list[QuestionSet]) -> Predictions:
    """The predictions for each set: a SET.json in a folder, or one file for a single set. Raises InputError."""
    if not path.is_dir() and len(sets) > 1:
        raise InputError(
            f"{path}: no folder, but --data has {len(sets)} sets; give a folder with a SET.json for each, as in "
            f"{sets[0].name}.json"
        )
    predictions = {}
    for one in sets:
        file = path / f"{one.name}.json" if path.is_dir() else path
        predictions[one.name] = read_object(file, "give predictions, {id: text}")
        if not all(isinstance(text, str) for text in predictions[one.name].values()):
            raise InputError(f"{file}: an answer is not a text; give predictions, {{id: text}}")
    return predictions


def load(name: str, path: Path, args: argparse.Namespace) -> "QuestionAnswerer":
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.evaluation.question_answering.answerer import QuestionAnswerer

    with about_model(name):
        sizes = {flag: getattr(args, flag) for flag in SIZES}
        return QuestionAnswerer(checkpoint.read(path), str(path), **sizes, cpu=args.cpu, dtype=args.dtype)


def predict(name: str, answerer: "QuestionAnswerer", questions: dict[str, list["Question"]]) -> Predictions:
    texts = {}
    with tqdm(total=sum(map(len, questions.values())), desc=name, unit="question") as bar, about_model(name):
        for of, here in questions.items():
            answers = answerer(here, bar.update)
            texts[of] = {question.id: answer.text for question, answer in zip(here, answers, strict=True)}
    return texts


def find_gaps(name: str, predictions: Predictions, questions: dict[str, list["Question"]]) -> list[dict]:
    """Sets with questions that have no prediction, or predictions without a question; notes on them go to stderr."""
    gaps = []
    for of, here in questions.items():
        ids, given = {question.id for question in here}, predictions[of].keys()
        gap = {"model": name, "set": of, "unanswered": sorted(ids - given), "unknown": sorted(given - ids)}
        if gap["unanswered"] or gap["unknown"]:
            print(
                f"{name}, {of}: {len(gap['unanswered'])} of {len(ids)} questions have no prediction and score 0; "
                f"{len(gap['unknown'])} predictions are for other questions and do not count",
                file=sys.stderr,
            )
            gaps.append(gap)
    return gaps
