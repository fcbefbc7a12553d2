"""Raw parallel text to text files of tokens: filtered, tokenized in processes, split into train and valid."""

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files, write_files
from ppa_fairseq.data.bitext.checks import checked_rows
from ppa_fairseq.data.bitext.encoder import PairEncoder
from ppa_fairseq.data.bitext.filters import LengthLimits, read_batches
from ppa_fairseq.data.bitext.reader import Bitext, Columns
from ppa_fairseq.data.bitext.writer import PairCounts, PairWriter
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.utils.errors import InputError, quote

BATCH = 2000  # lines per task; --max-train ends with a batch, so this must not depend on --workers
STATISTICS = "statistics.json"


@dataclass(frozen=True)
class Settings:
    """How to prepare; names and meanings are those of the flags of `ppa prepare-bitext`."""

    columns: Columns | None
    unquote: bool
    min_tokens: int
    max_tokens: int
    max_train: int | None
    valid_share: float
    max_valid: int
    pivot: str
    shards: int
    workers: int

    def __post_init__(self):
        if 2 * self.min_tokens > self.max_tokens:
            raise InputError(
                f"--min-tokens {self.min_tokens} a side with --max-tokens {self.max_tokens} in all: no pair has both; "
                "lower the first or raise the second"
            )
        if not 0 <= self.valid_share < 1:
            raise InputError(f"--valid-share {self.valid_share}: must be from 0 to under 1")


def prepare(bitexts: Sequence[Bitext], tokenizer_folder: str, out: Path, settings: Settings) -> dict[str, PairCounts]:
    """Write {train,valid}.PAIR.LANGUAGE, dict.txt, the tokenizer's files and statistics.json to *out*.

    Returns the counts by pair. Memory does not grow with the text, except for 8 bytes per pair to find duplicates.
    Raises InputError if two *bitexts* have the same languages, a text is broken, or a pair or a shard stays empty.
    """
    _check_names(bitexts)
    texts = read_files(tokenizer_folder)
    tokenizer = ModelTokenizer(texts, tokenizer_folder)
    symbols, unknown = tokenizer.symbols, tokenizer.symbols[tokenizer.unk()]
    if warning := tokenizer.case_warning():
        print(warning)
    limits = LengthLimits(settings.min_tokens, settings.max_tokens)
    folders = [out / f"shard{shard}" for shard in range(settings.shards)] if settings.shards > 1 else [out]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    write_files(texts, out)
    (out / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols), encoding="utf-8")
    counts = {}
    with (
        OrderedPool(settings.workers, PairEncoder, texts, tokenizer_folder, limits, settings.valid_share) as pool,
        tqdm(total=sum(bitext.size for bitext in bitexts), unit="B", unit_scale=True) as progress,
    ):
        for bitext in bitexts:
            counts[bitext.name] = _prepare_pair(bitext, folders, unknown, pool, progress, settings)
    statistics = json.dumps({name: vars(count) for name, count in counts.items()}, indent=1)
    (out / STATISTICS).write_text(statistics + "\n", encoding="utf-8")
    return counts


def _prepare_pair(
    bitext: Bitext, folders: list[Path], unknown: str, pool: OrderedPool, progress: tqdm, settings: Settings
) -> PairCounts:
    start = progress.n
    progress.set_description(bitext.name)
    limits = {"train": settings.max_train, "valid": settings.max_valid}
    writer = PairWriter(folders, bitext.name, limits, settings.valid_share, unknown)
    rows = checked_rows(bitext, settings.columns, settings.unquote, writer.counts.warnings.append)
    batches = read_batches(rows, BATCH, pivot_side=int(bitext.second_lang == settings.pivot))
    with writer, closing(pool.map(batches)) as encoded_batches:
        for batch, encoded in encoded_batches:
            if not writer.counts.read and batch.pairs:  # a user sees at once if the columns are the wrong way round
                first, second = map(quote, batch.pairs[0])
                example = f"{bitext.name}: {bitext.first_lang} {first}, {bitext.second_lang} {second}"
                progress.write(example, file=sys.stderr)
            writer.write(batch, encoded)
            progress.set_postfix(pairs=f"{writer.counts.read:,}", refresh=False)
            progress.update(start + bitext.position - progress.n)
            if writer.full:
                break
    progress.update(start + bitext.size - progress.n)
    writer.check()
    return writer.counts


def _check_names(bitexts: Sequence[Bitext]) -> None:
    names = {}
    for bitext in bitexts:
        languages = frozenset((bitext.first_lang, bitext.second_lang))
        if languages in names:
            raise InputError(
                f"{names[languages]} and {bitext.name} name the same language pair; "
                f"give all its files at once, as in {bitext.name}=FILE,FILE"
            )
        names[languages] = bitext.name
