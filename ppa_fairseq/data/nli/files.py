"""Which files hold NLI, and in which language: folders, names like dev-fr.tsv, `fr=FILE`."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ppa_fairseq.data.bitext.reader import LANGUAGE
from ppa_fairseq.data.nli.reader import LABELS, NLIExample, read_nli
from ppa_fairseq.utils.errors import InputError

NLI_NAME = re.compile(r"[^.].*\.(tsv|jsonl|json)(\.gz|\.xz)?")
SOURCE = re.compile(rf"({LANGUAGE.pattern})=(.+)")


def find_nli(paths: Iterable[str | Path], labels: Sequence[str] = LABELS) -> dict[str, list[NLIExample]]:
    """The examples of several files by language. A path may be a folder, and `fr=FILE` names a file's language.

    Raises InputError as `read_nli` does, and if two files have the same language.
    """
    found: dict[str, list[NLIExample]] = {}
    origin: dict[str, Path] = {}
    for language, path in map(parse_source, paths):
        for file in files_in(path):
            for name, examples in read_nli(file, language, labels).items():
                if name in found:
                    raise InputError(f"{origin[name]} and {file} both have {name}; name the files to read one by one")
                found[name], origin[name] = examples, file
    return found


def parse_source(text: str | Path) -> tuple[str | None, Path]:
    """Language, if named, and path of `fr=FILE` or FILE."""
    match = SOURCE.fullmatch(str(text))
    return (match[1], Path(match[2])) if match and not Path(text).exists() else (None, Path(text))


def files_in(path: Path) -> list[Path]:
    """The file itself, or by name those in a folder that may be NLI. Raises InputError if there is none."""
    if not path.is_dir():
        return [path]
    files = [file for file in path.iterdir() if file.is_file() and NLI_NAME.fullmatch(file.name)]
    if not files:
        raise InputError(f"{path}: no .tsv, .jsonl or .json in this folder, plain, .gz or .xz; name the files")
    return sorted(files)
