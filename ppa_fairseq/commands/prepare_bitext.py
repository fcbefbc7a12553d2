"""Turn raw parallel text into tokens: filtered, split into train and valid, ready for `fairseq-preprocess`.

TEXT is a folder, or a language pair and its files as PAIR=FILE[,FILE...]:

  raw                                  all pairs in the folder raw, under the names that OPUS, WMT, NLLB and
                                       sentence-transformers use: de-en.tsv, NAME-de-en-train.tsv, de-en.txt (with
                                       tabs), NAME.de-en.de with NAME.de-en.en, de-en.txt.zip, de-en.tmx.gz,
                                       en-de/train-00000-of-00001.parquet; other files are listed
  de-en=corpus.tsv.xz                  tab-separated, German before English (or see --columns)
  de-en=europarl.de.gz,europarl.en.gz  two files, line by line translations
  de-en=a.tmx,b.zip,c.jsonl,d.parquet  TMX with these two languages, a .zip of any of these files, named columns
  de-en=folder                         a data set that `datasets` loads: its training split
  de-en=a.tsv,b.de,b.en                several, one after the other

Files may be plain, .gz, .xz, .bz2 or .zst; TMX, Parquet, .zst and data sets need `pip install ppa_fairseq[sources]`.
OUT gets {train,valid}.PAIR.LANGUAGE, dict.txt, the tokenizer's files and statistics.json; an earlier run in OUT is
replaced. Memory does not grow with the text, except for 8 bytes per pair to find duplicates.
"""

import argparse
import math

from ppa_fairseq.commands._bitexts import find_all
from ppa_fairseq.commands.arguments import (
    add_unquote_argument,
    add_workers_argument,
    column_or_name,
    columns_or_names,
    finite,
    positive,
)
from ppa_fairseq.data.bitext.filters import REASONS
from ppa_fairseq.data.bitext.prepare import prepare
from ppa_fairseq.data.bitext.writer import PairCounts
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder
from ppa_fairseq.utils.histogram import histogram
from ppa_fairseq.utils.markdown import markdown_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("texts", nargs="+", metavar="TEXT", help="folder, or PAIR=FILE[,FILE...]")
    add("--tokenizer", required=True, metavar="DIR", help="folder that `ppa import-hf` wrote, or a Hugging Face BERT")
    add("--out", required=True, metavar="OUT", help="folder to write")
    add("--columns", type=columns_or_names, metavar="A,B",
        help="columns that hold the pair's first and second language: of a TSV by number from 1 (default: the first "
        "two that do not hold numbers), elsewhere by name, as en,de or translation.en,translation.de (default: those "
        "named after the languages, or english and non_english, source and target, ...)")  # fmt: skip
    add_unquote_argument(parser)
    add("--min-tokens", type=positive, default=10, metavar="N",
        help="drop pairs with fewer tokens on one side (default: %(default)s)")  # fmt: skip
    add("--max-tokens", type=positive, default=128, metavar="N",
        help="drop pairs with more tokens in all, without [CLS] and [SEP] (default: %(default)s)")  # fmt: skip
    add("--score-column", type=column_or_name, metavar="C",
        help="column that holds a score of the pair (LASER, Bicleaner, COMET), by number from 1 or by name; for two "
        "files it is in NAME.scores beside them, as in OPUS's NLLB")  # fmt: skip
    add("--min-score", type=finite, metavar="X", help="drop pairs with a lower score; prints a histogram")
    add("--max-ratio", type=_above_one, nargs="?", const=3.0, metavar="X",
        help="drop pairs with over X times the tokens of one side on the other (X: 3; default: off)")  # fmt: skip
    add("--max-overlap", type=_share, nargs="?", const=0.6, metavar="X",
        help="drop pairs whose sides share more than X of the words of the side with fewer, as what was left "
        "untranslated does (X: 0.6; default: off)")  # fmt: skip
    add("--check-language", action="store_true",
        help="drop pairs with a side that is in another language, as py3langid finds with over 50 %%")  # fmt: skip
    add("--max-train", type=positive, metavar="N",
        help="keep the first N training pairs of a pair and read no further (the paper: 250k, 600k, 2M)")  # fmt: skip
    add("--valid-share", type=_share, default=0.01, metavar="X",
        help="share of the pairs to hold out for validation; 0: none (default: %(default)s)")  # fmt: skip
    add("--max-valid", type=positive, default=1000, metavar="N",
        help="hold out at most N per pair and drop the rest, as another pair may hold out the same sentence "
        "(default: %(default)s)")  # fmt: skip
    add("--pivot", default="en", metavar="LANG",
        help="hold out by the sentences of this language: none of them is in both splits, in any pair; pairs without "
        "it go by their first language (default: %(default)s)")  # fmt: skip
    add("--shards", type=positive, default=1, metavar="N",
        help="spread the training pairs over OUT/shard0 ... OUT/shardN-1; training reads one per epoch")  # fmt: skip
    add_workers_argument(parser)


def run(args: argparse.Namespace) -> None:
    if args.max_tokens < 2 * args.min_tokens:
        raise InputError(
            f"--min-tokens {args.min_tokens} a side and --max-tokens {args.max_tokens} in all leave no pair; change one"
        )
    if (args.score_column is None) != (args.min_score is None):
        raise InputError("--score-column and --min-score belong together; give both")
    bitexts = find_all(args.texts)
    with output_folder(args.out, "prepare-bitext") as out:
        counts = prepare(bitexts, out, args)
    _report(counts, args.min_score)


def _above_one(text: str) -> float:
    number = float(text)
    if not 1 < number < math.inf:
        raise argparse.ArgumentTypeError("must be above 1")
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError("must be from 0 to under 1")
    return share


def _report(all_counts: dict[str, PairCounts], min_score: float | None) -> None:
    reasons = [reason for reason in REASONS if any(counts.dropped[reason] for counts in all_counts.values())]
    rows = [["pair", "read", "train", "valid", *reasons, "[UNK]"]]
    for name, counts in all_counts.items():
        numbers = counts.read, counts.train, counts.valid, *map(counts.dropped.__getitem__, reasons)
        unknown = counts.unknown.total() / counts.tokens.total()
        rows.append([name, *(f"{number:,}" for number in numbers), f"{unknown:.2%}"])
    print(markdown_table(rows))
    for reason in reasons:
        print(f"{reason}: {REASONS[reason]}")
    for name, counts in all_counts.items():
        for reason, lines in counts.broken_lines.items():
            print(f"{name}: {'; '.join(lines)}{' ...' * (counts.dropped[reason] > len(lines))}")
        if min_score is not None:
            print(f"{name}: pairs by score\n{histogram(counts.scores, min_score)}")
