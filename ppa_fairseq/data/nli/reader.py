"""Labelled sentence pairs (NLI) in the formats they are published in: one row a line, plain, .gz, .xz, .bz2 or .zst.

- TSV with a header: XNLI-1.0's xnli.dev.tsv, MultiNLI's and SNLI's .txt, XNLI-MT-1.0's multinli.train.xx.tsv, GLUE's
- TSV without a header: premise, hypothesis, label
- JSON lines: XNLI-1.0's, MultiNLI's and SNLI's .jsonl; Hugging Face's, whose labels are numbers
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ppa_fairseq.data.packed import unpacked_name
from ppa_fairseq.data.text_files import (
    JSON_ARRAY,
    LANGUAGE,
    LANGUAGE_AT_END,
    numbered_lines,
    seems_csv,
    unquote,
)
from ppa_fairseq.utils.errors import InputError, quote

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
ORDER = f"name the classes of 0, 1, 2, as in --labels {','.join(LABELS)} (`ppa evaluate-xnli`: --data-labels)"
HEAD = 10_000  # lines that tell whether a CSV writer wrote a file


@dataclass(frozen=True)
class NLIExample:
    """One row. The label is one of LABELS, or NO_CONSENSUS."""

    premise: str
    hypothesis: str
    label: str
    place: str  # file:line, for messages
    pair_id: str | None = None  # the same in every language

    @property
    def parts(self) -> tuple[str, str]:
        return self.premise, self.hypothesis


@dataclass(frozen=True)
class NLIFile:
    """One file, read row by row in constant memory. Iterating yields (language, example); sentences may be empty.

    Iterating raises InputError, which names file and line, if a row cannot be read.

    Attributes:
        language: of the text; in a file that names its languages, the only one to read. None: the rows say it, or the
            file's name (`language_of`).
        label_order: the class of label 0, of 1 and of 2. None: refuse numbers, as publishers number differently.
        unquote: take off the quotes of a CSV writer. Else a quote is text.
    """

    path: Path
    language: str | None = None
    label_order: Sequence[str] | None = None
    unquote: bool = False

    @property
    def names_languages(self) -> bool:
        """Whether the rows say their language."""
        return any("language" in _fields(record) for _, record in islice(self._records(), 1))

    @property
    def seems_csv(self) -> bool:
        """Whether a CSV writer wrote the cells, by its first lines."""
        lines = islice(() if self._is_json else numbered_lines(self.path), HEAD)
        return seems_csv(cell for _, line in lines for cell in line.split("\t"))

    @property
    def _is_json(self) -> bool:
        return unpacked_name(self.path).suffix in (".jsonl", ".json")

    def __iter__(self) -> Iterator[tuple[str, NLIExample]]:
        fields, has_rows, numbers = {}, False, set()
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
                found = f"its fields are {', '.join(map(str, record)) or 'none'}"
                raise InputError(f"{where}: no text for the premise or the hypothesis ({found}); name them so")
            label = str(record.get(fields.get("label"), "")).strip().lower()
            if label.isdecimal():
                numbers.add(int(label))
            label = self._label(label, where)
            pair_id = str(record.get("pairID") or "").strip() or None
            yield language, NLIExample(premise.strip(), hypothesis.strip(), label, where, pair_id)
        if not has_rows:
            of_language = f" of language {self.language}" if self.language else ""
            raise InputError(f"{self.path}: no row{of_language} in it; name another file or fetch it again")
        if numbers and len(numbers) < len(LABELS):  # PAWS-X, QNLI, ...
            raise InputError(
                f"{self.path}: its only label numbers are {', '.join(map(str, sorted(numbers)))}, but NLI has "
                f"{len(LABELS)} classes; give NLI of all three"
            )

    def _label(self, label: str, where: str) -> str:
        if label == "-1":
            return NO_CONSENSUS
        if label.isdecimal() and self.label_order is None:
            raise InputError(f"{where}: the label {label} is a number, and publishers number differently; {ORDER}")
        if label.isdecimal() and int(label) < len(self.label_order):
            return self.label_order[int(label)]
        name = SYNONYMS.get(label, label)
        if name not in (*LABELS, NO_CONSENSUS):
            expected = f"expected {', '.join(LABELS)}, or {NO_CONSENSUS} for no consensus"
            advice = "read the file with --unquote" if label.startswith('"') else "correct the line or give other data"
            raise InputError(f"{where}: unknown label {quote(label)}; {expected}; {advice}")
        return name

    def _records(self) -> Iterator[tuple[str, dict]]:
        """Yield place and fields of every row."""
        header: Sequence[str] = ()
        is_json = self._is_json
        for where, line in numbered_lines(self.path):
            if not line:
                continue
            if is_json:
                try:
                    record = json.loads(line)
                except ValueError:
                    record = None
                if not isinstance(record, dict):
                    fault = JSON_ARRAY if line.lstrip().startswith("[") else "not a JSON object; give one a line"
                    raise InputError(f"{where}: {fault}")
                yield where, record
                continue
            cells = line.split("\t")
            if self.unquote and '"' in line:
                cells = list(map(unquote, cells))
            if not header:
                header = [cell.strip() for cell in cells]
                if set(DEFAULT_HEADER) <= _fields(header).keys():
                    continue
                if len(cells) != len(DEFAULT_HEADER):
                    raise InputError(
                        f"{where}: {len(cells)} tab-separated columns, not named premise, hypothesis and label; give a "
                        "TSV with such a header, one of these three columns, or JSON lines named *.jsonl"
                    )
                header = DEFAULT_HEADER
            if len(cells) != len(header):
                columns = f"{len(cells)} tab-separated columns, but {len(header)} in the first line"
                raise InputError(f"{where}: {columns}; correct the line or fetch the file again")
            yield where, dict(zip(header, cells, strict=True))


def language_of(path: Path) -> str:
    """Return the language at the end of a file's name: fr of dev-fr.tsv and multinli.train.fr.tsv.gz.

    Raises InputError if there is none.
    """
    if match := LANGUAGE_AT_END.search(unpacked_name(path).stem):
        return match[1].replace("-", "_")
    raise InputError(f"{path}: neither its rows nor its name (as in dev-fr.tsv) say the language; write fr={path.name}")


def _fields(names: Iterable[str]) -> dict[str, str]:
    """Map our names of the fields to the publisher's, for those that are there."""
    found = {field: [name for name in known if name in names] for field, known in NAMES.items()}
    return {field: known[0] for field, known in found.items() if known}
