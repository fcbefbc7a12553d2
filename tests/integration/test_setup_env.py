"""scripts/setup_env.sh, up to the installation. No test reaches a package index."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "setup_env.sh"
KEY = "0123456789abcdef"


def setup_env(venv, *arguments, **environment):
    """Run the script without a Python, so that it cannot install anything."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    settings = inherited | {"PPA_VENV": str(venv), "PYTHON": "/nowhere/python3"} | environment
    return subprocess.run(["bash", SCRIPT, *arguments], env=settings, capture_output=True, text=True, timeout=600)


@pytest.fixture
def venv(tmp_path):
    """A folder in place of .venv; its Python is this one."""
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "bin" / "python").chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("state", "flags", "message"),
    [
        (None, [], "this script did not make it"),
        ("installing", [], "no Python >= 3.10 found at PYTHON=/nowhere/python3"),
        (f"{KEY} test", [], "no Python >= 3.10 found at PYTHON=/nowhere/python3"),
        (None, ["tests"], "unknown set 'tests'"),
    ],
    ids=["foreign", "interrupted", "outdated", "unknown-set"],
)
def test_setup_refuses(venv, state, flags, message):
    if state:
        (venv / "ppa-state").write_text(state)
    done = setup_env(venv, *flags)
    assert done.returncode == 1 and message in done.stderr and (venv / "bin" / "python").exists()


def test_setup_says_how_to_remove_upstream_fairseq(venv, tmp_path):
    info = tmp_path / "upstream" / "fairseq-0.12.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fairseq\nVersion: 0.12.2\n")
    (venv / "ppa-state").write_text(f"{KEY} test")
    done = setup_env(venv, PYTHONPATH=str(info.parent))
    assert done.returncode == 1 and "upstream 'fairseq' is installed" in done.stderr


@pytest.fixture
def uv_settings(tmp_path):
    """Run the script with a stub of uv; returns the settings that uv gets."""
    stub = '[ "$1" != venv ] || { env | grep -E "^(UV_|SSL_CERT_FILE=)"; exit 9; }'
    (tmp_path / "uv").write_text(f"#!/bin/sh\n{stub}\n")
    (tmp_path / "uv").chmod(0o755)

    def run(**environment):
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        done = setup_env(tmp_path / "venv", PATH=path, SSL_CERT_FILE="", **environment)
        assert done.returncode == 9, done.stderr
        assert (tmp_path / "venv" / "ppa-state").read_text() == "installing\n"
        return set(done.stdout.splitlines())

    return run


def test_uv_gets_pips_environment(uv_settings):
    assert uv_settings(
        PYTHON=sys.executable,
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="https://index.invalid/simple",
        PIP_EXTRA_INDEX_URL="https://one.invalid  https://two.invalid",
        PIP_FIND_LINKS="/wheels /more",
        PIP_CERT="/ca.pem",
    ) == {
        "UV_DEFAULT_INDEX=https://index.invalid/simple",
        "UV_INDEX=https://one.invalid https://two.invalid",
        "UV_INDEX_STRATEGY=unsafe-best-match",
        "UV_FIND_LINKS=/wheels,/more",
        "SSL_CERT_FILE=/ca.pem",
    }


def test_uv_gets_the_settings_of_pip_conf(uv_settings, tmp_path):
    if subprocess.run([sys._base_executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("this Python has no pip, so no pip.conf is read")
    conf = "[global]\nfind-links =\n    /wheels\n    /more\n[install]\nindex-url = https://index.invalid\n"
    (tmp_path / "pip.conf").write_text(conf)
    found = uv_settings(PYTHON=sys._base_executable, PIP_CONFIG_FILE=str(tmp_path / "pip.conf"))
    assert {"UV_DEFAULT_INDEX=https://index.invalid", "UV_FIND_LINKS=/wheels,/more"} <= found


def test_an_active_environment_is_replaced_by_the_python_below_it(tmp_path):
    """It would be deleted, and with it the interpreter that is to make the new one."""
    (tmp_path / "uv").write_text('#!/bin/sh\n[ "$1" != venv ] || { echo "$@"; exit 9; }\n')
    (tmp_path / "uv").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = setup_env(tmp_path / "venv", PATH=path, PYTHON=sys.executable, PIP_CONFIG_FILE=os.devnull)
    assert f"--python {sys._base_executable} " in done.stdout and sys.executable != sys._base_executable
