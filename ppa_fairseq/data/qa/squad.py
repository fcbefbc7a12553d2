"""Questions over contexts from SQuAD-format files (SQuAD 1.1 and 2.0, MLQA, XQuAD, TyDiQA-GoldP), read whole."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ppa_fairseq.data.packed import open_unpacked
from ppa_fairseq.data.text_files import CONVERT, JSON_ARRAY, refuse_utf_16
from ppa_fairseq.utils.errors import InputError, quote

EXPECTED = (
    "expected SQuAD's format: data > paragraphs > context and qas > id, question, answers > text, answer_start; or "
    "JSON lines of id, context, question, answers > text, answer_start"
)


@dataclass(frozen=True)
class Question:
    """One question. *answers* as the file has them: text and where it starts, in characters of *context*."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]  # none: SQuAD 2.0's unanswerable
    place: str  # "file: paragraph 3: question 5733be28", for messages


def read_squad(*paths: str | Path, renumber: bool = False) -> list[Question]:
    """Read all questions of the files, in order: SQuAD's JSON, or JSON lines with a question each as `datasets` writes.

    Does not check that an answer is at its answer_start (`answer_span` does). *renumber*: if ids of a file repeat, in
    it or in another (as in some copies of TyDiQA), number its questions anew: FILE:1, FILE:2 ….

    Raises InputError if a file has another format or no questions, a context or a question is missing or empty, or two
    questions have one id.
    """
    files = {path: list(_read_file(path)) for path in map(Path, paths)}
    counts = Counter(question.id for questions in files.values() for question in questions)
    every = []
    for path, questions in files.items():
        if not questions:
            raise InputError(f"{path}: no questions in it; {EXPECTED}")
        repeated = next((question for question in questions if counts[question.id] > 1), None)
        if repeated and not renumber:
            raise InputError(
                f"{repeated.place}: another question has the same id, by which predictions and translations are found; "
                "give each question its own, as --renumber does"
            )
        if repeated:
            questions = [replace(question, id=f"{path.name}:{k}") for k, question in enumerate(questions, start=1)]
        every += questions
    return every


def _read_file(path: Path) -> Iterator[Question]:
    text, place, broken = _read_text(path), str(path), None
    try:
        document = json.loads(text)
    except ValueError as error:
        document, broken = {}, error  # JSON lines
    if isinstance(document, list):
        raise InputError(f"{path}: {JSON_ARRAY}")
    try:
        if "data" in document:
            paragraphs = (paragraph for article in document["data"] for paragraph in article["paragraphs"])
            for number, paragraph in enumerate(paragraphs, start=1):
                place = f"{path}: paragraph {number}"
                for entry in paragraph["qas"]:
                    answers = [(answer["text"], answer["answer_start"]) for answer in entry.get("answers") or ()]
                    yield _question(entry, paragraph["context"], answers, place)
            return
        for number, line in enumerate(re.split(r"\r\n?|\n", text), start=1):
            if line.strip():
                place = f"{path}:{number}"
                entry = json.loads(line)
                answers = entry.get("answers") or {"text": [], "answer_start": []}
                texts, starts = answers["text"], answers["answer_start"]
                if len(texts) != len(starts):
                    raise ValueError(f"{len(texts)} texts of answers, but {len(starts)} answer_start")
                yield _question(entry, entry["context"], zip(texts, starts, strict=True), place)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, json.JSONDecodeError) and place == f"{path}:1":  # not JSON lines either
            place, error = path, broken
        fault = f"no {error} in it" if isinstance(error, KeyError) else f"another format ({error})"
        raise InputError(f"{place}: {fault}; {EXPECTED}") from None


def _read_text(path: Path) -> str:
    try:
        with open_unpacked(path) as (_, file):
            content = file.read()
            refuse_utf_16(path, content)
            return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason}); {CONVERT}") from None


def _question(entry: dict, context: object, answers, place: str) -> Question:
    own_id = str(entry["id"])
    if not own_id.isprintable():  # a line break would break ids.txt
        raise ValueError(f"the id {quote(own_id)} is not printable")
    place = f"{place}: question {own_id:.80}"
    for name, text in (("context", context), ("question", entry["question"])):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{place}: its {name} is missing or empty; correct it or remove the question")
    answers = tuple(answers)
    if not all(isinstance(text, str) and isinstance(start, int) for text, start in answers):
        raise InputError(f"{place}: an answer is not a text with an answer_start; {EXPECTED}")
    return Question(own_id, entry["question"], sys.intern(context), answers, place)
