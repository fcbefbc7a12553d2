"""Read the results that the steps of experiments/reproduce.sh wrote to OUT."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

UNALIGNED = "unaligned"
AVERAGE = "average"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Row:
    """One row of experiments/rows.sh."""

    name: str
    label: str
    seeds: tuple[str, ...]
    flags: str
    given: str  # path of an encoder that is not trained here, the same for every seed; else empty


class Results:
    """Numbers by row and seed; without a finished step there is no number.

    Args:
        out: OUT of experiments/reproduce.sh.
    """

    def __init__(self, out: Path):
        self.out = out

    @cached_property
    def rows(self) -> list[Row]:
        lines = (self.out / "rows.tsv").read_text(encoding="utf-8").splitlines()
        cells = (line.split("\t") for line in lines)
        return [Row(name, label, tuple(seeds.split()), flags, given) for name, label, seeds, flags, given in cells]

    @cached_property
    def steps(self) -> dict[str, dict]:
        """{name: record} of the finished steps, in the order in which they finished."""
        files = sorted((self.out / "steps").glob("*.json"), key=lambda file: file.stat().st_mtime)
        records = (json.loads(file.read_text(encoding="utf-8")) for file in files)
        return {record["step"]: record for record in records}

    @property
    def method(self) -> Row:
        """The row that represents the method: "long", if the setting has it."""
        rows = {row.name: row for row in self.rows}
        return rows.get("long", rows["ppa"])

    @property
    def setting(self) -> str:
        return (self.out / "setting").read_text(encoding="utf-8").strip()

    def read(self, kind: str, row: Row, seed: str, folder: str, file: str) -> dict | None:
        name = f"{row.name}.{seed}"
        if f"{kind}.{name}" not in self.steps:
            return None
        return json.loads((self.out / folder / name / file).read_text(encoding="utf-8"))

    def retrieval(self, row: Row, pooling: str = "mean", layer: int | None = None) -> dict[str, dict[str, tuple]]:
        """{seed: {pair or AVERAGE: (xx→en, en→xx)}}, top-1 percent; of the last layer by default."""
        found = {}
        for seed in row.seeds:
            if document := self.read("retrieve", row, seed, "retrieve", "retrieval.json"):
                chosen = document["models"][row.name]["layers"] if layer is None else layer
                found[seed] = {
                    result["pair"]: (result["forward"], result["backward"])
                    for result in document["results"]
                    if (result["layer"], result["pooling"], result["scoring"]) == (chosen, pooling, "cosine")
                }
        return found

    def layers(self, row: Row) -> int:
        """Number of layers of the row's encoder; 0 without a result."""
        documents = (self.read("retrieve", row, seed, "retrieve", "retrieval.json") for seed in row.seeds)
        return next((document["models"][row.name]["layers"] for document in documents if document), 0)

    def xnli(self, row: Row, kind: str = "zero-shot") -> dict[str, dict[str, float]]:
        """{seed: {language or AVERAGE: percent}}; kind: zero-shot, translate-train(-few) or code-switch(-few)."""
        found = {}
        for seed in row.seeds:
            if document := self.read(kind, row, seed, f"{kind}-results", "xnli.json"):
                found[seed] = {result["language"]: result["accuracy"] for result in document["results"]}
        return found

    def xnli_averages(self, row: Row, kind: str = "zero-shot") -> list[float]:
        """Averages over the languages, one for each seed."""
        return [by_language[AVERAGE] for by_language in self.xnli(row, kind).values()]

    def word_alignment(self, row: Row, method: str) -> dict[str, dict[int, float]]:
        """{seed: {layer: alignment error rate in percent}}; method: softmax or argmax."""
        found = {}
        for seed in row.seeds:
            document = self.read("words", row, seed, "words", "alignment.json") or {"results": []}
            rates = {result["layer"]: result["aer"] for result in document["results"] if result["method"] == method}
            if rates:
                found[seed] = dict(sorted(rates.items()))
        return found

    def perplexity(self, row: Row) -> dict[str, tuple[float, float]]:
        """{seed: (perplexity, accuracy in percent)} of TLM, average over the texts; only of trained heads."""
        found = {}
        for seed in row.seeds:
            document = self.read("perplexity", row, seed, "perplexity", "perplexity.json") or {"results": []}
            for result in document["results"]:
                trained = document["models"][row.name]["head_trained"]
                if trained and (result["kind"], result["text"]) == ("TLM", AVERAGE):
                    found[seed] = result["perplexity"], result["accuracy"]
        return found

    def curve(self, row: Row, seed: str, metric: str) -> dict[int, float]:
        """{update: value} from the log of fairseq-train."""
        if f"align.{row.name}.{seed}" not in self.steps:
            return {}
        points = {}
        for line in (self.out / "steps" / f"align.{row.name}.{seed}.log").read_text(errors="replace").splitlines():
            _, found, logged = line.partition("| train_inner | ")
            if found and metric in (values := json.loads(logged)):
                points[int(values["num_updates"])] = float(values[metric])
        return points

    def sentence_map(self) -> Mapping[str, np.ndarray] | None:
        """The arrays of sentence_map.py."""
        return np.load(self.out / "sentence-map.npz") if "sentence-map" in self.steps else None

    @property
    def mapped(self) -> str:
        """Label of the row whose encoder the sentence map shows as "after"; its path if it belongs to no row."""
        command = self.steps["sentence-map"]["command"]
        path = next(part.removeprefix("after=") for part in command if part.startswith("after="))
        trained = Path(path).parent.name.rpartition(".")[0]  # align/ROW.SEED/checkpoint_last.pt
        return next((row.label for row in self.rows if path == row.given or trained == row.name), path)

    def data_counts(self) -> list[str]:
        """Describe what the preparation kept, a paragraph for each kind of data."""
        texts = []
        if "text" in self.steps:
            by_pair = json.loads((self.out / "text" / "statistics.json").read_text(encoding="utf-8"))
            counts = {what: sum(pair[what] for pair in by_pair.values()) for what in ("read", "train", "valid")}
            dropped = counts["read"] - counts["train"] - counts["valid"]
            texts.append(
                f"Bitext: {len(by_pair)} language pairs, {counts['read']:,} sentence pairs read, {counts['train']:,} "
                f"to train on, {counts['valid']:,} held out, {dropped:,} dropped or left over."
            )
        kinds = {
            "nli-text": "English NLI",
            "xnli-text": "Translations to train on",
            "xnli-few-text": "Few translations to train on",
        }
        for step, what in kinds.items():
            if step in self.steps:
                counts = json.loads((self.out / step / "statistics.json").read_text(encoding="utf-8"))["train"]
                texts.append(f"{what}: {counts['rows']:,} rows, languages: {', '.join(counts['languages'])}.")
        return texts


def spread(values: list[float], expected: int = 0, digits: int = 1) -> str:
    """Format mean ± standard deviation of the seeds, with their number if some are missing; NOT_RUN without values."""
    if not values:
        return NOT_RUN
    text = f"{fmean(values):,.{digits}f}"
    if len(values) > 1:
        text += f" ± {stdev(values):,.{digits}f}"
    return text if len(values) >= expected else f"{text} ({len(values)} of {expected} seeds)"
