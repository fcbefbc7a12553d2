"""Outputs that are whole or absent: written beside their place, then moved there in one step."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ppa_fairseq.utils.errors import InputError

MARKER = ".ppa-output.json"  # lies in every folder that a command wrote

# For text that contains file names: a name that is not UTF-8 is escaped and costs no result.
READABLE = {"encoding": "utf-8", "errors": "backslashreplace"}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a free path beside `path` for a file or a folder; when the block ends, move it to `path`.

    If the block raises (a full disk, Ctrl-C), remove what it wrote and leave `path` unchanged. If `path` is a symlink,
    replace its target. Raise InputError before the block if `path` cannot be replaced, and after it if the block wrote
    a file and `path` is a folder.
    """
    named, path = path, _resolve(Path(path))
    new_parents = [folder for folder in path.parents if not folder.exists()]  # the deepest first
    beside, replaced = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        if path.is_dir():  # os.replace moves no folder onto a full one
            if not beside.is_dir():
                raise InputError(f"{named}: is a folder; name a file")
            os.replace(path, replaced)
        os.replace(beside, path)
    except BaseException:
        if replaced.exists() and not path.exists():
            os.replace(replaced, path)
        _remove(beside)
        for folder in new_parents:
            with suppress(OSError):  # it does not exist, or holds another process's file
                folder.rmdir()
        raise
    finally:
        _remove(replaced)


@contextmanager
def output_folder(path: str | Path, command: str) -> Iterator[Path]:
    """Yield a new, empty folder; when the block ends, move it to `path`, whole or not at all.

    A marker file in it lists what the block wrote. An existing folder is replaced only if it is empty or if its marker
    says that the same `command` wrote every file in it. Raise InputError otherwise, before the block.
    """
    path = Path(path)
    if path.exists():
        if not path.is_dir():
            raise InputError(f"{path}: is a file; name a new folder")
        if foreign := _foreign_file(path, command):
            raise InputError(
                f"{path}: holds {foreign}, which `ppa {command}` did not write; name a new or empty folder"
            )
    with atomic_path(path) as folder:
        folder.mkdir()
        yield folder
        (folder / MARKER).write_text(json.dumps({"command": command, "files": _files_in(folder)}) + "\n", **READABLE)


def why_no_file(path: Path) -> str:
    """Say what is wrong with `path` where a command reads a file."""
    if path.is_dir():
        return "is a folder"
    return "neither a file nor a folder (a pipe cannot be read twice)" if path.exists() else "no such file"


def _foreign_file(folder: Path, command: str) -> str | None:
    """Return the first file of *folder* that no earlier run of *command* wrote, or None."""
    try:
        marker = json.loads((folder / MARKER).read_text(**READABLE))
        written = {MARKER, *marker["files"]} if marker["command"] == command else set()
    except (OSError, ValueError, KeyError, TypeError):
        written = set()
    return next((name for name in _files_in(folder) if name not in written), None)


def _files_in(folder: Path) -> list[str]:
    """List the files below *folder*, and its empty folders, as sorted relative paths."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir() or not any(path.iterdir()))
    return sorted(str(path.relative_to(folder)) for path in found)


def _resolve(path: Path) -> Path:
    """Return the absolute path to replace. Raise InputError if nothing there can be replaced."""
    place = Path(os.path.realpath(path))
    if os.path.lexists(place) and not (place.is_file() or place.is_dir()):
        raise InputError(f"{path}: neither a file nor a folder; choose another path")
    if place.is_dir() and (os.path.ismount(place) or Path.cwd().is_relative_to(place)):
        raise InputError(f"{path}: a mount point or the current folder cannot be replaced; name a new folder in it")
    return place


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
