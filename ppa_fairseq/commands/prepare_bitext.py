"""Turn raw parallel text into tokens: filtered, split into train and valid, ready for `fairseq-preprocess`.

TEXT is a folder, or a language pair and its files as PAIR=FILE[,FILE...]:

  raw                                  all pairs in the folder raw, under the names that OPUS, WMT and
                                       sentence-transformers use: de-en.tsv, NAME-de-en-train.tsv, de-en.txt (with
                                       tabs), NAME.de-en.de with NAME.de-en.en; other files are listed
  de-en=corpus.tsv.xz                  tab-separated, German before English (or see --columns)
  de-en=europarl.de.gz,europarl.en.gz  two files, line by line translations
  de-en=a.tsv,b.de,b.en                both, one after the other

Files may be plain, .gz or .xz. OUT gets {train,valid}.PAIR.LANGUAGE, dict.txt, the tokenizer's files and
statistics.json; an earlier run in OUT is replaced. Memory does not grow with the text, except for 8 bytes per pair to
find duplicates.
"""

import argparse
import sys
from pathlib import Path

from ppa_fairseq.commands.arguments import add_unquote_argument, add_workers_argument, positive, two_columns
from ppa_fairseq.data.bitext.filters import REASONS
from ppa_fairseq.data.bitext.find_files import find_bitexts
from ppa_fairseq.data.bitext.prepare import prepare
from ppa_fairseq.data.bitext.reader import Bitext, parse_bitext
from ppa_fairseq.data.bitext.writer import PairCounts
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder
from ppa_fairseq.utils.markdown import markdown_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("texts", nargs="+", metavar="TEXT", help="folder, or PAIR=FILE[,FILE...]")
    add("--tokenizer", required=True, metavar="DIR", help="folder that `ppa import-hf` wrote, or a Hugging Face BERT")
    add("--out", required=True, metavar="OUT", help="folder to write")
    add("--columns", type=two_columns, metavar="A,B",
        help="columns of a TSV that hold the pair's first and second language, from 1 (default: the first two that do "
        "not hold numbers)")  # fmt: skip
    add_unquote_argument(parser)
    add("--min-tokens", type=positive, default=10, metavar="N",
        help="drop pairs with fewer tokens on one side (default: %(default)s)")  # fmt: skip
    add("--max-tokens", type=positive, default=128, metavar="N",
        help="drop pairs with more tokens in all, without [CLS] and [SEP] (default: %(default)s)")  # fmt: skip
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
    bitexts = [bitext for text in args.texts for bitext in _bitexts(text)]
    with output_folder(args.out, "prepare-bitext") as out:
        counts = prepare(bitexts, out, args)
    _report(counts)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError("must be from 0 to under 1")
    return share


def _bitexts(text: str) -> list[Bitext]:
    if not Path(text).is_dir():
        return [parse_bitext(text)]
    bitexts, passed_over = find_bitexts(Path(text))
    for bitext in bitexts:
        print(f"{bitext.name}: {', '.join(str(path) for part in bitext.parts for path in part)}", file=sys.stderr)
    for line in passed_over:
        print(f"not taken: {line}", file=sys.stderr)
    return bitexts


def _report(all_counts: dict[str, PairCounts]) -> None:
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
