"""Measure alignment: does a sentence find its translation, before and after training?

Prints top-1 retrieval accuracy in both directions, for each encoder and each set of sentence pairs. Gains are over the
first model. --output also writes table.md, retrieval.json and plots.

  ppa retrieve --model before=mbert/ --model after=checkpoint_best.pt --pairs tatoeba/ --output retrieval/
"""

import argparse
import sys
from itertools import product
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.commands._evaluation import (
    describe,
    load_embedder,
    note_precision,
    note_truncated,
    optional_folder,
    write_report,
)
from ppa_fairseq.commands.arguments import (
    add_columns_argument,
    add_embedding_arguments,
    add_models_argument,
    add_unquote_argument,
    check_models,
    positive,
)
from ppa_fairseq.evaluation.results import Result
from ppa_fairseq.evaluation.retrieval.pair_sets import Sides, find_pair_sets, order_warning, read_pairs, text_numbers
from ppa_fairseq.utils.errors import InputError, about_model

JSON_FILE = "retrieval.json"
SETTINGS = ("layer", "pooling", "scoring", "neighbours", "max_pairs", "batch_tokens")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_models_argument(parser, "an encoder (a fairseq checkpoint, an imported folder or a Hugging Face folder)")
    add("--pairs", metavar="PATH", type=Path, nargs="+", action="extend", required=True,
        help="sets of pairs, or folders with sets: NAME.xx-yy.xx and NAME.xx-yy.yy, or xx-yy.NAME.tsv with columns xx "
             "and yy; plain, .gz, .xz, .bz2 or .zst (in a folder, *.train.* is ignored)")  # fmt: skip
    add_columns_argument(parser)
    add_unquote_argument(parser)
    add("--layer", default="last", help="last (default), all, or a number; 0 is the embeddings")
    add("--scoring", choices=("cosine", "margin", "both"), default="cosine", help="default: cosine")
    add("--neighbours", metavar="K", type=positive, default=4,
        help="nearest neighbours for the margin (default: 4)")  # fmt: skip
    add("--max-pairs", metavar="N", type=int, default=300,
        help="measure the first N pairs of each set; 0: all (default: 300)")  # fmt: skip
    add("--output", metavar="DIR", type=Path,
        help=f"folder for table.md, {JSON_FILE} and plots; an earlier retrieval there is replaced")  # fmt: skip
    add_embedding_arguments(parser, both=True)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.evaluation.retrieval import report

    check_models(args.models)
    if args.max_pairs < 0 or args.max_pairs == 1:
        raise InputError(f"--max-pairs {args.max_pairs}: give two pairs or more, or 0 for all")
    with optional_folder(args.output, "retrieve") as folder:
        sets = {found.name: found for found in find_pair_sets(args.pairs)}
        how = args.max_pairs or None, args.columns, args.unquote
        pairs = {name: read_pairs(found, *how) for name, found in sets.items()}
        models, results = {}, []
        for name, path in args.models:
            with about_model(name):
                models[name], measured = measure(name, path, pairs, args)
            results += measured
        for name, found in sets.items():
            accuracies = [one[side] for one in results if one["pair"] == name for side in report.SIDES]
            if warning := order_warning(found, pairs[name], accuracies):
                print(f"warning: {warning}", file=sys.stderr)
        about_sets = {name: about_set(found, pairs[name]) for name, found in sets.items()}
        results = report.add_averages_and_gains(results, by_layer=args.layer == "all")
        columns = report.directions(list(pairs))
        tables = report.tables(results, args.layer, columns) + note_repeated(about_sets)
        if folder:
            write_report(folder, JSON_FILE, tables, args, SETTINGS, models=models, sets=about_sets, results=results)
            report.plot(results, args.layer, columns, folder)
    print(tables)
    if folder:
        print(f"{args.output}: table.md, {JSON_FILE} and plots")


def about_set(found, sides: Sides) -> dict:
    """Facts for the JSON file; "repeated" counts the further copies of sentences on each side."""
    repeated = [len(side) - len(set(text_numbers(side))) for side in sides]
    return {
        "files": [str(file) for part in found.parts for file in part],
        "pairs": len(sides[0]),
        "repeated": dict(zip((found.first_lang, found.second_lang), repeated, strict=True)),
    }


def note_repeated(sets: dict[str, dict]) -> str:
    """How many sentences have the text of an earlier one, if any."""
    counts = {f"{language} in {name}": count for name, about in sets.items()
              for language, count in about["repeated"].items() if count}  # fmt: skip
    found = ", ".join(f"{count} {where}" for where, count in counts.items())
    return f"\nSome sentences repeat an earlier one ({found}); any copy of the right one counts.\n" if found else ""


def measure(name: str, path: Path, pairs: dict[str, Sides], args: argparse.Namespace) -> tuple[dict, list]:
    """Measure one encoder on all sets at every selected layer, pooling and scoring; facts about it, and the results."""
    import torch

    from ppa_fairseq.evaluation.retrieval.accuracy import SCORINGS, retrieval_accuracy
    from ppa_fairseq.evaluation.retrieval.report import SIDES

    embedder = load_embedder(name, path, args, several=True)
    layers, poolings = embedder.layers, embedder.poolings
    scorings = SCORINGS if args.scoring == "both" else [args.scoring]
    results = []
    sentences = sum(len(side) for sides in pairs.values() for side in sides)
    with tqdm(total=sentences, desc=name, unit="sentence") as bar:
        for pair, sides in pairs.items():
            source, target = (embedder(side, bar.update) for side in sides)  # {pooling: (layers, N, C)}
            texts = [torch.from_numpy(text_numbers(side)) for side in sides]
            for (place, layer), pooling, scoring in product(enumerate(layers), poolings, scorings):
                vectors = (side[pooling][place].to(embedder.device) for side in (source, target))
                accuracy = retrieval_accuracy(*vectors, scoring, args.neighbours, texts=texts)
                where = {"pair": pair, "layer": layer, "pooling": pooling, "scoring": scoring}
                measures = {"pairs": len(sides[0]), **dict(zip(SIDES, accuracy, strict=True))}
                results.append(Result(name, where, measures))
    note_truncated(name, embedder, sentences, "sentences")
    note_precision(name, embedder, "token vectors")
    return describe(path, embedder, sentences=sentences, truncated=embedder.truncated), results
