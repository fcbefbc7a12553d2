"""Labelled sentence pairs (NLI) in the formats they are published in: one row a line, plain, .gz or .xz.

- TSV with a header, and no quoting: XNLI-1.0's xnli.dev.tsv, MultiNLI's and SNLI's .txt, XNLI-MT-1.0's
  multinli.train.xx.tsv, GLUE's
- TSV without a header: premise, hypothesis, label
- JSON lines: XNLI-1.0's, MultiNLI's and SNLI's .jsonl; Hugging Face's, where the label is its number
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ppa_fairseq.data.bitext.reader import LANGUAGE, MAX_LINE, LineReader, is_unicode, unpacked_name
from ppa_fairseq.utils import strict_json
from ppa_fairseq.utils.errors import InputError, shown

logger = logging.getLogger(__name__)

LABELS = ("entailment", "neutral", "contradiction")
SYNONYMS = {"contradictory": "contradiction"}  # XNLI-MT-1.0 writes it so
NO_CONSENSUS = "-"  # the annotators agreed on no label: MultiNLI's and SNLI's mark; Hugging Face writes -1
# What a field is called, by its publishers; the first that is there counts.
NAMES = {
    "premise": ("premise", "sentence1"),
    "hypothesis": ("hypothesis", "hypo", "sentence2"),
    "label": ("gold_label", "label"),
    "language": ("language",),
    "pair_id": ("pairID",),
}
NEEDED = ("premise", "hypothesis", "label")
JSON_ENDINGS = (".jsonl", ".json")
LANGUAGE_AT_END = re.compile(r"(?:^|[-._])([a-z]{2})$")


@dataclass(frozen=True)
class NLIExample:
    """One row. The label is one of the reader's labels, or NO_CONSENSUS where `NLIFile` gives the row."""

    premise: str
    hypothesis: str
    label: str
    place: str  # file:line, for messages
    pair_id: str | None = None  # the same in every language


@dataclass
class NLIFile:
    """One file, read row by row in constant memory: iterating gives (language, example), rows as they stand.

    *language*: whose text it is, or of a file that names its languages the one to read. Without it the file's
    name tells (`language_of`). Sentences come stripped and may be empty.

    Iterating raises InputError, which names file and line, on a missing or damaged file, another format, a line
    that is not UTF-8, another number of columns, an unknown label or language.
    """

    path: Path
    language: str | None = None
    labels: Sequence[str] = LABELS

    def __post_init__(self):
        self.path = Path(self.path)
        self.is_json = unpacked_name(self.path).suffix in JSON_ENDINGS
        self._reader = LineReader(self.path)

    @property
    def position(self) -> int:
        """Bytes read, as they lie on the disk."""
        return self._reader.position

    @property
    def names_languages(self) -> bool:
        """Does every row say its language?"""
        for _, record in self._records():
            return _find("language", record) is not None
        return False

    def __iter__(self) -> Iterator[tuple[str, NLIExample]]:
        names = _label_names(self.labels)
        fields: dict[str, str | None] = {}
        has_rows = False
        for number, record in self._records():
            if not fields:
                fields = {field: _find(field, record) for field in NAMES}
                of_file = None if fields["language"] else self.language or language_of(self.path)
            where = f"{self.path}:{number}"
            language = of_file or _language(record, where)
            if of_file is None and self.language not in (None, language):
                continue
            has_rows = True
            premise, hypothesis = (_text(record, fields[field], field, where) for field in ("premise", "hypothesis"))
            label = self._label(record, fields["label"], names, where)
            yield language, NLIExample(premise, hypothesis, label, where, _pair_id(record, fields["pair_id"]))
        if not has_rows:
            wanted = f" of language {self.language}" if self.language else ""
            raise InputError(f"{self.path}: no row{wanted} in it; name another file or fetch it again")

    def _label(self, record: dict, field: str | None, names: dict, where: str) -> str:
        label = record.get(field)
        key = label.strip().lower() if isinstance(label, str) else label
        if isinstance(key, (str, int)) and not isinstance(key, bool) and key in names:
            return names[key]
        expected = ", ".join(self.labels)
        fault = "no label" if field is None or field not in record else f"unknown label {shown(label)}"
        raise InputError(f"{where}: {fault}; it must be one of {expected}, or {NO_CONSENSUS} for none")

    def _records(self) -> Iterator[tuple[int, dict]]:
        """Number and fields of every row. Empty lines are none."""
        lines = self._lines()
        if self.is_json:
            for number, line in lines:
                yield number, _parse_json(line, f"{self.path}:{number}")
            return
        header: list[str] = []
        for number, line in lines:
            cells = line.split("\t")
            if not header:
                header = [cell.strip() for cell in cells]
                if all(_find(field, header) for field in NEEDED):
                    continue
                header = self._default_header(cells)
            if len(cells) != len(header):
                raise InputError(
                    f"{self.path}:{number}: {len(cells)} tab-separated columns, not {len(header)} as the first line; "
                    "a tab too few or too many: correct the line or fetch the file again"
                )
            yield number, dict(zip(header, cells, strict=True))

    def _default_header(self, first: list[str]) -> list[str]:
        if len(first) != len(NEEDED):
            lacking = "; ".join(" or ".join(NAMES[field]) for field in NEEDED if not _find(field, first))
            raise InputError(
                f"{self.path}:1: {len(first)} tab-separated columns, and none named {lacking}; give a TSV with such a "
                "header, one of three columns (premise, hypothesis, label), or JSON lines named *.jsonl"
            )
        return list(NEEDED)

    def _lines(self) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(self._reader, start=1):
            if len(line) > MAX_LINE:
                raise InputError(f"{self.path}:{number}: a line of over {MAX_LINE} bytes; that is no sentence pair")
            try:
                text = line.decode().removesuffix("\r")
            except UnicodeDecodeError as error:
                raise InputError(f"{self.path}:{number}: not UTF-8 ({error}); convert it or fetch it again") from None
            if text:
                yield number, text


def read_nli(
    path: str | Path, language: str | None = None, labels: Sequence[str] = LABELS
) -> dict[str, list[NLIExample]]:
    """The examples of one file by language, in the file's order; label ids are positions in *labels*.

    Rows without consensus are left out with a warning that counts them. Raises InputError as `NLIFile` does, and
    on an empty premise or hypothesis: a benchmark's rows must not vanish.
    """
    examples: dict[str, list[NLIExample]] = {}
    left_out = 0
    for row_language, example in NLIFile(Path(path), language, labels):
        if example.label == NO_CONSENSUS:
            left_out += 1
            continue
        for field in ("premise", "hypothesis"):
            if not getattr(example, field):
                raise InputError(f"{example.place}: empty {field}; correct the line or remove it in every language")
        examples.setdefault(row_language, []).append(example)
    if left_out:
        logger.warning(f"{path}: {left_out:,} rows without a label ({NO_CONSENSUS}: no consensus) are left out")
    if not examples:
        raise InputError(f"{path}: no row with a label in it; name another file")
    return examples


def language_of(path: Path) -> str:
    """The language in a file's name, two letters at its end: fr of dev-fr.tsv and of multinli.train.fr.tsv.gz.

    Raises InputError if there is none.
    """
    match = LANGUAGE_AT_END.search(unpacked_name(path).stem)
    if not match:
        raise InputError(
            f"{path}: neither its rows nor its name (as dev-fr.tsv) say the language; write fr={path.name}"
        )
    return match[1]


def _find(field: str, names: Iterable[str]) -> str | None:
    return next((name for name in NAMES[field] if name in names), None)


def _label_names(labels: Sequence[str]) -> dict[str | int, str]:
    """All that stands for a label: its name, its number (in JSON), what others call it."""
    names: dict[str | int, str] = {name.lower(): name for name in labels}
    names |= {other: names[name] for other, name in SYNONYMS.items() if name in names and other not in names}
    return names | dict(enumerate(labels)) | {NO_CONSENSUS: NO_CONSENSUS, -1: NO_CONSENSUS}


def _text(record: dict, name: str | None, field: str, where: str) -> str:
    text = record.get(name)
    if not isinstance(text, str):
        fault = f"no {' or '.join(NAMES[field])}" if name is None or name not in record else f"{name} is no text"
        raise InputError(f"{where}: {fault}; every row needs a {field}")
    if not is_unicode(text):
        raise InputError(f"{where}: {name} has half a character (a lone surrogate); fetch the file again")
    return text.strip()


def _pair_id(record: dict, name: str | None) -> str | None:
    pair_id = record.get(name)
    return None if pair_id is None else str(pair_id).strip() or None


def _language(record: dict, where: str) -> str:
    language = str(record.get("language", "")).strip()
    if not LANGUAGE.fullmatch(language):
        raise InputError(f"{where}: {shown(language)} in the column language is no language code; correct the line")
    return language


def _parse_json(line: str, where: str) -> dict:
    try:
        record = strict_json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: no JSON ({error}); each line must be an object of its own") from None
    if not isinstance(record, dict):
        raise InputError(f"{where}: no JSON object; each line must be an object of its own")
    return record
