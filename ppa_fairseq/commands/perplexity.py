"""Measure what is remembered: how well masked pieces of text are guessed, language by language.

Of each sentence (--text) or pair of sentences in one sequence (--pairs: TLM) 15 % of the pieces are masked, the same
for all models of one vocabulary. Told are the bits that a masked piece costs, the perplexity (2 to the power of it) and
the percentage guessed right. Figures of different vocabularies are of different pieces and do not compare.

  ppa perplexity --model before=mbert/ --model after=checkpoint_best.pt \\
      --text de=tatoeba/de-en.de --text en=tatoeba/de-en.en --pairs tatoeba/ --output perplexity/
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from ppa_fairseq.commands.arguments import (
    add_batching_arguments,
    add_columns_argument,
    add_models_argument,
    check_models,
    named_path,
)
from ppa_fairseq.data.text_files import text_lines
from ppa_fairseq.evaluation.retrieval.pair_sets import find_pair_sets, read_pairs
from ppa_fairseq.utils.errors import InputError, about_model
from ppa_fairseq.utils.files import output_folder
from ppa_fairseq.utils.markdown import markdown_table

JSON_FILE = "perplexity.json"
MLM, TLM = "MLM", "TLM"
AVERAGE = "average"
UNTRAINED = "*"
XLM_TLM = "†"
NOTES = {
    UNTRAINED: "its MLM head was never trained, so these figures tell nothing of its encoder.",
    XLM_TLM: "its TLM had XLM's positions or language embeddings, and these pairs have neither: they do not compare.",
}


@dataclass(frozen=True)
class Text:
    """What is masked: sentences, or pairs of them as two lists."""

    name: str  # "de", or "de-en"
    kind: str
    files: list[str]
    sides: tuple[list[str], ...]


@dataclass(frozen=True)
class Result:
    """Masked pieces of one text, or the average over the texts of a kind, each counting the same, by one model."""

    model: str
    text: str
    kind: str
    sentences: int
    masked: int
    bits: float
    perplexity: float
    accuracy: float  # percent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_models_argument(parser, "an encoder and MLM head (a fairseq checkpoint, an imported or a Hugging Face folder)")
    add("--text", dest="texts", metavar="LANG=FILE", type=named_path, action="append", default=[],
        help="sentences of one language, one a line; plain, .gz or .xz; once for each")  # fmt: skip
    add("--pairs", metavar="PATH", type=Path, nargs="+", action="extend", default=[],
        help="sets of pairs, or folders of them: xx-yy.xx beside xx-yy.yy, or xx-yy*.tsv")  # fmt: skip
    add_columns_argument(parser)
    add("--max-sentences", metavar="N", type=int, default=1000,
        help="the first N sentences or pairs of each text; 0 for all (default: 1000)")  # fmt: skip
    add("--mask", metavar="P", type=share, default=0.15, help="share of the pieces that is masked (default: 0.15)")
    add("--seed", metavar="N", type=seed, default=1, help="of the masks (default: 1)")
    add("--output", metavar="DIR", type=Path,
        help=f"new folder for table.md and {JSON_FILE} (an earlier perplexity is replaced)")  # fmt: skip
    add_batching_arguments(parser, max_length=128)


def seed(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**64:
        raise argparse.ArgumentTypeError("must be a whole number of at most 64 bits")
    return number


def share(text: str) -> float:
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError("must be above 0, and 1 or less")
    return number


def run(args: argparse.Namespace) -> None:
    check_models(args.models)
    if args.max_sentences < 0:
        raise InputError(f"--max-sentences {args.max_sentences}: give 1 or more, or 0 for all")
    with output_folder(args.output, "perplexity") if args.output else nullcontext() as folder:
        texts = read_texts(args)
        models, results = {}, []
        for name, path in args.models:
            with about_model(name):
                models[name], measured = measure(name, path, texts, args)
            results += measured + averages(measured)
        tables = "\n".join(table(kind, models, results) for kind in (MLM, TLM) if any(r.kind == kind for r in results))
        if folder:
            write(folder, args, models, texts, results, tables)
    print(tables)
    if folder:
        print(f"{args.output}: table.md and {JSON_FILE}")


def read_texts(args: argparse.Namespace) -> list[Text]:
    """All texts, wholly in memory. Raises InputError if there is none, or two of one name."""
    limit = args.max_sentences or None
    texts = [
        Text(name, MLM, [str(path)], (list(islice(text_lines(path), limit)),)) for name, path in args.texts
    ]
    for found in find_pair_sets(args.pairs):
        files = [str(file) for part in found.parts for file in part]
        texts.append(Text(found.name, TLM, files, read_pairs(found, limit, args.columns)))
    if not texts:
        raise InputError("neither --text nor --pairs: give what is to be masked")
    names = [text.name for text in texts if text.kind == MLM]
    for name in names:
        if names.count(name) > 1 or name == AVERAGE:
            raise InputError(f"--text {name}=…: the name is taken; name each text differently")
    return texts


def measure(name: str, path: Path, texts: Sequence[Text], args: argparse.Namespace) -> tuple[dict, list[Result]]:
    """What one model is, and its results on all texts."""
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.evaluation.masked_lm import MaskedLM

    model = MaskedLM(
        checkpoint.read(path), str(path), args.mask, args.seed, args.max_length, args.batch_tokens, args.cpu
    )
    results = []
    total = sum(len(text.sides[0]) for text in texts)
    with tqdm(total=total, desc=name, unit="sentence") as bar:
        for text in texts:
            sequences = model.pairs(*text.sides) if text.kind == TLM else model.sentences(*text.sides)
            try:
                score = model(sequences, bar.update)
            except InputError as error:
                raise InputError(f"{text.name}: {error}") from error
            counts = len(sequences), score.masked
            results.append(Result(name, text.name, text.kind, *counts, score.bits, 2**score.bits, score.accuracy))
    if model.truncated:
        print(f"{name}: {model.truncated} of {total} sequences cut to {args.max_length} pieces", file=sys.stderr)
    about = {
        "path": str(path),
        "layers": model.encoder.cfg.layers,
        "dim": model.encoder.cfg.dim,
        "vocabulary": len(model.dictionary),
        "head_trained": model.trained,
        "xlm_tlm": model.xlm_tlm,
        "truncated": model.truncated,
        "device": str(model.device),
    }
    return about, results


def averages(results: Sequence[Result]) -> list[Result]:
    """Of one model, over the texts of each kind of which there are several; the perplexity is that of the mean bits."""
    found = []
    for kind in (MLM, TLM):
        group = [result for result in results if result.kind == kind]
        if len(group) > 1:
            bits = fmean(result.bits for result in group)
            counts = sum(result.sentences for result in group), sum(result.masked for result in group)
            accuracy = fmean(result.accuracy for result in group)
            found.append(Result(group[0].model, AVERAGE, kind, *counts, bits, 2**bits, accuracy))
    return found


def table(kind: str, models: dict[str, dict], results: Sequence[Result]) -> str:
    """A captioned table of one kind of masking: a line a text, three columns a model."""
    shown = {(result.model, result.text): result for result in results if result.kind == kind}
    marks = {name: marks_of(about, kind) for name, about in models.items()}
    measures = ("bits", "perplexity", "accuracy")
    heads = (f"{name}{mark} {measure}" for name, mark in marks.items() for measure in measures)
    lines = [["text", "sentences", *heads]]
    for text in dict.fromkeys(text for _, text in shown):
        here = [shown[name, text] for name in models]
        cells = [cell for r in here for cell in (f"{r.bits:.2f}", f"{r.perplexity:.1f}", f"{r.accuracy:.1f}")]
        lines.append([text, str(here[0].sentences), *cells])
    title = {MLM: "Masked pieces of sentences (MLM)", TLM: "Masked pieces of sentence pairs (TLM)"}[kind]
    notes = "".join(f"\n{mark} {note}\n" for mark, note in NOTES.items() if any(mark in of for of in marks.values()))
    return f"{title}: bits and perplexity a piece, percent guessed right\n\n{markdown_table(lines)}\n{notes}"


def marks_of(about: dict, kind: str) -> str:
    """What a model is marked by in the table of one kind."""
    return UNTRAINED * (not about["head_trained"]) + XLM_TLM * (about["xlm_tlm"] and kind == TLM)


def write(
    folder: Path,
    args: argparse.Namespace,
    models: dict,
    texts: Sequence[Text],
    results: Sequence[Result],
    tables: str,
) -> None:
    """table.md and perplexity.json: settings, models, texts, every result."""
    flags = ("mask", "seed", "max_sentences", "max_length", "batch_tokens")
    document = {
        "settings": {flag: getattr(args, flag) for flag in flags},
        "models": models,
        "texts": [
            {"name": text.name, "kind": text.kind, "files": text.files, "sentences": len(text.sides[0])}
            for text in texts
        ],
        "results": [asdict(result) for result in results],
    }
    (folder / JSON_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(tables, encoding="utf-8")
