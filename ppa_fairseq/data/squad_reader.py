"""Questions over contexts from SQuAD-format files (SQuAD 1.1 and 2.0, MLQA, XQuAD, TyDiQA-GoldP), checked whole."""

import gzip
import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ppa_fairseq.data.bitext_reader import UNPACKERS
from ppa_fairseq.errors import InputError

EXPECTED = "expected SQuAD's format: data > paragraphs > context and qas > id, question, answers > text, answer_start"


@dataclass(frozen=True)
class Question:
    """One question. *answers* as they stand in the file: text and where it starts, in characters of *context*."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]  # none: SQuAD 2.0's unanswerable
    place: str  # "file: paragraph 3: question 5733be28", for messages


def read_squad(path: str | Path, renumber: bool = False) -> list[Question]:
    """All questions of a file, in its order; plain, .gz or .xz. A `.jsonl` has one a line, SQuAD as `datasets` has it.

    Whether an answer is at its offset is not looked at here (`answer_spans.find_span` does). *renumber*: where ids
    repeat (as in some copies of TyDiQA), all questions of the file get new ones, FILE:1, FILE:2 ….

    Raises:
        InputError: the file is missing, damaged, no JSON or not SQuAD's; no question in it; a context or a question
            is missing or empty; two questions have one id.
    """
    path = Path(path)
    text = _read_text(path)
    records = _lines(text, path) if ".jsonl" in path.suffixes[-2:] else _paragraphs(text, path)
    questions = [_question(*record) for record in records]
    if not questions:
        raise InputError(f"{path}: no questions in it; {EXPECTED}")
    if renumber and len({question.id for question in questions}) < len(questions):
        questions = [replace(question, id=f"{path.name}:{k}") for k, question in enumerate(questions, start=1)]
    check_ids(questions)
    return questions


def check_ids(questions: list[Question]) -> None:
    """Raise InputError if two of *questions* have one id: predictions and translations are found by it."""
    known: dict[str, Question] = {}
    for question in questions:
        other = known.setdefault(question.id, question)
        if other is not question:
            total = len(questions) - len({question.id for question in questions})
            raise InputError(
                f"{question.place}: {other.place} has the same id ({total:,} of {len(questions):,} ids are taken "
                "twice): predictions and translations are found by it; give every question an id of its own"
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
        raise InputError(f"{path}: not UTF-8 ({error}); {EXPECTED}") from None


def _paragraphs(text: str, path: Path) -> Iterator[tuple[dict, object, str]]:
    """(entry of qas, context, place of the paragraph) of every question."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error}); {EXPECTED}") from None
    paragraphs = 0
    for number, article in enumerate(_list(content, "data", str(path)), start=1):
        for paragraph in _list(article, "paragraphs", f"{path}: entry {number} of data"):
            paragraphs += 1
            place = f"{path}: paragraph {paragraphs}"
            for entry in _list(paragraph, "qas", place):
                yield entry, paragraph.get("context"), place


def _lines(text: str, path: Path) -> Iterator[tuple[dict, object, str]]:
    contexts: dict[object, object] = {}  # equal contexts become one object, as in a paragraph
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise InputError(f"{place}: no JSON ({error}); a .jsonl has one question a line") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("context"), str):
            raise InputError(f"{place}: no context; a .jsonl has id, context, question and answers in each line")
        answers = entry.get("answers") or {}
        if not isinstance(answers, dict):
            raise InputError(f"{place}: answers is no object; expected its lists text and answer_start")
        texts, starts = (_list(answers, key, place) if answers else [] for key in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise InputError(f"{place}: {len(texts)} answer texts but {len(starts)} starts; mend the line")
        entry["answers"] = [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=True)]
        yield entry, contexts.setdefault(entry["context"], entry["context"]), place


def _question(entry: object, context: object, place: str) -> Question:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str | int):
        raise InputError(f"{place}: a question without an id; {EXPECTED}")
    place = f"{place}: question {entry['id']}"
    for name, text in (("context", context), ("question", entry.get("question"))):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{place}: its {name} is missing or empty; mend it or remove the question")
        if not _is_unicode(text):
            raise InputError(f"{place}: its {name} has half a character (a lone surrogate); fetch the file again")
    answers = []
    for answer in _list(entry, "answers", place) if entry.get("answers") else []:
        text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
        if not isinstance(text, str) or not isinstance(start, int):
            raise InputError(f"{place}: an answer that is no text with an answer_start; {EXPECTED}")
        answers.append((text, start))
    return Question(str(entry["id"]), entry["question"], context, tuple(answers), place)


def _is_unicode(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _list(holder: object, key: str, place: str) -> list:
    found = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(found, list):
        raise InputError(f"{place}: no list {key!r} in it; {EXPECTED}")
    return found
