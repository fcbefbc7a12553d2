"""Questions over contexts from SQuAD-format files (SQuAD 1.1 and 2.0, MLQA, XQuAD, TyDiQA-GoldP), checked whole."""

import gzip
import lzma
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ppa_fairseq.data.bitext.reader import BLOCK, UNPACKERS, is_unicode
from ppa_fairseq.utils import strict_json
from ppa_fairseq.utils.errors import InputError, shown

LARGEST = 512 << 20  # bytes, unpacked: ten translations of SQuAD; a file packed to be a bomb has more
EXPECTED = "expected SQuAD's format: data > paragraphs > context and qas > id, question, answers > text, answer_start"


@dataclass(frozen=True)
class Question:
    """One question. *answers* as they stand in the file: text and where it starts, in characters of *context*."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]  # none: SQuAD 2.0's unanswerable
    place: str  # "file: paragraph 3: question 5733be28", for messages


def read_squad(*paths: str | Path, renumber: bool = False) -> list[Question]:
    """All questions of the files, in their order; plain, .gz or .xz. A `.jsonl` has one a line, as `datasets` does.

    Whether an answer is where it should be is not looked at here (`answer_spans` does). *renumber*: where ids of a file
    repeat, in it or in another (as in some copies of TyDiQA), its questions get new ones: FILE:1, FILE:2 ….

    Raises:
        InputError: a file is missing, damaged, no JSON, not SQuAD's or without questions; a context or a question
            is missing or empty; two questions have one id; a file has more than LARGEST bytes.
    """
    files = {Path(path): _read_file(Path(path)) for path in paths}
    counts = Counter(question.id for questions in files.values() for question in questions)
    for path, questions in files.items():
        if renumber and any(counts[question.id] > 1 for question in questions):
            files[path] = [replace(question, id=f"{path.name}:{k}") for k, question in enumerate(questions, start=1)]
    every = [question for questions in files.values() for question in questions]
    _check_ids(every)
    return every


def _read_file(path: Path) -> list[Question]:
    text = _read_text(path)
    records = _lines(text, path) if ".jsonl" in path.suffixes[-2:] else _paragraphs(text, path)
    contexts: dict[str, str] = {}
    questions = [_question(*record, contexts) for record in records]
    if not questions:
        raise InputError(f"{path}: no questions in it; {EXPECTED}")
    return questions


def _check_ids(questions: list[Question]) -> None:
    known: dict[str, Question] = {}
    for question in questions:
        if (other := known.setdefault(question.id, question)) is not question:
            repeats = len(questions) - len({question.id for question in questions})
            raise InputError(
                f"{question.place}: {other.place} has the same id, and so have {repeats:,} of {len(questions):,} "
                "questions; an id, by which predictions and translations are found, must be one question's own "
                "(`ppa prepare-qa --renumber` makes new ones for training)"
            )


def _read_text(path: Path) -> str:
    unpacked = " when unpacked" if path.suffix in UNPACKERS else ""
    try:
        with UNPACKERS.get(path.suffix, open)(path, "rb") as file:
            text = bytearray()
            while block := file.read(BLOCK):
                text += block
                if len(text) > LARGEST:
                    raise InputError(f"{path}: over {LARGEST:,} bytes{unpacked}, which are read at the most; split it")
            return text.decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path}: {error.strerror}; give a SQuAD-format file, plain, .gz or .xz") from None
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path}: truncated or damaged ({error}); fetch it again") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); {EXPECTED}") from None


def _paragraphs(text: str, path: Path) -> Iterator[tuple[dict, object, str]]:
    """(entry of qas, context, place of the paragraph) of every question."""
    try:
        content = strict_json.loads(text)
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
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            entry = strict_json.loads(line)
        except ValueError as error:
            raise InputError(f"{place}: no JSON ({error}); a .jsonl has one question a line") from None
        if not isinstance(entry, dict):
            raise InputError(f"{place}: no JSON object; a .jsonl has id, context, question and answers in each line")
        answers = entry.get("answers") or {}
        if not isinstance(answers, dict):
            raise InputError(f"{place}: answers is no object; expected its lists text and answer_start")
        texts, starts = (_list(answers, key, place) if answers else [] for key in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise InputError(f"{place}: {len(texts)} answer texts but {len(starts)} starts; mend the line")
        entry["answers"] = [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=True)]
        yield entry, entry.get("context"), place


def _question(entry: object, context: object, place: str, contexts: dict[str, str]) -> Question:
    """The question that an entry is, checked. *contexts*: those seen, so that equal ones are one object."""
    own_id = str(entry.get("id", "")) if isinstance(entry, dict) else ""
    if not own_id.strip() or not own_id.isprintable():  # a line break would break ids.txt
        raise InputError(f"{place}: a question without an id that can be printed ({shown(own_id)}); {EXPECTED}")
    place = f"{place}: question {own_id:.80}"
    for name, text in (("context", context), ("question", entry.get("question"))):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{place}: its {name} is missing or empty; mend it or remove the question")
        if not is_unicode(text):
            raise InputError(f"{place}: its {name} has half a character (a lone surrogate); fetch the file again")
    answers = []
    for answer in _list(entry, "answers", place) if entry.get("answers") else []:
        text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
        if not isinstance(text, str) or type(start) is not int:
            raise InputError(f"{place}: an answer that is no text with an answer_start; {EXPECTED}")
        answers.append((text, start))
    context = contexts.setdefault(context, context)
    return Question(own_id, entry["question"], context, tuple(answers), place)


def _list(holder: object, key: str, place: str) -> list:
    found = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(found, list):
        raise InputError(f"{place}: no list {key!r} in it; {EXPECTED}")
    return found
