"""Text files of one language pair for `fairseq-preprocess`, and counts of what became of its pairs."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ppa_fairseq.data.bitext.encoder import Encoded
from ppa_fairseq.data.bitext.filters import Batch
from ppa_fairseq.utils.errors import InputError


@dataclass
class PairCounts:
    """What became of the pairs of one language pair: `read` equals `train + valid` plus all of `dropped`."""

    read: int = 0
    train: int = 0
    valid: int = 0
    dropped: Counter = field(default_factory=Counter)
    tokens: Counter = field(default_factory=Counter)  # of the kept pairs, by language
    unknown: Counter = field(default_factory=Counter)  # how many of these are [UNK]
    broken_lines: dict[str, list[str]] = field(default_factory=dict)  # the first three of each reason
    warnings: list[str] = field(default_factory=list)  # about its files


class PairWriter:
    """Writes `{split}.{name}.{lang}` and counts. A context manager.

    Training pairs go to *folders* (shards) in turn. Validation pairs, if *valid_share* is over 0, go to the first. At
    most *limits*[split] pairs are kept. *unknown* is the tokenizer's [UNK].
    """

    def __init__(
        self, folders: list[Path], name: str, limits: dict[str, int | None], valid_share: float, unknown: str
    ):
        self.name = name
        self.unknown = unknown
        self.languages = name.split("-")
        self.folders = {"train": folders, "valid": folders[:1] if valid_share else []}
        self.limits = limits
        self.valid_share = valid_share
        self.counts = PairCounts()

    def __enter__(self) -> "PairWriter":
        self.files = {}
        with ExitStack() as stack:
            for split, folders in self.folders.items():
                for shard, folder in enumerate(folders):
                    for language in self.languages:
                        path = folder / f"{split}.{self.name}.{language}"
                        self.files[split, shard, language] = stack.enter_context(
                            open(path, "w", encoding="utf-8", newline="\n")
                        )
            self._close = stack.pop_all().close
        return self

    def __exit__(self, *_) -> None:
        self._close()

    @property
    def full(self) -> bool:
        """Whether the training split has reached its limit."""
        return self.counts.train == self.limits["train"]

    def write(self, batch: Batch, encoded: Encoded) -> None:
        """Write the kept pairs of a batch, and count all of its pairs."""
        counts = self.counts
        counts.read += batch.read
        counts.dropped += batch.dropped + encoded.dropped
        for reason, where in batch.broken_lines:
            lines = counts.broken_lines.setdefault(reason, [])
            lines += [where] * (len(lines) < 3)
        for split, pairs in encoded.splits.items():
            before = getattr(counts, split)
            limit = self.limits[split]
            kept = pairs if limit is None else pairs[: limit - before]
            counts.dropped += Counter({f"spare {split}": len(pairs) - len(kept)})
            setattr(counts, split, before + len(kept))
            self._write_split(split, kept, before)
        assert counts.read == counts.train + counts.valid + counts.dropped.total()

    def _write_split(self, split: str, pairs: list[tuple[str, str]], before: int) -> None:
        for side, language in enumerate(self.languages):
            lines = [pair[side] for pair in pairs]
            self.counts.tokens[language] += sum(line.count(" ") + 1 for line in lines)
            self.counts.unknown[language] += sum(
                line.split(" ").count(self.unknown) for line in lines if self.unknown in line
            )
            shards = len(self.folders[split])
            for shard in range(shards):
                of_shard = lines[(shard - before) % shards :: shards]
                self.files[split, shard, language].writelines(f"{line}\n" for line in of_shard)

    def check(self) -> None:
        """Raise InputError if a split or a shard is empty."""
        counts = self.counts
        if counts.train < len(self.folders["train"]):
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.dropped.most_common())
            raise InputError(
                f"{self.name}: only {counts.train} of {counts.read:,} read pairs are left for training"
                f" (dropped: {reasons or 'none'}); give more text, or change --min-tokens and --max-tokens"
            )
        if self.valid_share and not counts.valid:
            raise InputError(
                f"{self.name}: the validation split got none of {counts.train:,} pairs; "
                f"raise --valid-share above {self.valid_share}, or set it to 0 for no validation"
            )
