"""Questions over contexts from SQuAD-format files (SQuAD 1.1 and 2.0, MLQA, XQuAD, TyDiQA-GoldP), read whole."""

import gzip
import json
import lzma
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ppa_fairseq.data.text_files import UNPACKERS
from ppa_fairseq.utils.errors import InputError

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

    Does not check that an answer is at its answer_start (`answer_spans` does). *renumber*: if ids of a file repeat, in
    it or in another (as in some copies of TyDiQA), number its questions anew: FILE:1, FILE:2 ….

    Raises InputError if a file cannot be read, has another format or no questions, a context or a question is missing
    or empty, or two questions have one id.
    """
    files = {path: _read_file(path) for path in map(Path, paths)}
    counts = Counter(question.id for questions in files.values() for question in questions)
    for path, questions in files.items():
        if renumber and any(counts[question.id] > 1 for question in questions):
            files[path] = [replace(question, id=f"{path.name}:{k}") for k, question in enumerate(questions, start=1)]
    every = [question for questions in files.values() for question in questions]
    _check_ids(every)
    return every


def _read_file(path: Path) -> list[Question]:
    questions = list(_questions(_read_text(path), path))
    if not questions:
        raise InputError(f"{path}: no questions in it; {EXPECTED}")
    return questions


def _check_ids(questions: list[Question]) -> None:
    known: dict[str, Question] = {}
    for question in questions:
        if (other := known.setdefault(question.id, question)) is not question:
            repeats = len(questions) - len({question.id for question in questions})
            raise InputError(
                f"{question.place}: {other.place} has the same id; {repeats:,} of {len(questions):,} questions repeat "
                "an id. Predictions and translations are found by the id: give each question its own "
                "(`ppa prepare-qa --renumber` does so for training)"
            )


def _read_text(path: Path) -> str:
    try:
        with UNPACKERS.get(path.suffix, open)(path, "rb") as file:
            return file.read().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path}: {error.strerror}; give a SQuAD-format file, plain, .gz or .xz") from None
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path}: truncated or damaged ({error}); fetch it again") from None
    except UnicodeDecodeError as error:
        code = "UTF-16" if error.object[:2] in (b"\xff\xfe", b"\xfe\xff") else "LATIN1"
        raise InputError(f"{path}: not UTF-8 ({error}); convert it, as by iconv -f {code} -t UTF-8 if it is {code}") from None


def _questions(text: str, path: Path) -> Iterator[Question]:
    """Yield the questions of a file. The content tells whether it is SQuAD's JSON or JSON lines."""
    first, end = _parse(text, str(path))
    place, paragraphs = str(path), 0
    try:
        if isinstance(first, dict) and "data" not in first and "context" in first:
            for number, line in enumerate(re.split(r"\r\n?|\n", text), start=1):
                if line.strip():
                    place = f"{path}:{number}"
                    entry, _ = _parse(line, place)
                    answers = entry.get("answers") or {"text": [], "answer_start": []}
                    if len(answers["text"]) != len(answers["answer_start"]):
                        raise ValueError("the answers have unequally many text and answer_start")
                    pairs = list(zip(answers["text"], answers["answer_start"], strict=True))
                    yield _question(entry, entry["context"], pairs, place)
            return
        if text[end:].strip():
            raise ValueError(f"not JSON (more text after character {end})")
        for article in first["data"]:
            for paragraph in article["paragraphs"]:
                paragraphs += 1
                place = f"{path}: paragraph {paragraphs}"
                for entry in paragraph["qas"]:
                    pairs = [(answer["text"], answer["answer_start"]) for answer in entry.get("answers") or ()]
                    yield _question(entry, paragraph["context"], pairs, place)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        faults = {KeyError: f"no {error} in it", ValueError: str(error)}
        raise InputError(f"{place}: {faults.get(type(error), 'another format')}; {EXPECTED}") from None


def _parse(text: str, place: str) -> tuple[object, int]:
    """Return the first value of JSON in *text*, and where it ends."""
    try:
        return json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip()))
    except ValueError as error:
        raise InputError(f"{place}: not JSON ({error}); {EXPECTED}") from None


def _question(entry: dict, context: object, answers: list[tuple], place: str) -> Question:
    own_id = str(entry["id"])
    if not own_id.strip() or not own_id.isprintable():  # a line break would break ids.txt
        raise ValueError(f"the id {own_id[:80]!r} is not printable")
    place = f"{place}: question {own_id:.80}"
    for name, text in (("context", context), ("question", entry["question"])):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{place}: its {name} is missing or empty; correct it or remove the question")
    if not all(isinstance(text, str) and type(start) is int for text, start in answers):
        raise InputError(f"{place}: an answer is not a text with an answer_start; {EXPECTED}")
    return Question(own_id, entry["question"], sys.intern(context), tuple(answers), place)
