"""Measure alignment: does a sentence find its translation, before and after?

Top-1 retrieval accuracy in both directions, for encoders × sets of sentence pairs, as a table; with --output
also as table.md, retrieval.json and plots. Gains are over the first model.

  ppa retrieve --model before=mbert/ --model after=checkpoint_best.pt --pairs tatoeba/ --output retrieval/
"""

import argparse
import json
import sys
from contextlib import nullcontext
from dataclasses import asdict
from itertools import product
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.commands.arguments import (
    add_batching_arguments,
    add_columns_argument,
    add_models_argument,
    check_models,
    positive,
)
from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.evaluation.retrieval.pair_sets import find_pair_sets, read_pairs
from ppa_fairseq.utils.errors import InputError, about_model
from ppa_fairseq.utils.files import output_folder

JSON_FILE = "retrieval.json"
Pairs = dict[str, tuple[list[str], list[str]]]  # {"de-en": (German, English)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_models_argument(parser, "an encoder (a fairseq checkpoint, an imported folder or a Hugging Face folder)")
    add("--pairs", metavar="PATH", type=Path, nargs="+", action="extend", required=True,
        help="sets of pairs, or folders of them: xx-yy.xx beside xx-yy.yy, or xx-yy*.tsv with columns xx and "
             "yy; plain, .gz or .xz (in a folder, *.train.* is passed over)")  # fmt: skip
    add_columns_argument(parser)
    add("--layer", default="last", help="last (default), all, or a number; 0 is the embeddings")
    add("--pooling", choices=("cls", "mean", "both"), default="mean", help="default: mean")
    add("--scoring", choices=("cosine", "margin", "both"), default="cosine", help="default: cosine")
    add("--neighbours", metavar="K", type=positive, default=4,
        help="nearest neighbours in the margin (default: 4)")  # fmt: skip
    add("--max-pairs", metavar="N", type=int, default=300,
        help="the first N pairs of each set; 0 for all (default: 300)")  # fmt: skip
    add("--output", metavar="DIR", type=Path,
        help=f"new folder for table.md, {JSON_FILE} and plots (an earlier retrieval is replaced)")  # fmt: skip
    add_batching_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.evaluation.retrieval import report

    check_models(args.models)
    if args.max_pairs < 0 or args.max_pairs == 1:
        raise InputError(f"--max-pairs {args.max_pairs}: give two pairs or more, or 0 for all")
    with output_folder(args.output, "retrieve") if args.output else nullcontext() as folder:
        sets = find_pair_sets(args.pairs)
        pairs = {found.name: read_pairs(found, args.max_pairs or None, args.columns) for found in sets}
        models, results = {}, []
        for name, path in args.models:
            with about_model(name):
                models[name], measured = measure(name, path, pairs, args)
            results += measured
        results += report.averages(results)
        report.add_gains(results, base=args.models[0][0], by_layer=args.layer == "all")
        columns = report.directions(list(pairs))
        tables = report.tables(results, args.layer, columns)
        if folder:
            write(folder, args, models, sets, pairs, results, tables)
            report.plot(results, args.layer, columns, folder)
    print(tables)
    if folder:
        print(f"{args.output}: table.md, {JSON_FILE} and plots")


def measure(name: str, path: Path, pairs: Pairs, args: argparse.Namespace) -> tuple[dict, list]:
    """What one encoder is, and its results on all sets at every wanted layer, pooling and scoring."""
    from ppa_fairseq.checkpoints.format import load_encoder
    from ppa_fairseq.evaluation.embedding import POOLINGS, SentenceEmbedder, choose_layers
    from ppa_fairseq.evaluation.retrieval.accuracy import SCORINGS, retrieval_accuracy
    from ppa_fairseq.evaluation.retrieval.report import Result

    encoder, tokenizer = load_encoder(path)
    layers = choose_layers(args.layer, encoder.cfg.layers)
    poolings = POOLINGS if args.pooling == "both" else [args.pooling]
    scorings = SCORINGS if args.scoring == "both" else [args.scoring]
    embedder = SentenceEmbedder(
        encoder, tokenizer, layers, poolings, args.max_length, args.batch_tokens, args.cpu
    )
    results = []
    sentences = sum(len(side) for sides in pairs.values() for side in sides)
    with tqdm(total=sentences, desc=name, unit="sentence") as bar:
        for pair, sides in pairs.items():
            source, target = (embedder(side, bar.update) for side in sides)  # {pooling: (layers, N, C)}
            for (place, layer), pooling, scoring in product(enumerate(layers), poolings, scorings):
                vectors = (side[pooling][place].to(embedder.device) for side in (source, target))
                accuracy = retrieval_accuracy(*vectors, scoring, args.neighbours)
                results.append(Result(name, pair, layer, pooling, scoring, len(sides[0]), *accuracy))
    if embedder.truncated:
        note = f"{name}: {embedder.truncated} of {sentences} sentences cut to {embedder.max_length} pieces"
        print(note, file=sys.stderr)
    model = {
        "path": str(path),
        "layers": encoder.cfg.layers,
        "dim": encoder.cfg.dim,
        "max_length": embedder.max_length,
        "sentences": sentences,
        "truncated": embedder.truncated,
        "device": str(embedder.device),
    }
    return model, results


def write(
    folder: Path,
    args: argparse.Namespace,
    models: dict,
    sets: list[Bitext],
    pairs: Pairs,
    results: list,
    tables: str,
) -> None:
    """table.md and retrieval.json: settings, models, sets, and every result with its gain."""
    flags = ("layer", "pooling", "scoring", "neighbours", "max_pairs", "batch_tokens")
    document = {
        "settings": {flag: getattr(args, flag) for flag in flags},
        "models": models,
        "sets": {
            found.name: {
                "files": [str(file) for part in found.parts for file in part],
                "pairs": len(pairs[found.name][0]),
            }
            for found in sets
        },
        "results": [asdict(result) for result in results],
    }
    (folder / JSON_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(tables, encoding="utf-8")
