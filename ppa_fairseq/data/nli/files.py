"""Files of NLI by language, and the rows of several languages side by side."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from operator import itemgetter
from pathlib import Path

from ppa_fairseq.data.nli.reader import LABELS, NO_CONSENSUS, NLIExample, NLIFile, language_of
from ppa_fairseq.data.text_files import AS_CSV, LANGUAGE
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)

NLI_NAME = re.compile(r"[^.].*\.(tsv|jsonl|json)(\.gz|\.xz)?")
FEW = 20  # rows, below which a class may be absent by chance
SOURCE = re.compile(rf"({LANGUAGE.pattern})=(.+)")
PARALLEL = "give files whose rows are translations of each other"


def find_nli(
    paths: Iterable[str | Path], label_order: Sequence[str] | None = None, unquote: bool = False
) -> dict[str, list[NLIExample]]:
    """Read the labelled examples of several files by language; *paths* as in `nli_files`.

    Leave out rows without consensus, with a warning that counts them. Raises InputError as `by_language` does, and on
    an empty premise or hypothesis: no row of a benchmark may vanish.
    """
    found = {}
    for language, rows in by_language(nli_files(paths, label_order, unquote)).items():
        rows = list(rows)
        found[language] = labelled = [row for row in rows if row.label != NO_CONSENSUS]
        for row in labelled:
            if not (row.premise and row.hypothesis):
                field = "hypothesis" if row.premise else "premise"
                raise InputError(f"{row.place}: empty {field}; correct the line or remove it in every language")
        if not labelled:
            raise InputError(f"{rows[0].place}: no row of {language} has a label; name another file")
        missing = set(LABELS) - {row.label for row in labelled}
        if missing and len(labelled) >= FEW:
            logger.warning(f"{language}: no row is {' or '.join(sorted(missing))}; is this data for two classes?")
        if left_out := len(rows) - len(labelled):
            logger.warning(f"{language}: {left_out:,} rows without a label ({NO_CONSENSUS}: no consensus) are left out")
    return found


def nli_files(
    sources: Iterable[str | Path], label_order: Sequence[str] | None = None, unquote: bool = False
) -> list[NLIFile]:
    """Return the files that *sources* name: files, folders, or one of them with its language, as in `fr=PATH`.

    Warn once of files that a CSV writer wrote, unless *unquote* reads them so. Raises InputError if there is no file.
    """
    named = named_files(sources, NLI_NAME, "no .tsv, .jsonl or .json in this folder, plain or packed")
    files = [NLIFile(path, language, label_order, unquote) for language, path in named]
    if quoted := [] if unquote else [str(file.path) for file in files if file.seems_csv]:
        names = quoted[0] + (f" and {len(quoted) - 1} more" if len(quoted) > 1 else "")
        logger.warning(f"{names}: {AS_CSV}")
    return files


def named_files(sources: Iterable[str | Path], names: re.Pattern, none: str) -> Iterator[tuple[str | None, Path]]:
    """Yield the files that *sources* name, with their language where a source names it.

    A folder stands for its files of these *names*. Raises InputError, for a folder saying *none*, if there is no file.
    """
    for source in sources:
        match = SOURCE.fullmatch(str(source))
        language, path = (match[1], Path(match[2])) if match and not Path(source).exists() else (None, Path(source))
        if not path.exists():
            raise InputError(f"{path}: no such file; name files or folders, as in dev-fr.tsv or fr=dev.tsv")
        paths = [path]
        if path.is_dir():
            paths = sorted(file for file in path.iterdir() if file.is_file() and names.fullmatch(file.name))
            if not paths:
                raise InputError(f"{path}: {none}; name the files")
        yield from ((language, file) for file in paths)


def by_language(files: Iterable[NLIFile]) -> dict[str, Iterator[NLIExample]]:
    """Return iterators over the examples by language.

    Files that a user gave one language follow one another. Raises InputError if others have the same language.
    """
    parts: dict[str, list[Iterable[NLIExample]]] = defaultdict(list)
    origins: dict[str, NLIFile] = {}
    for file in files:
        if file.language or not file.names_languages:
            examples = {file.language or language_of(file.path): map(itemgetter(1), file)}
        else:
            examples = defaultdict(list)
            for language, example in file:
                examples[language].append(example)
            examples = matched(examples)
        for language, rows in examples.items():
            origin = origins.setdefault(language, file)
            if origin is not file and None in (origin.language, file.language):
                raise InputError(
                    f"{origin.path} and {file.path} both have {language}; name one of them, or write {language}= "
                    "before each to read one after the other"
                )
            parts[language].append(rows)
    return {language: chain.from_iterable(rows) for language, rows in parts.items()}


def matched(examples: dict[str, list[NLIExample]]) -> dict[str, list[NLIExample]]:
    """Return every language's rows in the order of English, or the first language, if all have the same pairIDs.

    Else return them as they are.
    """
    by_id = {language: {row.pair_id: row for row in rows} for language, rows in examples.items()}
    first = by_id.get("en") or next(iter(by_id.values()), {})
    same = all(by_id[name].keys() == first.keys() and len(first) == len(rows) for name, rows in examples.items())
    if None in first or not same:
        return examples
    return {language: [rows[pair_id] for pair_id in first] for language, rows in by_id.items()}


def side_by_side(examples: dict[str, Iterable[NLIExample]]) -> Iterator[tuple[NLIExample, ...]]:
    """Yield one example of every language at a time, in the order of *examples*' keys.

    Raises InputError, which names the rows, if the languages differ in their number of rows, or a row in its pairIDs
    or labels. A row without consensus agrees with any label.
    """
    languages = list(examples)
    for row in zip_longest(*examples.values()):
        if None in row:
            here = next(example for example in row if example)
            raise InputError(f"{here.place}: {languages[row.index(None)]} has no row for this one; {PARALLEL}")
        for field, name, none in (("pair_id", "pairID", None), ("label", "label", NO_CONSENSUS)):
            known = {getattr(example, field): example for example in row if getattr(example, field) != none}
            if len(known) > 1:
                (one, first), (other, second), *_ = known.items()
                raise InputError(f"{second.place}: {name} {other}, but {one} in {first.place}; {PARALLEL}")
        yield row
