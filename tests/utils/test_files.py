"""Outputs are whole or absent, also through links, and nothing is replaced that another program wrote."""

import json
import os
from pathlib import Path

import pytest

from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import MARKER, atomic_path, output_folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: str | Path = ".") -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def write(path: str, command: str = "embed", files: tuple[str, ...] = ("a", "deep/b")) -> None:
    with output_folder(path, command) as folder:
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(command)


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt], ids=lambda error: error.__name__)
def test_a_failed_block_leaves_nothing(here, kind, error):
    with pytest.raises(error), atomic_path("new/deep/out") as beside:
        if kind == "folder":
            beside.mkdir()
            beside = beside / "file"
        beside.write_text("half")
        raise error
    assert names() == set()


def test_a_failed_block_leaves_the_earlier_output(here):
    write("out")
    with pytest.raises(OSError), output_folder("out", "embed") as folder:
        (folder / "a").write_text("half")
        raise OSError
    assert names() == {"out"} and Path("out/a").read_text() == "embed"


def test_a_failed_move_brings_the_earlier_output_back(here, monkeypatch):
    write("out")
    replace = os.replace

    def fail_once(source, target):
        if str(source).endswith(".tmp"):
            raise OSError("no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(OSError, match="no"):
        write("out", files=("c",))
    assert names() == {"out"} and names("out") == {"a", "deep", MARKER}


def test_a_file_and_a_folder_do_not_replace_each_other(here):
    Path("folder").mkdir()
    Path("folder/file").touch()
    with pytest.raises(InputError, match="folder: is a folder; name a file"), atomic_path("folder") as beside:
        beside.write_text("new")
    with pytest.raises(InputError, match="folder/file: is a file; name a new folder"):
        write("folder/file")
    assert names() == {"folder"} and names("folder") == {"file"}


def test_an_earlier_run_is_replaced(here):
    write("out")
    write("out/../out", files=("c",))
    assert names() == {"out"} and names("out") == {"c", MARKER}
    assert json.loads(Path("out", MARKER).read_text()) == {"command": "embed", "files": ["c"]}


@pytest.mark.parametrize(
    "prepare, foreign",
    [
        (lambda: Path("out/vocab.txt").write_text("[PAD]"), "vocab.txt"),
        (lambda: [write("out"), Path("out/deep/z").touch()], "deep/z"),
        (lambda: [write("out"), Path("out/deep/z").mkdir()], "deep/z"),
        (lambda: write("out", "retrieve"), MARKER),
        (lambda: [write("out"), Path("out", MARKER).write_text("[]")], MARKER),
        (lambda: [write("out"), Path("out", MARKER).unlink()], "a"),
    ],
    ids=["tokenizer", "deep file", "empty folder", "command", "broken marker", "no marker"],
)
def test_a_folder_with_foreign_files_is_never_replaced(here, prepare, foreign):
    Path("out").mkdir()
    prepare()
    before = sorted(here.rglob("*"))
    with pytest.raises(InputError) as caught:
        write("out")
    assert str(caught.value) == f"out: holds {foreign}, which `ppa embed` did not write; name a new or empty folder"
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("target", ["empty", "dangling", "earlier"])
def test_a_folder_is_written_through_a_link(here, target):
    Path("disk").mkdir()
    Path("out").symlink_to("disk/out")
    if target == "empty":
        Path("disk/out").mkdir()
    elif target == "earlier":
        write("disk/out")
    write("out")
    assert os.readlink("out") == "disk/out" and names() == {"disk", "out"}
    assert names("disk") == {"out"} and names("disk/out") == {"a", "deep", MARKER}


def test_a_file_is_written_through_a_link(here):
    Path("link").symlink_to("old")
    with atomic_path("link") as beside:
        beside.write_text("new")
    assert Path("link").is_symlink() and Path("old").read_text() == "new" and names() == {"link", "old"}


@pytest.mark.parametrize(
    ("make", "path", "message"),
    [
        (lambda: None, ".", "current folder"),
        (lambda: None, "/proc", "/proc: a mount point"),
        (lambda: os.mkfifo("out"), "out", "out: neither a file nor a folder; choose another path"),
        (lambda: os.symlink(os.devnull, "out"), "out", "out: neither a file nor a folder"),
    ],
    ids=["current folder", "mount point", "pipe", "device"],
)
def test_what_cannot_be_an_output_is_refused_before_the_block(here, make, path, message):
    make()
    before = os.lstat(path)
    with pytest.raises(InputError, match=message), atomic_path(path):
        raise AssertionError("the block runs")
    assert os.lstat(path) == before
