"""Align words without training, and measure the alignment against a gold standard.

Words are linked by the similarity of their contextual vectors, from both sides: above a threshold of a softmax (as
awesome-align) or as nearest neighbours (as SimAlign's argmax). Without --output and --gold the links are printed, one
line per pair, as `i-j` counted from 0 (Pharaoh). --gold prints precision, recall and alignment error rate instead.

  ppa word-align --model mbert=mbert/ --layer 8 --text de-en.tsv > de-en.links
  ppa word-align --model before=mbert/ --model after=checkpoint_best.pt --layer all \\
      --text enfr.src-tgt --gold enfr.gold --gold-base 1 --output alignment/
"""

import argparse
import sys
from contextlib import ExitStack
from itertools import islice, product
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.commands._evaluation import (
    describe,
    limits,
    note_precision,
    note_truncated,
    optional_folder,
    probability,
    write_report,
)
from ppa_fairseq.commands.arguments import (
    Once,
    add_batching_arguments,
    add_columns_argument,
    add_models_argument,
    add_unquote_argument,
    check_models,
)
from ppa_fairseq.data.word_pairs import word_pairs
from ppa_fairseq.utils.errors import InputError, about_model

WINDOW = 2**12  # pairs aligned at a time: enough to sort by length, for a text of any size
JSON_FILE = "alignment.json"
SETTINGS = ("layer", "method", "threshold", "gold_base", "batch_tokens")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_models_argument(parser, "an encoder (a fairseq checkpoint, an imported folder or a Hugging Face folder)")
    add("--text", metavar="FILE", type=Path, action=Once, required=True,
        help="sentence pairs with spaces between words: `source ||| target` lines, or a .tsv; plain or packed")
    add_columns_argument(parser)
    add_unquote_argument(parser)
    add("--layer", default="last",
        help="last (default), all, or a number; 0 is the embeddings (for mBERT, 8 is known to work well)")  # fmt: skip
    add("--method", choices=("softmax", "argmax", "both"), default="softmax", help="default: softmax")
    add("--threshold", metavar="P", type=probability, default=0.001,
        help="softmax: the probability that a link must exceed on both sides (default: 0.001)")  # fmt: skip
    add("--gold", metavar="FILE", type=Path, action=Once,
        help="the true links, one line per pair: i-j (sure) and ipj (possible)")  # fmt: skip
    add("--gold-base", type=int, choices=(0, 1), default=0,
        help="the number of a sentence's first word in the gold (default: 0)")  # fmt: skip
    add("--output", metavar="DIR", type=Path,
        help=f"folder for the links (MODEL-layerN-METHOD.txt) and {JSON_FILE}; with --gold also table.md")  # fmt: skip
    add_batching_arguments(parser)


def run(args: argparse.Namespace) -> None:
    check_models(args.models, name_files=bool(args.output))
    args.methods = ("softmax", "argmax") if args.method == "both" else (args.method,)
    if not (args.output or args.gold) and len(args.models) * len(args.methods) > 1:
        raise InputError("several models or methods: give --output DIR, which gets a file of links for each")
    checked = word_pairs(args.text, args.columns, args.unquote, warn=lambda message: print(message, file=sys.stderr))
    sizes = ((len(source), len(target)) for source, target in checked)
    from ppa_fairseq.evaluation.word_alignment import report
    from ppa_fairseq.evaluation.word_alignment.error_rate import read_gold

    gold = read_gold(args.gold, args.gold_base, sizes) if args.gold else None
    pairs = len(gold) if gold else sum(1 for _ in sizes)
    with optional_folder(args.output, "word-align") as folder:
        models, results = {}, []
        for name, path in args.models:
            with about_model(name):
                models[name], aligned = align(name, path, pairs, gold, folder, args)
            results += aligned
        tables = report.tables(results, args.layer == "all") if gold else ""
        if folder:
            about_gold = gold and {
                "file": str(args.gold),
                "sure": sum(len(links.sure) for links in gold),
                "possible": sum(len(links.possible) for links in gold),
            }
            text = {"file": str(args.text), "pairs": pairs}
            write_report(
                folder, JSON_FILE, tables, args, SETTINGS, models=models, text=text, gold=about_gold, results=results
            )
    if gold:
        print(tables)
    if args.output:
        print(f"{args.output}: the links, {JSON_FILE}{', table.md' if gold else ''}")


def align(
    name: str, path: Path, pairs: int, gold: list | None, folder: Path | None, args: argparse.Namespace
) -> tuple[dict, list]:
    """Align with one encoder; facts about it, and its results. Links go to files, or to stdout without a gold."""
    from ppa_fairseq.checkpoints.format import load_encoder
    from ppa_fairseq.evaluation.embedding import choose_layers
    from ppa_fairseq.evaluation.word_alignment.aligner import WordAligner
    from ppa_fairseq.evaluation.word_alignment.error_rate import Tally
    from ppa_fairseq.evaluation.word_alignment.report import result

    encoder, tokenizer = load_encoder(path)
    layers = choose_layers(args.layer, encoder.cfg.layers)
    kinds = list(product(layers, args.methods))
    if not (folder or gold) and len(kinds) > 1:
        raise InputError("--layer all: give --output DIR, which gets a file of links for each layer")
    aligner = WordAligner(encoder, tokenizer, layers, args.methods, args.threshold, **limits(args))
    links = dict.fromkeys(kinds, 0)
    tallies = {kind: Tally() if gold else None for kind in kinds}
    with ExitStack() as stack, tqdm(total=pairs, desc=name, unit="pair", unit_scale=True) as bar:
        files = dict.fromkeys(kinds, None if gold else sys.stdout)
        if folder:
            paths = {(layer, method): folder / f"{name}-layer{layer}-{method}.txt" for layer, method in kinds}
            files = {kind: stack.enter_context(open(path, "w", encoding="ascii")) for kind, path in paths.items()}
        done, text = 0, word_pairs(args.text, args.columns, args.unquote)
        while window := list(islice(text, WINDOW)):
            for kind, found in aligner(window, bar.update).items():
                for number, pair_links in enumerate(found, done):
                    links[kind] += len(pair_links)
                    if files[kind]:
                        files[kind].write(" ".join(f"{i}-{j}" for i, j in pair_links.tolist()) + "\n")
                    if gold:
                        tallies[kind].add(set(map(tuple, pair_links.tolist())), gold[number])
            done += len(window)
    note_truncated(name, aligner, 2 * pairs, "sentences")
    note_precision(name, aligner, "token vectors")
    facts = describe(path, aligner, truncated=aligner.truncated)
    return facts, [result(name, *kind, pairs, links[kind], tallies[kind]) for kind in kinds]
