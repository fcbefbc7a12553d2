"""scripts/setup_env.sh: what it does before it installs anything. Nothing here reaches a package index."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def venv(tmp_path):
    """A folder in the place of .venv whose Python is this one."""
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


def setup_env(venv, *arguments, **environment):
    """Run the script where no Python can be found, so that it cannot go on to install."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    settings = inherited | {"PPA_VENV": str(venv), "PYTHON": "/nowhere/python3"} | environment
    command = ["bash", REPOSITORY / "scripts" / "setup_env.sh", *arguments]
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=600)


def test_a_folder_that_is_not_its_own_is_left_alone(venv):
    done = setup_env(venv)
    assert done.returncode == 1 and "this script did not make it" in done.stderr
    assert (venv / "bin" / "python").exists()


@pytest.mark.parametrize("state", ["installing", "0123456789abcdef test"])
def test_an_interrupted_or_outdated_venv_is_not_taken_for_ready(venv, state):
    (venv / "ppa-state").write_text(state)
    done = setup_env(venv)
    assert done.returncode == 1 and "no Python >= 3.10 found at PYTHON=/nowhere/python3" in done.stderr


def test_upstream_fairseq_is_told_how_to_go(venv, tmp_path):
    info = tmp_path / "upstream" / "fairseq-0.12.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fairseq\nVersion: 0.12.2\n")
    (venv / "ppa-state").write_text("0123456789abcdef test")
    done = setup_env(venv, PYTHONPATH=str(info.parent))
    assert done.returncode == 1 and "upstream 'fairseq' is installed" in done.stderr


def test_an_unknown_set_is_refused(venv):
    done = setup_env(venv, "tests")
    assert done.returncode == 1 and "unknown set 'tests'" in done.stderr


def test_uv_is_given_what_pip_was_given(tmp_path):
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\nif [ "$1" = venv ]; then env | grep -E "^(UV_|SSL_CERT_FILE=)"; exit 9; fi\n')
    uv.chmod(0o755)
    done = setup_env(
        tmp_path / "venv",
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        PYTHON=sys.executable,
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="https://index.invalid/simple",
        PIP_EXTRA_INDEX_URL="https://one.invalid  https://two.invalid",
        PIP_FIND_LINKS="/wheels /more",
        PIP_CERT="/ca.pem",
        SSL_CERT_FILE="",
    )
    assert done.returncode == 9, done.stderr
    assert set(done.stdout.splitlines()) == {
        "UV_DEFAULT_INDEX=https://index.invalid/simple",
        "UV_INDEX=https://one.invalid https://two.invalid",
        "UV_INDEX_STRATEGY=unsafe-best-match",
        "UV_FIND_LINKS=/wheels,/more",
        "SSL_CERT_FILE=/ca.pem",
    }
    assert (tmp_path / "venv" / "ppa-state").read_text() == "installing\n"


def test_uv_is_given_the_settings_of_pip_conf(tmp_path):
    if subprocess.run([sys._base_executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("this Python has no pip, so there is no pip.conf to read")
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\nif [ "$1" = venv ]; then env | grep "^UV_"; exit 9; fi\n')
    uv.chmod(0o755)
    (tmp_path / "pip.conf").write_text(
        "[global]\nfind-links =\n    /wheels\n    /more\n[install]\nindex-url = https://index.invalid\n"
    )
    done = setup_env(
        tmp_path / "venv",
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        PYTHON=sys._base_executable,
        PIP_CONFIG_FILE=str(tmp_path / "pip.conf"),
    )
    lines = done.stdout.splitlines()
    assert "UV_DEFAULT_INDEX=https://index.invalid" in lines and "UV_FIND_LINKS=/wheels,/more" in lines
