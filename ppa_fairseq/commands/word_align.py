"""Align words, without training: which words of two sentences translate each other, and how well that is known.

Words are linked by the similarity of their contextual vectors, from both sides: above a threshold of a softmax (as
awesome-align) or as nearest neighbours (as SimAlign's argmax). Without --output and --gold the links are printed, a
line a pair, `i-j` counted from 0 (Pharaoh). With --gold they are measured: precision, recall, alignment error rate.

  ppa word-align --model mbert=mbert/ --layer 8 --text de-en.tsv > de-en.links
  ppa word-align --model before=mbert/ --model after=checkpoint_best.pt --layer all \\
      --text enfr.src-tgt --gold enfr.gold --gold-base 1 --output alignment/
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice, product
from pathlib import Path
from typing import IO

from tqdm import tqdm

from ppa_fairseq.commands.arguments import (
    Once,
    add_batching_arguments,
    add_columns_argument,
    add_models_argument,
    check_models,
)
from ppa_fairseq.data.word_pairs import Words, word_pairs
from ppa_fairseq.utils.errors import InputError, about_model
from ppa_fairseq.utils.files import output_folder

# Pairs aligned and written at a time: enough to sort by length, whatever the size of the text.
WINDOW = 2**12
JSON_FILE = "alignment.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_models_argument(parser, "an encoder (a fairseq checkpoint, an imported folder or a Hugging Face folder)")
    add("--text", metavar="FILE", type=Path, action=Once, required=True,
        help="pairs of sentences whose words stand between spaces: `source ||| target` lines, or a .tsv; plain, .gz "
             "or .xz")  # fmt: skip
    add_columns_argument(parser)
    add("--layer", default="last",
        help="last (default), all, or a number; 0 is the embeddings (8 is known to serve mBERT)")  # fmt: skip
    add("--method", choices=("softmax", "argmax", "both"), default="softmax", help="default: softmax")
    add("--threshold", metavar="P", type=probability,
        help="softmax: the probability that a link must exceed on both sides (default: 0.001)")  # fmt: skip
    add("--gold", metavar="FILE", type=Path, action=Once,
        help="the true links, a line a pair: i-j (sure) and ipj (possible)")  # fmt: skip
    add("--gold-base", type=int, choices=(0, 1), default=0, help="number of a sentence's first word there (default: 0)")
    add("--output", metavar="DIR", type=Path,
        help=f"folder for the links (MODEL-layerN-METHOD.txt) and {JSON_FILE}; with --gold also table.md and, by "
             "layer, plots")  # fmt: skip
    add_batching_arguments(parser)


def probability(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError("must be a probability: 0 or more, and below 1")
    return number


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.evaluation.word_alignment import report
    from ppa_fairseq.evaluation.word_alignment.aligner import METHODS, THRESHOLD
    from ppa_fairseq.evaluation.word_alignment.error_rate import read_gold

    check_models(args.models, name_files=bool(args.output))
    args.methods = METHODS if args.method == "both" else (args.method,)
    if args.threshold is not None and "softmax" not in args.methods:
        raise InputError(f"--threshold {args.threshold}: --method {args.method} has none; leave it out")
    args.threshold = THRESHOLD if args.threshold is None else args.threshold
    if not (args.output or args.gold) and len(args.models) * len(args.methods) > 1:
        raise InputError("several models or methods: give --output DIR, for the links of each in a file")
    sizes = ((len(source), len(target)) for source, target in word_pairs(args.text, args.columns))
    gold = read_gold(args.gold, args.gold_base, sizes) if args.gold else None
    pairs = len(gold) if gold else sum(1 for _ in sizes)
    with ExitStack() as stack:
        folder = stack.enter_context(output_folder(args.output, "word-align")) if args.output else None
        models, results = {}, []
        for name, path in args.models:
            with about_model(name):
                models[name], aligned = align(name, path, pairs, gold, folder, args)
            results += aligned
        tables = report.tables(results, args.layer == "all") if gold else ""
        if folder:
            write(folder, args, models, gold, results, tables)
            if gold and args.layer == "all":
                report.plot(results, folder)
    if gold:
        print(tables)
    if args.output:
        measured = f", table.md{', plots' * (args.layer == 'all')}" if gold else ""
        print(f"{args.output}: the links, {JSON_FILE}{measured}")


def align(
    name: str, path: Path, pairs: int, gold: "list | None", folder: Path | None, args: argparse.Namespace
) -> tuple[dict, list]:
    """What one encoder is, and its results by layer and method; its links go to files, or else to stdout."""
    from ppa_fairseq.checkpoints.format import load_encoder
    from ppa_fairseq.evaluation.embedding import choose_layers
    from ppa_fairseq.evaluation.word_alignment.aligner import WordAligner
    from ppa_fairseq.evaluation.word_alignment.error_rate import Tally
    from ppa_fairseq.evaluation.word_alignment.report import Result

    encoder, tokenizer = load_encoder(path)
    layers = choose_layers(args.layer, encoder.cfg.layers)
    kinds = list(product(layers, args.methods))
    if not (folder or gold) and len(kinds) > 1:
        raise InputError("--layer all: give --output DIR, for the links of each layer in a file")
    aligner = WordAligner(
        encoder, tokenizer, layers, args.methods, args.threshold, args.max_length, args.batch_tokens, args.cpu
    )
    links = dict.fromkeys(kinds, 0)
    tallies = {kind: Tally() if gold else None for kind in kinds}
    with ExitStack() as stack, tqdm(total=pairs, desc=name, unit="pair", unit_scale=True) as bar:
        files = {kind: open_links(stack, folder, name, *kind, gold is not None) for kind in kinds}
        done = 0
        for window in windows(word_pairs(args.text, args.columns)):
            for kind, found in aligner(window, bar.update).items():
                for number, pair_links in enumerate(found, done):
                    links[kind] += len(pair_links)
                    if files[kind]:
                        files[kind].write(" ".join(f"{i}-{j}" for i, j in pair_links.tolist()) + "\n")
                    if gold:
                        tallies[kind].add(set(map(tuple, pair_links.tolist())), gold[number])
            done += len(window)
        if done != pairs:
            raise InputError(f"{args.text}: {pairs} lines, then {done}: the file changed while it was read")
    if aligner.truncated:
        note = f"{name}: {aligner.truncated} of {2 * pairs} sentences cut to {aligner.max_length} pieces"
        print(note, file=sys.stderr)
    model = {
        "path": str(path),
        "layers": encoder.cfg.layers,
        "dim": encoder.cfg.dim,
        "max_length": aligner.max_length,
        "truncated": aligner.truncated,
        "device": str(aligner.device),
    }
    return model, [Result.of(name, *kind, pairs, links[kind], tallies[kind]) for kind in kinds]


def windows(pairs: Iterator[Words]) -> Iterator[list[Words]]:
    while window := list(islice(pairs, WINDOW)):
        yield window


def open_links(
    stack: ExitStack, folder: Path | None, name: str, layer: int, method: str, measured: bool
) -> IO[str] | None:
    """Where the links of one layer and method go: a file in `folder`, else stdout, unless they are only measured."""
    if folder:
        return stack.enter_context(open(folder / f"{name}-layer{layer}-{method}.txt", "w", encoding="ascii"))
    return None if measured else sys.stdout


def write(
    folder: Path, args: argparse.Namespace, models: dict, gold: "list | None", results: list, tables: str
) -> None:
    """alignment.json (settings, models, text, gold, every result) and, if there is a gold standard, table.md."""
    flags = ("layer", "method", "threshold", "gold_base", "batch_tokens")
    document = {
        "settings": {flag: getattr(args, flag) for flag in flags},
        "models": models,
        "text": {"file": str(args.text), "pairs": results[0].pairs},
        "gold": gold and {
            "file": str(args.gold),
            "sure": sum(len(links.sure) for links in gold),
            "possible": sum(len(links.possible) for links in gold),
        },
        "results": [asdict(result) for result in results],
    }
    (folder / JSON_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if gold:
        (folder / "table.md").write_text(tables, encoding="utf-8")
