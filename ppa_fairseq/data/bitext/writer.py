"""Text files of one language pair for `fairseq-preprocess`, and counts of what became of its pairs."""

from argparse import Namespace
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ppa_fairseq.data.bitext.filters import Batch
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.histogram import in_hundredths


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
    scores: Counter = field(default_factory=Counter)  # pairs by their score, in hundredths, rounded down


class PairWriter(ExitStack):
    """Writes `{split}.{name}.{lang}` and counts; a context manager, which closes the files.

    Training pairs go to *folders* (shards) in turn, validation pairs to the first. *settings* are the flags of
    `ppa prepare-bitext`; *unknown* is the tokenizer's [UNK].
    """

    def __init__(self, folders: list[Path], name: str, settings: Namespace, unknown: str):
        super().__init__()
        self.name, self.unknown = name, unknown
        self.limits = {"train": settings.max_train, "valid": settings.max_valid}
        self.valid_share = settings.valid_share
        self.counts = PairCounts()
        self.files = {}  # by split, language and shard
        for split, places in (("train", folders), ("valid", folders[:1] if self.valid_share else [])):
            for language in name.split("-"):
                paths = [folder / f"{split}.{name}.{language}" for folder in places]
                files = [self.enter_context(open(path, "w", encoding="utf-8", newline="\n")) for path in paths]
                self.files[split, language] = files

    @property
    def full(self) -> bool:
        """Whether the training split has reached its limit."""
        return self.counts.train == self.limits["train"]

    def write(self, batch: Batch, splits: dict[str, list[tuple[str, str]]], dropped: Counter) -> None:
        """Write the kept pairs of a batch, as `PairEncoder` returns them, and count all of its pairs."""
        counts = self.counts
        counts.read += batch.read
        counts.dropped += batch.dropped + dropped
        counts.scores += in_hundredths(batch.scores)
        for reason, where in batch.broken_lines:
            lines = counts.broken_lines.setdefault(reason, [])
            lines += [where] * (len(lines) < 3)
        for split, pairs in splits.items():
            before, limit = getattr(counts, split), self.limits[split]
            kept = pairs if limit is None else pairs[: limit - before]
            counts.dropped += Counter({f"spare {split}": len(pairs) - len(kept)})
            setattr(counts, split, before + len(kept))
            for side, language in enumerate(self.name.split("-")):
                lines = [pair[side] for pair in kept]
                counts.tokens[language] += sum(line.count(" ") + 1 for line in lines)
                unknown = (line.split(" ").count(self.unknown) for line in lines if self.unknown in line)
                counts.unknown[language] += sum(unknown)
                files = self.files[split, language]
                for shard, file in enumerate(files):
                    file.writelines(f"{line}\n" for line in lines[(shard - before) % len(files) :: len(files)])

    def check(self) -> None:
        """Raise InputError if a split or a shard is empty."""
        counts = self.counts
        if counts.train < len(self.files["train", self.name.split("-")[0]]):
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
