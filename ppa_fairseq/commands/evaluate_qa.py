"""Measure question answering: F1 and exact match of fine-tuned models, or of predictions that are there already.

Data are SQuAD-format files. MLQA's, known by their names, are measured by MLQA's metric and may be given all at once:
every language of contexts by every language of questions (G-XLT), with the diagonal (XLT). Others are measured by
SQuAD's own metric. Gains are over the first model.

Prints tables; DIR gets them as table.md, everything as qa.json, plots, and the predictions of each model as
predictions-NAME/SET.json, {id: text}, which the official scripts take.

  ppa evaluate-qa --model before=mbert-qa/ --model after=checkpoint_best.pt --data MLQA_V1/test/ --output results/
  ppa evaluate-qa --predictions results/predictions-after/xquad.de.json --data xquad.de.json
"""

import argparse
import json
import os
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ppa_fairseq.commands.arguments import add_batching_arguments, check_models, named_path, positive
from ppa_fairseq.evaluation.question_answering.metrics import METRICS, Scores, score
from ppa_fairseq.evaluation.question_answering.sets import QuestionSet, find_question_sets
from ppa_fairseq.utils.errors import InputError, about_model, shown
from ppa_fairseq.utils.files import output_folder
from ppa_fairseq.utils.json_files import read_object

if TYPE_CHECKING:  # imported where they are used: torch and fairseq take seconds
    from ppa_fairseq.data.qa.squad import Question
    from ppa_fairseq.evaluation.question_answering.answerer import Answer, QuestionAnswerer

Predictions = dict[str, dict[str, str]]  # {name of a set: {question id: text}}
JSON_FILE = "qa.json"
REPORT = {JSON_FILE, "table.md"}
SHOWN = 5  # ids in a note


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", dest="models", metavar="NAME=PATH", type=named_path, action="append", default=[],
        help="a question answerer (a fairseq checkpoint or a Hugging Face folder), and what to call it; once for "
             "each")  # fmt: skip
    add("--predictions", metavar="[NAME=]PATH", action="append", default=[],
        help="predictions to measure, {id: text}: a file, or for several sets a folder with a SET.json for each")
    add("--data", metavar="[LANG=]PATH", nargs="+", action="extend", required=True,
        help="SQuAD-format files or folders of them, as in MLQA_V1/dev/ xquad.de.json sw=tydiqa.json; plain, .gz or "
             ".xz (in a folder, *.train.* is passed over)")  # fmt: skip
    add("--metric", choices=METRICS, help="default: mlqa for MLQA's file names, else squad")
    add("--renumber", action="store_true",
        help="give the questions of files in which ids repeat (some copies of TyDiQA) new ones, FILE:1, FILE:2 ...")
    add("--doc-stride", metavar="N", type=int, default=128,
        help="pieces that two consecutive windows of a long context share (default: 128)")  # fmt: skip
    add("--max-answer-length", metavar="N", type=positive, default=30,
        help="pieces in an answer, at most (default: 30)")  # fmt: skip
    add("--n-best", metavar="K", type=positive, default=1,
        help="with K > 1, DIR also gets each question's K best answers with probabilities: nbest-NAME/SET.json")
    add("--output", metavar="DIR", type=Path, help="new folder (an earlier evaluation is replaced)")
    add_batching_arguments(parser, max_length=384)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.evaluation.question_answering import report as qa_report
    from ppa_fairseq.evaluation.question_answering import results as qa_results
    from ppa_fairseq.evaluation.significance import SETTINGS

    given = dict(map(named_predictions, args.predictions))
    check(args, given)
    sets = find_question_sets(args.data, args.metric)
    questions = {one.name: one.read(args.renumber) for one in sets}
    predictions = {name: read_predictions(path, sets) for name, path in given.items()}
    folder = output_folder(args.output, "evaluate-qa") if args.output else nullcontext()
    with folder as folder:
        for name, path in args.models:  # all are sound before hours go into the first
            load(name, path, args)
        models, records = {}, {}
        for name, path in args.models:
            models[name], records[name], answers = answer(name, path, questions, args)
            predictions[name] = {
                of: {question: best[0].text if best else "" for question, best in found.items()}
                for of, found in answers.items()
            }
            if folder:
                write_answers(folder, name, predictions[name], answers if args.n_best > 1 else {})
        measured = [
            qa_results.Measured(name, one, scores(name, one, questions[one.name], predictions[name][one.name]))
            for name in [*models, *given]
            for one in sets
        ]
        results = qa_results.results_of(measured)
        text = qa_report.report(results, records)
        if folder:
            document = {
                "settings": {**settings(args), **SETTINGS},
                "models": models,
                "predictions": {name: str(path) for name, path in given.items()},
                "sets": {one.name: {**asdict(one), "path": str(one.path)} for one in sets},
                "results": [asdict(result) for result in results],
                "gaps": [
                    {"model": one.model, "set": one.of.name, "unanswered": gaps[0], "unknown": gaps[1]}
                    for one in measured
                    if any(gaps := (one.scores.unanswered, one.scores.unknown))
                ],
            }
            write_json(folder / JSON_FILE, document)
            (folder / "table.md").write_text(text, encoding="utf-8")
            qa_report.plot(results, folder)
    print(text)
    if folder:
        print(f"{args.output}: table.md, {JSON_FILE}, plots{' and the predictions' if models else ''}")


def named_predictions(text: str) -> tuple[str, Path]:
    """NAME=PATH, or a path whose name says what to call it: predictions-after/ is after."""
    name, _, path = text.partition("=")
    if not name or not path or Path(text).exists():
        return Path(text).name.removesuffix(".json").removeprefix("predictions-"), Path(text)
    return name, Path(path)


def check(args: argparse.Namespace, given: dict[str, Path]) -> None:
    """Raise InputError for names and flags that don't go together."""
    check_models(args.models)
    if not args.models and not given:
        raise InputError("neither --model nor --predictions: give what is to be measured")
    if len(given) < len(args.predictions) or given.keys() & dict(args.models).keys():
        raise InputError("two models or predictions of one name; name each differently, as in --predictions NAME=PATH")
    for name, _ in args.models:
        if "/" in name:
            raise InputError(f"--model {name}=…: the name becomes part of a file's name; leave the / out")
    for path in given.values():
        if args.output and Path(os.path.realpath(path)).parent.is_relative_to(os.path.realpath(args.output)):
            raise InputError(f"{path}: lies in --output, which is replaced as a whole; give another folder")
    if args.n_best > 1 and not (args.output and args.models):
        raise InputError("--n-best: needs a --model, and --output to write to")


def read_predictions(path: Path, sets: list[QuestionSet]) -> Predictions:
    """Of each set, from a folder with a SET.json for each, or a file for a single one. Raises InputError."""
    if not path.is_dir() and len(sets) > 1:
        raise InputError(
            f"{path}: {'one file' if path.is_file() else 'no such folder'}, but --data has {len(sets)} sets; "
            f"give a folder with a SET.json for each, as in {sets[0].name}.json"
        )
    return {one.name: read_texts(path / f"{one.name}.json" if path.is_dir() else path) for one in sets}


def read_texts(path: Path) -> dict[str, str]:
    texts = read_object(path, "give predictions, which are {id: text}")
    for question, text in texts.items():
        if not isinstance(text, str):
            raise InputError(
                f"{path}: {shown(question)} has {shown(text)} for an answer; give predictions, which are {{id: text}}"
            )
    return texts


def settings(args: argparse.Namespace) -> dict[str, int]:
    flags = ("max_length", "doc_stride", "max_answer_length", "batch_tokens")
    return {flag: getattr(args, flag) for flag in flags}


def load(name: str, path: Path, args: argparse.Namespace) -> "QuestionAnswerer":
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.evaluation.question_answering.answerer import QuestionAnswerer

    with about_model(name):
        return QuestionAnswerer(checkpoint.read(path), str(path), **settings(args), cpu=args.cpu)


def answer(
    name: str, path: Path, questions: dict[str, list["Question"]], args: argparse.Namespace
) -> tuple[dict, str, dict[str, dict[str, list["Answer"]]]]:
    """What one model is, what it tells of its training, and {name of a set: {question id: its best answers}}."""
    from ppa_fairseq.evaluation.training_record import read_record

    answerer = load(name, path, args)
    answers = {}
    with tqdm(total=sum(map(len, questions.values())), desc=name, unit="question") as bar:
        for of, here in questions.items():
            with about_model(name):
                found = answerer(here, args.n_best, bar.update)
            answers[of] = {question.id: best for question, best in zip(here, found, strict=True)}
    record = read_record(path)
    model = {
        "path": str(path),
        "layers": answerer.encoder.cfg.layers,
        "dim": answerer.encoder.cfg.dim,
        "device": str(answerer.device),
        "training": asdict(record) if record else None,
    }
    return model, str(record or ""), answers


def write_answers(folder: Path, name: str, texts: Predictions, n_best: dict[str, dict[str, list["Answer"]]]) -> None:
    """predictions-NAME/SET.json, and nbest-NAME/SET.json of the sets in `n_best`."""
    for kind, by_set in (("predictions", texts), ("nbest", n_best)):
        for of, found in by_set.items():
            if kind == "nbest":
                found = {i: [one._asdict() for one in best] for i, best in found.items()}
            (folder / f"{kind}-{name}").mkdir(exist_ok=True)
            write_json(folder / f"{kind}-{name}" / f"{of}.json", found)


def write_json(path: Path, content: dict) -> None:
    # In ASCII: the official scripts open files in the encoding of their user's locale.
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="ascii")


def scores(name: str, of: QuestionSet, questions: list["Question"], texts: dict[str, str]) -> Scores:
    """Scores of the predicted texts; the user is told of gaps in them."""
    found = score(questions, texts, of.words)
    for ids, what in (
        (found.unanswered, f"of {len(questions)} questions unanswered: they score 0"),
        (found.unknown, "predictions of no question in the data: they don't count"),
    ):
        if ids:
            more = ", …" if len(ids) > SHOWN else ""
            print(f"{name}, {of.name}: {len(ids)} {what} ({', '.join(ids[:SHOWN])}{more})", file=sys.stderr)
    return found


