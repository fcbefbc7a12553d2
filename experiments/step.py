"""Run a step of experiments/reproduce.sh once, and record its command, time and output.

    python experiments/step.py STEPS NAME COMMAND …

STEPS/NAME.log gets the command's output. After success, STEPS/NAME.json gets the command, its seconds and the machine.
If that file exists, the step does not run again; if it records another command, that is an error.
"""

import fcntl
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from ppa_fairseq.utils.files import atomic_path


def main(steps: Path, name: str, command: list[str]) -> int:
    record, log = steps / f"{name}.json", steps / f"{name}.log"
    with (steps / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # wait if another process runs this step
        return once(record, log, name, command)


def once(record: Path, log: Path, name: str, command: list[str]) -> int:
    """Run the command unless its record exists; returns the exit status."""
    if record.exists():
        if json.loads(record.read_text())["command"] != command:
            print(
                f"reproduce: error: {record} records another command than {' '.join(command)}; "
                "name another --out, or delete that file to repeat the step",
                file=sys.stderr,
            )
            return 1
        return 0
    print(f"{time.strftime('%H:%M:%S')}  {name}", flush=True)
    began = time.monotonic()
    status = run(command, log)
    if status:
        tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-5:])
        print(f"{tail}\nreproduce: error: step {name} failed (status {status}); read {log}", file=sys.stderr)
        return 1
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    entry = {
        "step": name,
        "command": command,
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "machine": machine(),
    }
    with atomic_path(record) as part:
        part.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
    return 0


def run(command: list[str], log: Path) -> int:
    """Run the command, and end it with this process; returns its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            return child.wait()
        finally:
            if child.poll() is None:
                child.terminate()


def machine() -> str:
    """Describe the processor or GPU, cores and versions in one line."""
    gpus = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout if has_gpu() else ""
    names = [line.split(":", 1)[1].split("(")[0].strip() for line in gpus.splitlines()]
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = next(iter(models), processor)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return (
        f"{', '.join(names) or 'no GPU'}; {processor}, {len(os.sched_getaffinity(0))} cores, "
        f"OMP_NUM_THREADS={threads}; "
        f"Python {platform.python_version()}, torch {version('torch')}"
    )


def has_gpu() -> bool:
    return any(Path(folder, "nvidia-smi").exists() for folder in os.get_exec_path())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
