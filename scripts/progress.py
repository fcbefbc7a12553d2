"""Show a training's log as a progress bar: loss, contrastive accuracy, time left.

    fairseq-train … --log-format json 2>&1 | python scripts/progress.py LOG UPDATES

Appends the whole output to LOG. Also prints errors, and the update from which a training resumes.
"""

import json
import re
import sys
from pathlib import Path

from tqdm import tqdm

UPDATE = re.compile(r"\| train_inner \| (\{.*\})")
RESUMED = re.compile(r"Loaded checkpoint .* @ (\d+) updates")
ERROR = re.compile(r"^Traceback |\berror:|Error\b")


def follow(lines, log, bar: tqdm) -> None:
    """Write *lines* to *log*, and move *bar* by them."""
    failed = False
    for line in lines:
        log.write(line)
        if found := UPDATE.search(line):
            values = json.loads(found[1])
            accuracy = values.get("contrastive_acc", "–")
            bar.set_postfix_str(f"loss {values['loss']}, contrastive accuracy {accuracy} %", refresh=False)
            bar.update(int(values["num_updates"]) - bar.n)
        elif found := RESUMED.search(line):
            bar.initial = bar.n = int(found[1])  # the time left counts the updates of this start
            bar.write(f"resumed after update {found[1]}", file=sys.stderr)
        elif "| Start iterating over samples" in line:
            bar.unpause()  # the time left does not count the start-up
        elif failed := failed or bool(ERROR.search(line)):
            bar.write(line.rstrip("\n"), file=sys.stderr)


def main(path: Path, updates: int) -> None:
    pause = 0.1 if sys.stderr.isatty() else 10  # seconds: a log file needs fewer lines than a screen
    with path.open("a", encoding="utf-8", buffering=1) as log:
        with tqdm(total=updates, unit="update", mininterval=pause, maxinterval=pause, dynamic_ncols=True) as bar:
            follow(sys.stdin, log, bar)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
