"""Outputs in odd places: behind links, by detours, where something stands that is no file and no folder."""

import os
import stat
from pathlib import Path

import pytest
from helpers.hf_folders import make_bert

from ppa_fairseq.commands import main as cli
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import atomic_path

IMPORTED = {"model.pt", "dict.txt", "vocab.txt", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    (tmp_path / "hf").mkdir()
    make_bert(tmp_path / "hf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def told(command: str, capfd) -> str:
    """The one line of a command that is refused."""
    capfd.readouterr()
    assert cli.main(command.split()) == 1
    (line,) = capfd.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("target", ["empty", "dangling", "earlier"])
def test_a_folder_is_written_through_a_link(here, target):
    """As where the disk of the home folder is small."""
    (here / "disk").mkdir()
    (here / "imp").symlink_to("disk/imp")
    if target == "empty":
        (here / "disk/imp").mkdir()
    elif target == "earlier":
        assert cli.main("import-hf hf disk/imp".split()) == 0
    assert cli.main("import-hf hf imp".split()) == 0
    assert os.readlink(here / "imp") == "disk/imp"
    assert names(here / "disk/imp") >= IMPORTED
    assert names(here) == {"hf", "disk", "imp"} and names(here / "disk") == {"imp"}


def test_a_file_is_written_through_a_link(here):
    (here / "link").symlink_to("old")
    (here / "old").write_text("old")
    with atomic_path("link") as beside:
        beside.write_text("new")
    assert (here / "link").is_symlink() and (here / "old").read_text() == "new"
    with atomic_path("link", follow_symlinks=False) as beside:
        beside.write_text("newer")
    assert not (here / "link").is_symlink() and (here / "old").read_text() == "new"
    assert names(here) == {"hf", "link", "old"}


def test_a_detour_through_the_folder_itself(here):
    for _ in range(2):
        assert cli.main("import-hf hf imp".split()) == 0
        assert cli.main("import-hf hf imp/../imp".split()) == 0
        assert names(here / "imp") >= IMPORTED and names(here) == {"hf", "imp"}


def test_the_current_folder_is_not_replaced(here, monkeypatch, capfd):
    (here / "empty/deeper").mkdir(parents=True)
    monkeypatch.chdir(here / "empty/deeper")
    assert ".: is the current folder" in told("import-hf ../../hf .", capfd)
    assert names(here) == {"hf", "empty"} and not names(Path.cwd())


def test_a_mount_point_is_not_replaced():
    with pytest.raises(InputError, match="/proc: is a mount point"), atomic_path("/proc"):
        raise AssertionError("not before the block")


def test_a_pipe_or_a_device_is_not_replaced(here, capfd):
    os.mkfifo("pipe")
    (here / "null").symlink_to(os.devnull)
    (here / "loop").symlink_to("loop")
    (here / "text").write_text("ab\n")
    for name in ("pipe", "null", "loop"):
        line = told(f"embed --model hf --input text --output {name} --cpu", capfd)
        assert f"{name}: neither a file nor a folder" in line
    assert stat.S_ISFIFO(os.lstat("pipe").st_mode) and (here / "null").is_symlink() and (here / "loop").is_symlink()
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert names(here) == {"hf", "pipe", "null", "loop", "text"}
