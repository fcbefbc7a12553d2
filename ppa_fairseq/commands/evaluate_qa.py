"""Measure question answering: F1 and exact match of fine-tuned models, or of existing predictions.

Data are SQuAD-format files. MLQA's files, recognised by their names, are measured by MLQA's metric; given all at once,
they make a grid of context languages by question languages (G-XLT) with its diagonal (XLT). Other files are measured by
SQuAD's metric. Gains are over the first model.

Prints tables. DIR gets them as table.md, all numbers as qa.json, plots, and the predictions of each model as
predictions-NAME/SET.json, {id: text}, which the official scripts take.

  ppa evaluate-qa --model before=mbert-qa/ --model after=checkpoint_best.pt --data MLQA_V1/test/ --output results/
  ppa evaluate-qa --predictions results/predictions-after/xquad.de.json --data xquad.de.json
"""

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ppa_fairseq.commands._evaluation import describe, optional_folder, write_json, write_report
from ppa_fairseq.commands.arguments import add_batching_arguments, check_models, named_path, positive
from ppa_fairseq.evaluation.question_answering.metrics import METRICS, Scores, score
from ppa_fairseq.evaluation.question_answering.sets import QuestionSet, find_question_sets
from ppa_fairseq.utils.errors import InputError, about_model, quote
from ppa_fairseq.utils.json_files import read_object

if TYPE_CHECKING:  # torch takes a second to import
    from ppa_fairseq.data.qa.squad import Question
    from ppa_fairseq.evaluation.question_answering.answerer import Answer, QuestionAnswerer

    Answers = dict[str, dict[str, list[Answer]]]  # {name of a set: {question id: its best answers}}

Predictions = dict[str, dict[str, str]]  # {name of a set: {question id: text}}
JSON_FILE = "qa.json"
SIZES = ("max_length", "doc_stride", "max_answer_length", "batch_tokens")
LISTED = 5  # ids in a note


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", dest="models", metavar="NAME=PATH", type=named_path, action="append", default=[],
        help="a question answerer (a fairseq checkpoint or a Hugging Face folder) and a name for it; repeat the flag "
             "for several models")  # fmt: skip
    add("--predictions", metavar="[NAME=]PATH", action="append", default=[],
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
    add("--n-best", metavar="K", type=positive, default=1,
        help="with K > 1, DIR also gets the K best answers to each question with probabilities: nbest-NAME/SET.json")
    add("--output", metavar="DIR", type=Path, help="folder for the results; an earlier evaluation there is replaced")
    add_batching_arguments(parser, max_length=384)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.evaluation.question_answering import report as qa_report
    from ppa_fairseq.evaluation.question_answering.results import Measured, results_of
    from ppa_fairseq.evaluation.significance import SETTINGS

    given = dict(map(named_predictions, args.predictions))
    check(args, given)
    sets = find_question_sets(args.data, args.metric)
    questions = {one.name: one.read(args.renumber) for one in sets}
    predictions = {name: read_predictions(path, sets) for name, path in given.items()}
    with optional_folder(args.output, "evaluate-qa") as folder:
        # All are read and checked before hours go into the first.
        answerers = {name: load(name, path, args) for name, path in args.models}
        models, records = {}, {}
        for name, path in args.models:
            answerer = answerers.pop(name)
            answers = answer(name, answerer, questions, args.n_best)
            models[name] = describe(path, answerer, training=answerer.record and asdict(answerer.record))
            records[name] = str(answerer.record or "")
            predictions[name] = {
                of: {question: best[0].text if best else "" for question, best in found.items()}
                for of, found in answers.items()
            }
            if folder:
                write_answers(folder, name, predictions[name], answers if args.n_best > 1 else {})
        measured = [
            Measured(name, one, scores(name, one, questions[one.name], predictions[name][one.name]))
            for name in [*models, *given]
            for one in sets
        ]
        results = results_of(measured)
        text = qa_report.report(results, records)
        if folder:
            gaps = [
                {"model": one.model, "set": one.of.name, "unanswered": found.unanswered, "unknown": found.unknown}
                for one in measured
                if (found := one.scores).unanswered or found.unknown
            ]
            write_report(
                folder, JSON_FILE, text, args, SIZES, settings=SETTINGS, models=models,
                predictions={name: str(path) for name, path in given.items()},
                sets={one.name: {**asdict(one), "path": str(one.path)} for one in sets}, results=results, gaps=gaps,
            )  # fmt: skip
            qa_report.plot(results, folder)
    print(text)
    if folder:
        print(f"{args.output}: table.md, {JSON_FILE}, plots{' and the predictions' if models else ''}")


def named_predictions(text: str) -> tuple[str, Path]:
    """NAME=PATH, or a path whose own name gives the name: predictions-after/ is after."""
    name, _, path = text.partition("=")
    if not name or not path or Path(text).exists():
        return Path(text).name.removesuffix(".json").removeprefix("predictions-"), Path(text)
    return name, Path(path)


def check(args: argparse.Namespace, given: dict[str, Path]) -> None:
    """Raise InputError for names and flags that contradict each other."""
    check_models(args.models, name_files=True)
    if not args.models and not given:
        raise InputError("neither --model nor --predictions; give something to measure")
    if len(given) < len(args.predictions) or given.keys() & dict(args.models).keys():
        raise InputError(
            "two models or predictions have the same name; give each its own, as in --predictions NAME=PATH"
        )
    for path in given.values():
        if args.output and Path(os.path.realpath(path)).parent.is_relative_to(os.path.realpath(args.output)):
            raise InputError(f"{path}: is inside --output, which is replaced as a whole; give another folder")
    if args.n_best > 1 and not (args.output and args.models):
        raise InputError("--n-best: needs a --model, and an --output to write to")


def read_predictions(path: Path, sets: list[QuestionSet]) -> Predictions:
    """The predictions for each set: a SET.json in a folder, or one file for a single set. Raises InputError."""
    if not path.is_dir() and len(sets) > 1:
        raise InputError(
            f"{path}: {'one file' if path.is_file() else 'no such folder'}, but --data has {len(sets)} sets; "
            f"give a folder with a SET.json for each, as in {sets[0].name}.json"
        )
    return {one.name: read_texts(path / f"{one.name}.json" if path.is_dir() else path) for one in sets}


def read_texts(path: Path) -> dict[str, str]:
    texts = read_object(path, "give predictions, {id: text}")
    for question, text in texts.items():
        if not isinstance(text, str):
            raise InputError(f"{path}: {quote(question)} has {quote(text)} as answer; give predictions, {{id: text}}")
    return texts


def load(name: str, path: Path, args: argparse.Namespace) -> "QuestionAnswerer":
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.evaluation.question_answering.answerer import QuestionAnswerer

    with about_model(name):
        sizes = {flag: getattr(args, flag) for flag in SIZES}
        return QuestionAnswerer(checkpoint.read(path), str(path), **sizes, cpu=args.cpu)


def answer(name: str, answerer: "QuestionAnswerer", questions: dict[str, list["Question"]], n_best: int) -> "Answers":
    answers = {}
    with tqdm(total=sum(map(len, questions.values())), desc=name, unit="question") as bar, about_model(name):
        for of, here in questions.items():
            found = answerer(here, n_best, bar.update)
            answers[of] = {question.id: best for question, best in zip(here, found, strict=True)}
    return answers


def write_answers(folder: Path, name: str, texts: Predictions, n_best: "Answers") -> None:
    """predictions-NAME/SET.json, and nbest-NAME/SET.json of the sets in `n_best`."""
    best = {of: {i: [one._asdict() for one in best] for i, best in found.items()} for of, found in n_best.items()}
    for kind, by_set in (("predictions", texts), ("nbest", best)):
        for of, found in by_set.items():
            (folder / f"{kind}-{name}").mkdir(exist_ok=True)
            write_json(folder / f"{kind}-{name}" / f"{of}.json", found)


def scores(name: str, of: QuestionSet, questions: list["Question"], texts: dict[str, str]) -> Scores:
    """Scores of the predicted texts; notes on missing and surplus predictions go to stderr."""
    found = score(questions, texts, of.words)
    for ids, what in (
        (found.unanswered, f"of {len(questions)} questions have no prediction: they score 0"),
        (found.unknown, "predictions are for questions that are not in the data: they do not count"),
    ):
        if ids:
            more = ", …" if len(ids) > LISTED else ""
            print(f"{name}, {of.name}: {len(ids)} {what} ({', '.join(ids[:LISTED])}{more})", file=sys.stderr)
    return found
