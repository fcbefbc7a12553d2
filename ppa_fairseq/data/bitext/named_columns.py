"""Sentence pairs from files whose columns have names: JSON lines, Parquet, folders that `datasets` loads."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ppa_fairseq.data.bitext.row import Column, Columns, Progress, Row, on_one_line
from ppa_fairseq.data.packed import File
from ppa_fairseq.data.text_files import JSON_ARRAY, MAX_LINE, LineReader, is_unicode
from ppa_fairseq.utils.errors import InputError, quote
from ppa_fairseq.utils.extras import load_extra

ENGLISH = ("english", "non_english")  # of sentence-transformers' data sets
ORDERED = (("source", "target"), ("src", "tgt"), ("sentence1", "sentence2"), ("text1", "text2"), ("anchor", "positive"))
ROWS = 4096  # read at once


@dataclass(frozen=True)
class Choice:
    """What to read of a file with named columns."""

    languages: tuple[str, str]
    columns: Columns | None  # places are those of a TSV; then, and without any, choose by the languages
    score: Column | None
    swapped: bool  # the file's own order is the other way round

    def names(self, path: object, known: Sequence[str]) -> list[str]:
        """The columns of the two languages, and of the score if there is one, among those *known*.

        Raises InputError if they are not there.
        """
        named = self.columns and isinstance(self.columns[0], str)
        names = list((self.columns if named else self._by_language(known)) or [])
        if isinstance(self.score, int):
            raise InputError(f"{path}: its columns have names ({', '.join(known)}); --score-column needs one of them")
        names += [] if self.score is None or not names else [self.score]
        if missing := [name for name in names if name not in known] or not names:
            fault = f"no column {missing[0]}" if names else f"no columns for {' and '.join(self.languages)}"
            listed = ", ".join(known) or "none"
            raise InputError(f"{path}: {fault}; it has {listed}; --columns names the two languages, as in en,de")
        return names

    def _by_language(self, known: Sequence[str]) -> tuple[str, str] | None:
        found = [next((name for name in known if _is_of(name, language)), None) for language in self.languages]
        if None not in found and found[0] != found[1]:
            return found[0], found[1]
        english = [language.split("_")[0] in ("en", "eng") for language in self.languages]
        if set(ENGLISH) <= set(known) and sum(english) == 1:
            return ENGLISH if english[0] else ENGLISH[::-1]
        ordered = next((names for names in ORDERED if set(names) <= set(known)), None)
        return ordered[::-1] if ordered and self.swapped else ordered


def _is_of(name: str, language: str) -> bool:
    """Whether a column's name is that of the language, or ends in it: de, translation.de, sentence_deu_Latn."""
    normal, code = (text.replace("-", "_").lower() for text in (name, language))
    return normal == code or bool(re.search(rf"[._]{re.escape(code)}$", normal))


def json_rows(reader: LineReader, choice: Choice) -> Iterator[Row]:
    """A row for each JSON object, one a line. Raises InputError if the first line has no such columns."""
    names: list[str] = []
    for number, line in enumerate(reader, 1):
        where = f"{reader.path}:{number}"
        if len(line) > MAX_LINE:
            yield Row(broken="long", where=f"{where}: a line of over {MAX_LINE} bytes")
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            if number == 1 and line.lstrip().startswith(b"["):
                raise InputError(f"{reader.path}: is {JSON_ARRAY}")
            yield Row(broken="format", where=f"{where}: no JSON object")
            continue
        names = names or choice.names(reader.path, list(_flat_names(record)))
        cells = [_value(record, name) for name in names]
        if fault := _fault(names, cells):
            yield Row(broken="format", where=f"{where}: {fault}")
        else:
            yield _row(cells, where)


def parquet_rows(path: File, choice: Choice, progress: Progress) -> Iterator[Row]:
    """The rows of a Parquet file. Raises InputError if it is damaged or has no such columns of text."""
    parquet = load_extra("pyarrow.parquet", "sources", path)
    arrow = load_extra("pyarrow", "sources", path)
    if not isinstance(path, Path):
        raise InputError(f"{path}: cannot read Parquet in an archive; unpack it")

    def tables() -> Iterator:
        with parquet.ParquetFile(path) as file:
            known = [name for field in file.schema_arrow for name in _arrow_names(arrow, field)]
            columns, rows = choice.names(path, known), 0
            for batch in file.iter_batches(ROWS, columns=columns):
                rows += len(batch)
                progress.position = path.stat().st_size * rows // file.metadata.num_rows
                yield arrow.Table.from_batches([batch])

    try:
        yield from _arrow_rows(arrow, tables(), path, choice)
    except arrow.ArrowException as error:
        raise InputError(f"{path}: no Parquet, or damaged ({_first_line(error)}); download it again") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{path}: truncated or damaged ({_first_line(error)}); download it again") from None


def is_dataset(folder: Path) -> bool:
    """Whether `datasets` saved the folder, by `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def dataset_rows(folder: Path, choice: Choice) -> Iterator[Row]:
    """The rows of a local folder that `datasets` loads: its training split, or its only one; none of its code runs."""
    datasets = load_extra("datasets", "sources", folder)
    arrow = load_extra("pyarrow", "sources", folder)
    try:
        if is_dataset(folder):
            splits = datasets.load_from_disk(str(folder))
        else:
            splits = datasets.load_dataset(str(folder), streaming=True)
    except Exception as error:  # of any library below it
        raise InputError(f"{folder}: is a folder that `datasets` cannot load ({_first_line(error)})") from None
    if isinstance(splits, dict) and "train" not in splits and len(splits) != 1:
        raise InputError(f"{folder}: no split train; it has {', '.join(splits)}; save the one to use alone")
    rows = splits.get("train", next(iter(splits.values()))) if isinstance(splits, dict) else splits
    yield from _arrow_rows(arrow, rows.with_format("arrow").iter(ROWS), folder, choice)


def _arrow_rows(arrow, tables: Iterator, path: object, choice: Choice) -> Iterator[Row]:
    names, number = [], 0
    for table in tables:
        table = table.flatten()
        names = names or choice.names(path, table.column_names)
        for name in names[:2]:
            if not _is_text(arrow, table.schema.field(name).type):
                raise InputError(f"{path}: its column {name} holds {table.schema.field(name).type}, not text")
        for cells in zip(*(table[name].to_pylist() for name in names), strict=True):
            number += 1
            yield _row(cells, f"{path}: row {number}")


def _is_text(arrow, kind) -> bool:
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    return any(test(kind) for test in (arrow.types.is_string, arrow.types.is_large_string, arrow.types.is_null))


def _arrow_names(arrow, field) -> list[str]:
    """A column's name, or those in it: translation.de, translation.en."""
    return [f"{field.name}.{inner.name}" for inner in field.type] if arrow.types.is_struct(field.type) else [field.name]


def _row(cells: Sequence, where: str) -> Row:
    first, second = (on_one_line(cell or "") for cell in cells[:2])
    if not is_unicode(first) or not is_unicode(second):
        return Row(broken="encoding", where=f"{where}: half a character (a lone surrogate)")
    if len(first) + len(second) > MAX_LINE:
        return Row(broken="long", where=f"{where}: over {MAX_LINE} characters")
    return Row(first, second, score="" if len(cells) == 2 or cells[2] is None else str(cells[2]))


def _flat_names(record: dict) -> Iterator[str]:
    return chain.from_iterable(
        [f"{name}.{inner}" for inner in value] if isinstance(value, dict) else [name] for name, value in record.items()
    )


def _value(record: dict, name: str) -> object:
    outer, _, inner = name.partition(".")
    value = record.get(outer)
    return record[name] if name in record else value.get(inner) if isinstance(value, dict) else None


def _fault(names: list[str], cells: list) -> str | None:
    """What is wrong with the texts of a record."""
    for name, cell in zip(names[:2], cells[:2], strict=True):
        if cell is not None and not isinstance(cell, str):
            return f"its {name} is {quote(cell)}, not text"
    return None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
