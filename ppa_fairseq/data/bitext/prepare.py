"""Raw parallel text to text files of tokens: filtered, tokenized in processes, split into train and valid."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files, write_files
from ppa_fairseq.data.bitext.checks import checked_rows
from ppa_fairseq.data.bitext.filters import LanguageCheck, PairEncoder, read_batches
from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.data.bitext.writer import PairCounts, PairWriter
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.utils.errors import InputError, quote

BATCH = 2000  # lines per task; --max-train ends with a batch, so this must not depend on --workers


def prepare(bitexts: Sequence[Bitext], out: Path, settings: Namespace) -> dict[str, PairCounts]:
    """Write {train,valid}.PAIR.LANGUAGE, dict.txt, the tokenizer's files and statistics.json to *out*.

    *settings* are the flags of `ppa prepare-bitext`. Returns the counts by pair. Memory does not grow with the text,
    except for 8 bytes per pair to find duplicates. Raises InputError if two *bitexts* have the same languages, a text
    is broken, or a pair or a shard stays empty.
    """
    if len({frozenset((bitext.first_lang, bitext.second_lang)) for bitext in bitexts}) < len(bitexts):
        names = ", ".join(bitext.name for bitext in bitexts)
        raise InputError(f"{names}: two of these are one language pair; give all its files at once: PAIR=FILE,FILE")
    texts = read_files(settings.tokenizer)
    tokenizer = ModelTokenizer(texts, settings.tokenizer)
    unknown = tokenizer.symbols[tokenizer.unk()]
    if warning := tokenizer.case_warning():
        print(warning)
    folders = [out / f"shard{shard}" for shard in range(settings.shards)] if settings.shards > 1 else [out]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    write_files(texts, out)
    (out / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in tokenizer.symbols), encoding="utf-8")
    if settings.check_language:
        LanguageCheck().refuse_unknown({language for bitext in bitexts for language in bitext.name.split("-")})
    encoder = texts, settings.tokenizer, settings.min_tokens, settings.max_tokens, settings.valid_share
    encoder += settings.max_ratio, settings.max_overlap, settings.check_language
    counts = {}
    with (
        OrderedPool(settings.workers, PairEncoder, *encoder) as pool,
        tqdm(total=sum(bitext.size for bitext in bitexts), unit="B", unit_scale=True) as progress,
    ):
        for bitext in bitexts:
            with PairWriter(folders, bitext.name, settings, unknown) as writer:
                _write_pair(bitext, writer, pool, progress, settings)
            writer.check()
            counts[bitext.name] = writer.counts
    statistics = json.dumps({name: vars(count) for name, count in counts.items()}, indent=1)
    (out / "statistics.json").write_text(statistics + "\n", encoding="utf-8")
    return counts


def _write_pair(bitext: Bitext, writer: PairWriter, pool: OrderedPool, progress: tqdm, settings: Namespace) -> None:
    start = progress.n
    progress.set_description(bitext.name)

    def warn(message: str) -> None:
        writer.counts.warnings.append(message)
        progress.write(f"warning: {message}", file=sys.stderr)

    rows = checked_rows(bitext, settings.columns, settings.unquote, warn, settings.score_column)
    languages = bitext.first_lang, bitext.second_lang
    batches = read_batches(rows, BATCH, int(bitext.second_lang == settings.pivot), languages, settings.min_score)
    with closing(pool.map(batches)) as encoded_batches:
        for batch, encoded in encoded_batches:
            if not writer.counts.read and batch.pairs:  # a user sees at once if the columns are the wrong way round
                first, second = map(quote, batch.pairs[0])
                example = f"{bitext.name}: {bitext.first_lang} {first}, {bitext.second_lang} {second}"
                progress.write(example, file=sys.stderr)
            writer.write(batch, *encoded)
            progress.update(start + bitext.position - progress.n)
            if writer.full:
                break
    progress.update(start + bitext.size - progress.n)
