"""Measure how well a model still predicts masked tokens, language by language.

15 % of the tokens of each sentence (--text) or sentence pair in one sequence (--pairs: TLM) are masked, the same tokens
for all models of one vocabulary. The tables have the cross-entropy of masked tokens in bits, the perplexity (2 to the
power of the bits) and the percentage predicted right. Do not compare models of different vocabularies.

  ppa perplexity --model before=mbert/ --model after=checkpoint_best.pt \\
      --text de=tatoeba/de-en.de --text en=tatoeba/de-en.en --pairs tatoeba/ --output perplexity/
"""

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

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
    add_batching_arguments,
    add_columns_argument,
    add_models_argument,
    add_unquote_argument,
    check_models,
    named_path,
)
from ppa_fairseq.data.text_files import text_lines
from ppa_fairseq.evaluation.results import AVERAGE, Result, averages, table_by_model
from ppa_fairseq.evaluation.retrieval.pair_sets import find_pair_sets, read_pairs
from ppa_fairseq.utils.errors import InputError, about_model

JSON_FILE = "perplexity.json"
SETTINGS = ("mask", "seed", "max_sentences", "max_length", "batch_tokens")
MLM, TLM = "MLM", "TLM"
TITLES = {MLM: "Masked tokens of sentences (MLM)", TLM: "Masked tokens of sentence pairs (TLM)"}
FORMATS = {"bits": ".2f", "perplexity": ".1f", "accuracy": ".1f"}
UNTRAINED = "\n* Its MLM head was never trained, so these figures say nothing about its encoder.\n"


class Text(NamedTuple):
    """What is masked: sentences, or pairs of them as two lists."""

    name: str  # "de", or "de-en"
    kind: str
    files: list[str]
    sides: tuple[list[str], ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_models_argument(parser, "an encoder and MLM head (a fairseq checkpoint, an imported or a Hugging Face folder)")
    add("--text", dest="texts", metavar="LANG=FILE", type=named_path, action="append", default=[],
        help="sentences of one language, one per line; plain or packed; repeat the flag for more")  # fmt: skip
    add("--pairs", metavar="PATH", type=Path, nargs="+", action="extend", default=[],
        help="sets of pairs, or folders with sets: xx-yy.xx and xx-yy.yy, or xx-yy*.tsv")  # fmt: skip
    add_columns_argument(parser)
    add_unquote_argument(parser)
    add("--max-sentences", metavar="N", type=int, default=1000,
        help="measure the first N sentences or pairs of each text; 0: all (default: 1000)")  # fmt: skip
    add("--mask", metavar="P", type=probability, default=0.15, help="share of the tokens to mask (default: 0.15)")
    add("--seed", metavar="N", type=int, default=1, help="of the masks (default: 1)")
    add("--output", metavar="DIR", type=Path,
        help=f"folder for table.md and {JSON_FILE}; an earlier perplexity there is replaced")  # fmt: skip
    add_batching_arguments(parser, max_length=128)


def run(args: argparse.Namespace) -> None:
    check_models(args.models)
    if args.max_sentences < 0:
        raise InputError(f"--max-sentences {args.max_sentences}: give 1 or more, or 0 for all")
    with optional_folder(args.output, "perplexity") as folder:
        texts = read_texts(args)
        models, results = {}, []
        for name, path in args.models:
            with about_model(name):
                models[name], measured = measure(name, path, texts, args)
            results += measured
        tables = "\n".join(table(kind, models, results) for kind in TITLES if any(r["kind"] == kind for r in results))
        if folder:
            about_texts = [
                {"name": text.name, "kind": text.kind, "files": text.files, "sentences": len(text.sides[0])}
                for text in texts
            ]
            write_report(folder, JSON_FILE, tables, args, SETTINGS, models=models, texts=about_texts, results=results)
    print(tables)
    if folder:
        print(f"{args.output}: table.md and {JSON_FILE}")


def read_texts(args: argparse.Namespace) -> list[Text]:
    """All texts, in memory. Raises InputError if there is none, or two have the same name."""
    limit = args.max_sentences or None
    texts = [Text(name, MLM, [str(path)], (list(islice(text_lines(path), limit)),)) for name, path in args.texts]
    names = [text.name for text in texts] + [AVERAGE]
    for name in names[:-1]:
        if names.count(name) > 1:
            raise InputError(f"--text {name}=…: the name is taken; name each text differently")
    for found in find_pair_sets(args.pairs):
        files = [str(file) for part in found.parts for file in part]
        texts.append(Text(found.name, TLM, files, read_pairs(found, limit, args.columns, args.unquote)))
    if not texts:
        raise InputError("neither --text nor --pairs; give a text to mask")
    return texts


def measure(name: str, path: Path, texts: Sequence[Text], args: argparse.Namespace) -> tuple[dict, list[Result]]:
    """Measure one model on all texts; facts about it, and its results with their averages."""
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.evaluation.masked_lm import MaskedLM

    model = MaskedLM(checkpoint.read(path), str(path), args.mask, args.seed, **limits(args))
    results = []
    total = sum(len(text.sides[0]) for text in texts)
    with tqdm(total=total, desc=name, unit="sentence") as bar:
        for text in texts:
            sequences = model.pairs(*text.sides) if text.kind == TLM else model.sentences(*text.sides)
            try:
                score = model(sequences, bar.update)
            except InputError as error:
                raise InputError(f"{text.name}: {error}") from error
            measures = {"sentences": len(sequences), **score._asdict()}
            results.append(Result(name, {"text": text.name, "kind": text.kind}, measures))
    for kind in TITLES:
        group = [result for result in results if result["kind"] == kind]
        if len(group) > 1:
            results += averages(group, "text", ["bits", "accuracy"], ["sentences", "masked"])
    for result in results:
        result.measures["perplexity"] = 2 ** result["bits"]
    note_truncated(name, model, total, "sequences")
    note_precision(name, model, "logits")
    facts = {
        "vocabulary": model.shape.vocab_size,
        "head_trained": model.trained,
        "xlm_tlm": model.xlm_tlm,
        "truncated": model.truncated,
    }
    return describe(path, model, **facts), results


def table(kind: str, models: dict[str, dict], results: Sequence[Result]) -> str:
    """A captioned table for one kind of masking: a line for each text, three columns for each model."""
    untrained = [name for name, facts in models.items() if not facts["head_trained"]]

    def columns(model: str) -> dict:
        heading = f"{model}*" if model in untrained else model
        return {
            f"{heading} {measure}": lambda one, measure=measure, form=form: format(one[measure], form)
            for measure, form in FORMATS.items()
        }

    lines = table_by_model([one for one in results if one["kind"] == kind], "text", columns, "sentences")
    note = UNTRAINED if untrained else ""
    return f"{TITLES[kind]}: bits and perplexity per token, percent predicted right\n\n{lines}\n{note}"
