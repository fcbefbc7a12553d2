"""Invented results of experiments/reproduce.sh, and a reader of the report's tables."""

import csv
import json
import random
from pathlib import Path


class MadeUp:
    """An OUT with some finished steps and random results."""

    def __init__(self, out: Path, setting: str = "tiny"):
        self.out, self.rng = out, random.Random(0)
        (out / "steps").mkdir(parents=True)
        (out / "setting").write_text(f"{setting}\n")
        rows = ["unaligned\tunaligned\t1 2 3\t\timported", "ppa\tMoCo + TLM (PPA)\t1 2 3\t\t"]
        rows += ["moco\tMoCo only\t1 2 3\t--tlm-weight 0\t", "queue-9\tqueue of 9\t1\t--queue-size 9\t"]
        (out / "rows.tsv").write_text("".join(row + "\n" for row in rows))

    def step(self, name: str, command: tuple[str, ...] = ("none",)) -> None:
        record = {"step": name, "command": command, "machine": "none", "seconds": 1, "cpu_seconds": 1}
        (self.out / "steps" / f"{name}.json").write_text(json.dumps(record))

    def write(self, kind: str, name: str, file: str, document: dict) -> None:
        self.step(f"{kind}.{name}")
        (self.out / file).parent.mkdir(parents=True, exist_ok=True)
        (self.out / file).write_text(json.dumps(document))

    def retrieval(self, row: str, seed: int, percent: float | None = None) -> tuple[float, float]:
        """Both directions of the average, mean-pooled at the last of 2 layers: *percent* everywhere, or random."""
        results = [
            {"pair": pair, "layer": layer, "pooling": pooling, "scoring": "cosine", "pairs": 9}
            | {side: self.rng.uniform(0, 100) if percent is None else percent for side in ("forward", "backward")}
            for pair in ("de-en", "average")
            for layer in range(3)
            for pooling in ("cls", "mean")
        ]
        document = {"models": {row: {"layers": 2}}, "results": results}
        self.write("retrieve", f"{row}.{seed}", f"retrieve/{row}.{seed}/retrieval.json", document)
        return results[-1]["forward"], results[-1]["backward"]

    def xnli(self, kind: str, row: str, seed: int, average: float) -> None:
        values = {"en": average + 1, "fr": average - 1, "average": average}
        results = [{"language": lang, "accuracy": value} for lang, value in values.items()]
        self.write(kind, f"{row}.{seed}", f"{kind}-results/{row}.{seed}/xnli.json", {"results": results})

    def words(self, row: str, seed: int, errors: dict[str, list[float]]) -> None:
        """Alignment error rates by method and layer."""
        results = [
            {"layer": layer, "method": method, "aer": error}
            for method, by_layer in errors.items()
            for layer, error in enumerate(by_layer)
        ]
        self.write("words", f"{row}.{seed}", f"words/{row}.{seed}/alignment.json", {"results": results})

    def perplexity(self, row: str, seed: int, perplexity: float, head_trained: bool = True) -> None:
        result = {"kind": "TLM", "text": "average", "perplexity": perplexity, "accuracy": 5}
        document = {"models": {row: {"head_trained": head_trained}}, "results": [result]}
        self.write("perplexity", f"{row}.{seed}", f"perplexity/{row}.{seed}/perplexity.json", document)


def table(path: Path) -> dict[str, dict[str, str]]:
    """{first cell: {head: cell}} of a CSV file of the report."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return {line.pop(next(iter(line))): line for line in lines}
