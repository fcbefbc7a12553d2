"""Raw parallel text to WordPieces: filtered, split into train and valid, ready for `fairseq-preprocess`.

A pair is given as PAIR=FILE[,FILE...], named as the data shall be:

  de-en=corpus.tsv.xz                  tab-separated, German in the first column (or see --columns)
  de-en=europarl.de.gz,europarl.en.gz  two files, line by line translations
  de-en=a.tsv,b.de,b.en                both, one after the other

Files may be plain, .gz or .xz. OUT gets {train,valid}.PAIR.LANGUAGE, dict.txt, the tokenizer's files and
statistics.json; what an earlier run left in OUT is replaced. Memory does not grow with the text, but for
8 bytes a pair, by which duplicates are found.
"""

import argparse
import json
import os
import sys
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints import tokenizer
from ppa_fairseq.data.bitext.encoder import encode_in_worker, set_up_worker
from ppa_fairseq.data.bitext.filters import REASONS, LengthLimits, read_batches
from ppa_fairseq.data.bitext.reader import Bitext, parse_bitext
from ppa_fairseq.data.bitext.writer import PairCounts, PairWriter
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.utils.errors import InputError, shown
from ppa_fairseq.utils.files import output_folder

BATCH = 2000  # lines a task; --max-train ends with a batch, so this must not depend on --workers
STATISTICS = "statistics.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pairs", nargs="+", metavar="PAIR=FILE[,FILE...]", help="a pair and its files")
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="DIR",
        help="folder that `ppa import-hf` wrote, or a Hugging Face BERT",
    )
    parser.add_argument("--out", required=True, metavar="OUT", help="folder to write")
    parser.add_argument(
        "--columns",
        default="1,2",
        metavar="A,B",
        help="where a TSV holds the pair's first and second language, from 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--min-tokens",
        type=int,
        default=10,
        metavar="N",
        help="drop pairs with a side of fewer WordPieces (default: %(default)s)",
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=128,
        metavar="N",
        help="drop pairs of more WordPieces in all, without [CLS] and [SEP] (default: %(default)s)",
    )
    parser.add_argument(
        "--max-train",
        type=int,
        metavar="N",
        help="keep the first N training pairs of a pair and read no further (the paper: 250k, 600k, 2M)",
    )
    parser.add_argument(
        "--valid-share",
        type=float,
        default=0.01,
        metavar="X",
        help="share of the pairs that is held out for validation; 0: none (default: %(default)s)",
    )
    parser.add_argument(
        "--max-valid",
        type=int,
        default=1000,
        metavar="N",
        help="hold out at most N a pair; the rest is dropped, as another pair may hold out the same sentence "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--pivot",
        default="en",
        metavar="LANG",
        help="hold out by the sentences of this language: none of them is on both sides of the split, in any "
        "pair; pairs without it go by its first language (default: %(default)s)",
    )
    parser.add_argument(
        "--shards",
        type=int,
        default=1,
        metavar="N",
        help="spread the training pairs over OUT/shard0 ... OUT/shardN-1; training reads one an epoch",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes that tokenize (default: all cores)",
    )


def run(args: argparse.Namespace) -> None:
    columns = _check_numbers(args)
    bitexts = [parse_bitext(text) for text in args.pairs]
    _check_names(bitexts)
    texts = tokenizer.read_files(args.tokenizer)
    own = tokenizer.ModelTokenizer(texts, args.tokenizer)
    symbols, unknown = own.symbols, own.symbols[own.unk()]
    if warning := own.case_warning():
        print(warning)
    limits = LengthLimits(args.min_tokens, args.max_tokens)
    setup = (texts, args.tokenizer, limits, args.valid_share)
    all_counts = {}
    with (
        output_folder(args.out, "prepare-bitext") as out,
        OrderedPool(args.workers, encode_in_worker, set_up_worker, setup) as pool,
        tqdm(total=sum(bitext.size for bitext in bitexts), unit="B", unit_scale=True) as progress,
    ):
        folders = [out / f"shard{shard}" for shard in range(args.shards)] if args.shards > 1 else [out]
        for folder in folders:
            folder.mkdir(exist_ok=True)
        tokenizer.write_files(texts, out)
        (out / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols), encoding="utf-8")
        for bitext in bitexts:
            all_counts[bitext.name] = _prepare(bitext, columns, folders, unknown, pool, progress, args)
        statistics = json.dumps({name: vars(counts) for name, counts in all_counts.items()}, indent=1)
        (out / STATISTICS).write_text(statistics + "\n", encoding="utf-8")
    _report(all_counts, unknown)


def _prepare(
    bitext: Bitext,
    columns: tuple[int, int],
    folders: list[Path],
    unknown: str,
    pool: OrderedPool,
    progress: tqdm,
    args: argparse.Namespace,
) -> PairCounts:
    pivot_side = int(bitext.second_lang == args.pivot)
    batches = read_batches(bitext.rows(columns), BATCH, pivot_side)
    start = progress.n
    progress.set_description(bitext.name)
    limits = {"train": args.max_train, "valid": args.max_valid}
    with (
        PairWriter(folders, bitext.name, limits, args.valid_share, unknown) as writer,
        closing(pool.map(batches)) as encoded_batches,
    ):
        for batch, encoded in encoded_batches:
            if not writer.counts.read and batch.pairs:  # so that columns given the wrong way round are seen at once
                first, second = map(shown, batch.pairs[0])
                told = f"{bitext.name}: {bitext.first_lang} {first}, {bitext.second_lang} {second}"
                progress.write(told, file=sys.stderr)
            writer.write(batch, encoded)
            progress.set_postfix(pairs=f"{writer.counts.read:,}", refresh=False)
            progress.update(start + bitext.position - progress.n)
            if writer.full:
                break
    progress.update(start + bitext.size - progress.n)
    writer.check()
    return writer.counts


def _check_numbers(args: argparse.Namespace) -> tuple[int, int]:
    """The columns, counted from 0. Raises InputError on a number out of its range."""
    for name in ("min_tokens", "max_tokens", "max_train", "max_valid", "shards", "workers"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value}: must be at least 1")
    if 2 * args.min_tokens > args.max_tokens:
        raise InputError(
            f"--min-tokens {args.min_tokens} a side with --max-tokens {args.max_tokens} in all: no pair has both; "
            "lower the one or raise the other"
        )
    if not 0 <= args.valid_share < 1:
        raise InputError(f"--valid-share {args.valid_share}: must be from 0 to under 1")
    columns = args.columns.split(",")
    if len(columns) != 2 or columns[0] == columns[1] or not all(column.isdecimal() for column in columns):
        raise InputError(f"--columns {args.columns}: expected two different numbers from 1, as in 2,1")
    first, second = (int(column) - 1 for column in columns)
    if min(first, second) < 0:
        raise InputError(f"--columns {args.columns}: columns are counted from 1")
    return first, second


def _check_names(bitexts: list[Bitext]) -> None:
    named = {}
    for bitext in bitexts:
        languages = frozenset((bitext.first_lang, bitext.second_lang))
        if languages in named:
            raise InputError(
                f"{named[languages]} and {bitext.name} name the same language pair; "
                f"give all its files at once, as in {bitext.name}=FILE,FILE"
            )
        named[languages] = bitext.name


def _report(all_counts: dict[str, PairCounts], unknown: str) -> None:
    reasons = [reason for reason in REASONS if any(counts.dropped[reason] for counts in all_counts.values())]
    rows = [["pair", "read", "train", "valid", *reasons, unknown]]
    for name, counts in all_counts.items():
        dropped = [counts.dropped[reason] for reason in reasons]
        numbers = [f"{number:,}" for number in (counts.read, counts.train, counts.valid, *dropped)]
        share = counts.unknown.total() / counts.tokens.total()
        rows.append([name, *numbers, f"{share:.2%}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    for reason in reasons:
        print(f"{reason}: {REASONS[reason]}")
    for name, counts in all_counts.items():
        for reason, lines in counts.broken_lines.items():
            print(f"{name}: {'; '.join(lines)}{' ...' * (counts.dropped[reason] > len(lines))}")
