"""Labelled sentence pairs (NLI) in the formats they are published in: one row a line, plain, .gz or .xz.

- TSV with a header: XNLI-1.0's xnli.dev.tsv, MultiNLI's and SNLI's .txt, XNLI-MT-1.0's multinli.train.xx.tsv, GLUE's
- TSV without a header: premise, hypothesis, label
- JSON lines: XNLI-1.0's, MultiNLI's and SNLI's .jsonl; Hugging Face's, whose labels are numbers
"""

import csv
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from ppa_fairseq.data.text_files import LANGUAGE, MAX_LINE, LineReader, unpacked_name
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)

LABELS = ("entailment", "neutral", "contradiction")
SYNONYMS = {"contradictory": "contradiction"}  # XNLI-MT-1.0 writes it so
NO_CONSENSUS = "-"  # the annotators agreed on no label: MultiNLI's and SNLI's mark; Hugging Face writes -1
# The publishers' names of a field; the first that is there counts.
NAMES = {
    "premise": ("premise", "sentence1"),
    "hypothesis": ("hypothesis", "hypo", "sentence2"),
    "label": ("gold_label", "label"),
    "language": ("language",),
}
DEFAULT_HEADER = ("premise", "hypothesis", "label")
NEEDED = set(DEFAULT_HEADER)
JSON_ENDINGS = (".jsonl", ".json")
LANGUAGE_AT_END = re.compile(r"(?:^|[-._])([a-z]{2})$")
CSV_CELL = re.compile(r'"(?:[^"]|"")*"')  # as a CSV writer writes a cell that holds a quote
ORDER = (
    "name the class of each number (prepare-xnli: --labels, evaluate-xnli: --data-labels), as in --labels "
    + ",".join(LABELS)
)
QUOTED = "if a CSV writer wrote the file, add --unquote"
SEEMS_CSV = f'quotes are read as text, but every cell that has some is written "like ""this"""; {QUOTED}'


@dataclass(frozen=True)
class NLIExample:
    """One row. The label is one of LABELS, or NO_CONSENSUS."""

    premise: str
    hypothesis: str
    label: str
    place: str  # file:line, for messages
    pair_id: str | None = None  # the same in every language


@dataclass
class NLIFile:
    """One file, read row by row in constant memory. Iterating yields (language, example); sentences may be empty.

    Iterating raises InputError, which names file and line, if the file or a row of it cannot be read.

    Attributes:
        language: of the text; in a file that names its languages, the only one to read. None: the rows say it, or the
            file's name (`language_of`).
        label_order: the class of label 0, of 1 and of 2. None: refuse numbers, as publishers number differently.
        unquote: read TSV as a CSV writer writes it, with cells in quotes. Else a quote is text.
    """

    path: Path
    language: str | None = None
    label_order: Sequence[str] | None = None
    unquote: bool = False

    def __post_init__(self):
        self.path = Path(self.path)
        self.is_json = unpacked_name(self.path).suffix in JSON_ENDINGS
        self.seems_csv = False  # set at the end of a file whose cells with a quote are all "like ""this"""
        self._reader = LineReader(self.path)

    @property
    def position(self) -> int:
        """Bytes read so far, as they lie on the disk."""
        return self._reader.position

    @property
    def names_languages(self) -> bool:
        """Whether the rows say their language."""
        return any("language" in _fields(record) for _, record in islice(self._records(), 1))

    def __iter__(self) -> Iterator[tuple[str, NLIExample]]:
        fields, has_rows, from_numbers = {}, False, set()
        for where, record in self._records():
            fields = fields or _fields(record)
            language = str(record.get("language", "")).strip() or self.language or language_of(self.path)
            if not LANGUAGE.fullmatch(language):
                raise InputError(f"{where}: {language!r} in the column language is not a language code; correct it")
            if self.language not in (None, language):
                continue
            has_rows = True
            premise, hypothesis = (record.get(fields.get(field)) for field in ("premise", "hypothesis"))
            if not isinstance(premise, str) or not isinstance(hypothesis, str):
                raise InputError(f"{where}: no text for the premise or the hypothesis; correct the line")
            label = self._label(str(record.get(fields.get("label"), "")).strip().lower(), where, from_numbers)
            pair_id = str(record.get("pairID") or "").strip() or None
            yield language, NLIExample(premise.strip(), hypothesis.strip(), label, where, pair_id)
        if not has_rows:
            of_language = f" of language {self.language}" if self.language else ""
            raise InputError(f"{self.path}: no row{of_language} in it; name another file or fetch it again")
        if from_numbers and len(from_numbers) < len(LABELS):
            raise InputError(
                f"{self.path}: its label numbers stand only for {' and '.join(sorted(from_numbers))}, but the task has "
                "three classes; data of two classes, such as PAWS-X, is another task: give data of all three"
            )

    def _label(self, label: str, where: str, from_numbers: set[str]) -> str:
        if label == "-1":
            return NO_CONSENSUS
        if label.isdecimal():
            if self.label_order is None:
                raise InputError(f"{where}: the label {label} is a number, and publishers number differently; {ORDER}")
            if int(label) < len(self.label_order):
                from_numbers.add(self.label_order[int(label)])
                return self.label_order[int(label)]
        name = SYNONYMS.get(label, label)
        if name not in (*LABELS, NO_CONSENSUS):
            advice = f"; {QUOTED}" if label.startswith('"') else ""
            expected = f"expected {', '.join(LABELS)}, or {NO_CONSENSUS} for none{advice}"
            raise InputError(f"{where}: unknown label {label[:80]!r}; {expected}")
        return name

    def _records(self) -> Iterator[tuple[str, dict]]:
        """Yield place and fields of every row; skip empty lines."""
        header: Sequence[str] = ()
        for number, row in self._rows():
            where = f"{self.path}:{number}"
            if self.is_json:
                yield where, _parse_json(row, where)
                continue
            if not header:
                header = [cell.strip() for cell in row]
                if not (lacking := NEEDED - _fields(header).keys()):
                    continue
                if len(row) != len(DEFAULT_HEADER):
                    names = "; ".join(" or ".join(NAMES[field]) for field in DEFAULT_HEADER if field in lacking)
                    raise InputError(
                        f"{where}: {len(row)} tab-separated columns, and none named {names}; give a TSV with such a "
                        "header, one of three columns (premise, hypothesis, label), or JSON lines named *.jsonl"
                    )
                header = DEFAULT_HEADER
            if len(row) != len(header):
                advice = QUOTED if any('"' in cell for cell in row) else "correct the line or fetch the file again"
                raise InputError(
                    f"{where}: {len(row)} tab-separated columns, but {len(header)} in the first line; {advice}"
                )
            yield where, dict(zip(header, row, strict=True))

    def _rows(self) -> Iterator[tuple[int, str | list[str]]]:
        """Yield the number of every line that is not empty, and its text (JSON) or its cells (TSV)."""
        if self.is_json:
            yield from ((number, line) for number, line in self._lines() if line)
            return
        if self.unquote:
            rows = csv.reader((f"{line}\n" for _, line in self._lines()), delimiter="\t", strict=True)
            try:
                yield from ((rows.line_num, cells) for cells in rows if cells)
            except csv.Error as error:
                fault = f"not as a CSV writer writes it ({error}); leave --unquote out"
                raise InputError(f"{self.path}:{rows.line_num}: {fault}") from None
            return
        all_csv, any_doubled = True, False
        for number, line in self._lines():
            cells = line.split("\t")
            for cell in cells if '"' in line else ():
                all_csv &= '"' not in cell or bool(CSV_CELL.fullmatch(cell))
                any_doubled |= '""' in cell[1:-1]
            if line:
                yield number, cells
        self.seems_csv = all_csv and any_doubled

    def _lines(self) -> Iterator[tuple[int, str]]:
        lines = iter(self._reader)
        head = list(islice(lines, 2))
        if len(head) == 1 and b"\r" in head[0][:-1]:
            raise InputError(f"{self.path}: its lines end in CR alone; convert it, as by tr '\\r' '\\n'")
        for number, line in enumerate(chain(head, lines), start=1):
            if len(line) > MAX_LINE:
                raise InputError(f"{self.path}:{number}: a line of over {MAX_LINE} bytes; give one pair a line")
            try:
                yield number, line.decode().removesuffix("\r")
            except UnicodeDecodeError as error:
                advice = "convert it, as by iconv -f LATIN1 -t UTF-8 if it is Latin-1"
                raise InputError(f"{self.path}:{number}: not UTF-8 ({error}); {advice}") from None


def read_nli(
    path: str | Path, language: str | None = None, label_order: Sequence[str] | None = None, unquote: bool = False
) -> dict[str, list[NLIExample]]:
    """Read the labelled examples of one file by language, in the file's order; arguments as those of `NLIFile`.

    Leave out rows without consensus, with a warning that counts them. Raises InputError as `NLIFile` does, and on an
    empty premise or hypothesis: no row of a benchmark may vanish.
    """
    examples: dict[str, list[NLIExample]] = {}
    left_out = 0
    file = NLIFile(Path(path), language, label_order, unquote)
    for row_language, example in file:
        if example.label == NO_CONSENSUS:
            left_out += 1
            continue
        if not (example.premise and example.hypothesis):
            field = "hypothesis" if example.premise else "premise"
            raise InputError(f"{example.place}: empty {field}; correct the line or remove it in every language")
        examples.setdefault(row_language, []).append(example)
    if file.seems_csv:
        logger.warning(f"{path}: {SEEMS_CSV}")
    if left_out:
        logger.warning(f"{path}: {left_out:,} rows without a label ({NO_CONSENSUS}: no consensus) are left out")
    if not examples:
        raise InputError(f"{path}: no row with a label in it; name another file")
    return examples


def language_of(path: Path) -> str:
    """Return the language in a file's name, two letters at its end: fr of dev-fr.tsv and multinli.train.fr.tsv.gz.

    Raises InputError if there is none.
    """
    if match := LANGUAGE_AT_END.search(unpacked_name(path).stem):
        return match[1]
    raise InputError(f"{path}: neither its rows nor its name (as in dev-fr.tsv) say the language; write fr={path.name}")


def _fields(names: Iterable[str]) -> dict[str, str]:
    """Map our names of the fields to the publisher's, for those that are there."""
    found = {field: [name for name in known if name in names] for field, known in NAMES.items()}
    return {field: known[0] for field, known in found.items() if known}


def _parse_json(line: str, where: str) -> dict:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); each line must be an object of its own") from None
    if not isinstance(record, dict):
        raise InputError(f"{where}: not a JSON object; each line must be an object of its own")
    return record
