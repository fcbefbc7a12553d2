"""Run a script that prepares data, with a `ppa` that only prints its arguments."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
REAL_PPA = f'PYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m ppa_fairseq.commands.main "$@"'


def run_script(name: str, folder: Path, *arguments, ppa: str = 'echo ppa "$@"') -> subprocess.CompletedProcess:
    """Run scripts/*name* in *folder*; *ppa* is the shell code of the command `ppa`."""
    command = folder / "commands" / "ppa"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f"#!/bin/sh\n{ppa}\n")
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    line = ["bash", REPOSITORY / "scripts" / name, *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
