"""Output that is whole or absent: written beside its place, then moved there in one step; input of a sane size."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ppa_fairseq.utils.errors import InputError

LARGEST_TEXT = 128 << 20  # bytes of a configuration or a tokenizer; XLM-RoBERTa's tokenizer.json has 9 million

MARKER = ".ppa-output.json"  # stands in every folder that a command wrote

# How text is written that names files: a name that is no UTF-8 is shown, and costs no result.
READABLE = {"encoding": "utf-8", "errors": "backslashreplace"}


def read_whole(path: Path) -> bytes:
    """A file of a model's folder, other than its weights. Raises InputError if it is larger than any such file is."""
    if (size := path.stat().st_size) > LARGEST_TEXT:
        raise InputError(f"{path}: {size:,} bytes, and {LARGEST_TEXT:,} are read at the most; fetch the file again")
    return path.read_bytes()


@contextmanager
def atomic_path(path: str | Path, *, follow_symlinks: bool = True) -> Iterator[Path]:
    """Yield a free path beside `path` to write a file or a folder to; when the block ends it becomes `path`.

    A symlink stays and what it leads to is replaced, or without `follow_symlinks` the link itself. If the block raises
    (a full disk, Ctrl-C), what it wrote is removed and `path` stays as it was. Raises InputError if a file was written
    and `path` is a folder; before the block if `path` is no file and no folder that could be replaced.
    """
    named, path = path, _place(Path(path), follow_symlinks)
    new_parents = [folder for folder in path.parents if not folder.exists()]  # the deepest first
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        if path.is_dir() and not beside.is_dir():
            raise InputError(f"{named}: is a folder; name a file")
        try:
            if path.is_dir():  # os.replace moves no folder onto a full one
                os.replace(path, replaced)
            os.replace(beside, path)
        except BaseException:
            if replaced.exists() and not path.exists():
                os.replace(replaced, path)
            raise
    except BaseException:
        _remove(beside)
        for folder in new_parents:
            with suppress(OSError):  # not there, or another's file is in it
                folder.rmdir()
        raise
    finally:
        _remove(beside)
        _remove(replaced)


@contextmanager
def output_folder(path: str | Path, command: str) -> Iterator[Path]:
    """Yield a new, empty folder to write to; when the block ends it becomes `path`, whole or not at all.

    A marker file lists what was written. A folder that stands at `path` already is replaced only if it is empty, or if
    its marker says that an earlier run of the same `command` wrote every file in it. Raises InputError otherwise,
    before anything is written.
    """
    path = Path(path)
    if path.exists():
        if not path.is_dir():
            raise InputError(f"{path}: is a file; name a new folder")
        if foreign := _foreign_file(path, command):
            raise InputError(f"{path}: holds {foreign}, which `ppa {command}` did not write; name a new or empty folder")
    with atomic_path(path) as folder:
        folder.mkdir()
        yield folder
        (folder / MARKER).write_text(json.dumps({"command": command, "files": _files_in(folder)}) + "\n", **READABLE)


def _foreign_file(folder: Path, command: str) -> str | None:
    """The first file of *folder* that an earlier run of *command* did not write, if there is one."""
    try:
        marker = json.loads((folder / MARKER).read_text(**READABLE))
        written = {MARKER, *marker["files"]} if marker["command"] == command else set()
    except (OSError, ValueError, KeyError, TypeError):
        written = set()
    return next((name for name in _files_in(folder) if name not in written), None)


def _files_in(folder: Path) -> list[str]:
    """Paths of all files below *folder*, relative to it, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def why_no_file(path: Path) -> str:
    """What is wrong with `path` where a file to read is needed."""
    if path.is_dir():
        return "is a folder"
    return "neither a file nor a folder (a pipe cannot be read twice)" if path.exists() else "no such file"


def _place(path: Path, follow_symlinks: bool) -> Path:
    """Where `path` lies, by a way that still holds when it is moved: without .. or links, but for itself."""
    place = Path(os.path.realpath(path))
    if path.is_symlink() and not follow_symlinks:
        return Path(os.path.realpath(path.parent)) / path.name
    if os.path.lexists(place) and not (place.is_file() or place.is_dir()):
        raise InputError(f"{path}: neither a file nor a folder; name another")
    if place.is_dir() and (os.path.ismount(place) or Path.cwd().is_relative_to(place)):
        kind = "a mount point" if os.path.ismount(place) else "the current folder, or holds it"
        raise InputError(f"{path}: is {kind}, and cannot be replaced; name a new folder in it")
    return place


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
