"""Sets of questions for evaluation: find them, with the languages and the metric that their names imply."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ppa_fairseq.data.qa.squad import Question, read_squad
from ppa_fairseq.data.text_files import LANGUAGE, LANGUAGE_AT_END
from ppa_fairseq.evaluation.question_answering.metrics import Words, words_of
from ppa_fairseq.utils.errors import InputError

QA_FILE = re.compile(r"(?P<name>[^.].*)\.jsonl?(\.gz|\.xz)?")
MLQA_NAME = re.compile(rf"(?P<group>.+)-context-(?P<context>{LANGUAGE.pattern})-question-(?P<asked>{LANGUAGE.pattern})")
SOURCE = re.compile(rf"({LANGUAGE.pattern})=(.+)")


@dataclass(frozen=True)
class QuestionSet:
    """A file of questions; `context` and `asked` are the languages of its contexts and questions, None if unknown."""

    name: str  # of the file, without .json: "dev-context-ar-question-de", "xquad.de"
    group: str  # what it is averaged with: "mlqa-dev", "xquad"
    context: str | None
    asked: str | None
    metric: str
    path: Path

    @property
    def words(self) -> Words:
        """How the metric splits answers."""
        return words_of(self.metric, self.context)

    def read(self, renumber: bool) -> list[Question]:
        """The questions. Raises InputError as `read_squad` does, or if a question has no answer."""
        questions = read_squad(self.path, renumber=renumber)
        for question in questions:
            if not question.answers:
                raise InputError(f"{question.place}: no answer to compare a prediction with; remove the question")
        return questions


def find_question_sets(paths: Iterable[str], metric: str | None = None) -> list[QuestionSet]:
    """Sets among files, LANG=FILE and folders. Those in a folder come sorted by name, without training files.

    MLQA's names (dev-context-ar-question-de.json) contain both languages, others one (xquad.de.json) or none. `metric`
    applies to all sets; default: MLQA's for MLQA's names, SQuAD's for others.

    Raises:
        InputError: a path does not exist, a folder has no sets, two sets have the same name, the metric does not define
            a language.
    """
    found: dict[str, QuestionSet] = {}
    for text in paths:
        path, language = Path(text), None
        if not path.exists() and (match := SOURCE.fullmatch(text)):
            language, path = match[1], Path(match[2])
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        for file in files_in(path) if path.is_dir() else [path]:
            new = question_set(file, language, metric)
            try:
                words_of(new.metric, new.context)
            except InputError as error:
                raise InputError(f"{file}: {error}") from None
            known = found.setdefault(new.name, new)
            if known is not new:
                raise InputError(f"{file}: {known.path} has the name {new.name}, too; measure one at a time")
    return list(found.values())


def files_in(folder: Path) -> list[Path]:
    files = [path for path in sorted(folder.iterdir()) if QA_FILE.fullmatch(path.name)]
    files = [path for path in files if "train" not in path.name.split(".")]
    if not files:
        raise InputError(f"{folder}: no .json or .jsonl in this folder (*.train.* is ignored)")
    return files


def question_set(path: Path, language: str | None, metric: str | None) -> QuestionSet:
    """The set in `path`; `language`, if given, replaces the languages in its name."""
    match = QA_FILE.fullmatch(path.name)
    name = match["name"] if match else path.name
    if language is None and (match := MLQA_NAME.fullmatch(name)):
        return QuestionSet(name, f"mlqa-{match['group']}", match["context"], match["asked"], metric or "mlqa", path)
    parts = name.split(".")
    codes = [part for part in parts if LANGUAGE_AT_END.fullmatch(part)]
    if len(codes) == 1:
        parts.remove(codes[0])
        language = language or codes[0]
    return QuestionSet(name, ".".join(parts) or name, language, language, metric or "squad", path)
