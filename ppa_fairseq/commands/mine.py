"""Mine bitext: find the translations among the sentences of two languages.

  ppa mine de-en=news.de.gz,news.en.gz --model checkpoint_best.pt --output mined/de-en.tsv
  ppa prepare-bitext mined --score-column 3 --min-score 1.1 ...

A file has a sentence a line or, as BUCC's, an id, a tab and a sentence. The output has both sentences and their margin
(and their ids), best first, each sentence once: the ratio of their cosine to the mean cosine of both to their nearest
neighbours, in both directions (Artetxe and Schwenk 2019). A killed run goes on where it stopped if the command is given
again. Vectors, neighbours and sentences lie in files; memory does not grow with them, but for 60 bytes a sentence, and
the index of more than a million sentences.
"""

import argparse
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ppa_fairseq.commands._evaluation import load_embedder, note_truncated
from ppa_fairseq.commands.arguments import Once, add_embedding_arguments, finite, positive
from ppa_fairseq.data.bitext.find_files import parse_pair
from ppa_fairseq.data.packed import unpacked_name
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import atomic_path, why_no_file
from ppa_fairseq.utils.histogram import histogram, in_hundredths
from ppa_fairseq.utils.markdown import markdown_table

if TYPE_CHECKING:  # torch takes a second to import
    from ppa_fairseq.evaluation.mining.sentences import Sentences

MARGIN = 1.06  # of CCMatrix (Schwenk et al. 2021)
DIGITS = 6  # of a margin in the output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("texts", metavar="PAIR=FILE,FILE", help="two languages and a file of sentences of each; plain or packed")
    add("--model", metavar="PATH", type=Path, action=Once, required=True,
        help="a fairseq checkpoint, an imported folder or a Hugging Face folder")  # fmt: skip
    add("--output", metavar="FILE", type=Path, required=True, help="TSV to write: sentence, sentence, margin")
    add("--min-margin", metavar="X", type=finite,
        help=f"write pairs of this margin or more (default: {MARGIN}, or with --gold where F1 is best)")  # fmt: skip
    add("--gold", metavar="FILE", type=Path,
        help="the right pairs, two ids a line, as BUCC's: prints precision, recall and F1")  # fmt: skip
    add("--neighbours", metavar="K", type=positive, default=4,
        help="nearest neighbours for the margin (default: 4)")  # fmt: skip
    add("--index", choices=("auto", "exact", "ivfpq"), default="auto",
        help="search: exact, or an inverted file of coded vectors, which needs `pip install ppa_fairseq[mining]` "
        "(default: auto, exact up to a million sentences, and on a GPU)")  # fmt: skip
    add("--work", metavar="DIR", type=Path,
        help="folder for vectors, kept for another run (default: OUTPUT.work, removed at the end)")  # fmt: skip
    add("--layer", default="last", help="last (default) or a number; 0 is the embeddings")
    add_embedding_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.evaluation.mining import margins, search, vectors
    from ppa_fairseq.evaluation.mining.gold import read_gold
    from ppa_fairseq.evaluation.mining.work_folder import describe_files, describe_model, open_work_folder

    languages, paths = _languages_and_paths(args.texts)
    if any(args.output.exists() and path.samefile(args.output) for path in paths):
        raise InputError(f"{args.output}: is read, and would be replaced; give --output another name")
    gold = read_gold(args.gold, paths) if args.gold else None
    embedder = load_embedder("mine", args.model, args)
    work = args.work or args.output.with_name(f"{args.output.name}.work")
    with atomic_path(args.output) as part:  # first, so that an output that cannot be written costs no hours
        about = {"text": describe_files(paths), "model": describe_model(embedder)}
        if open_work_folder(work, about):
            print(f"{work}: goes on from an earlier run", file=sys.stderr)
        sides = []
        for language, path in zip(languages, paths, strict=True):
            sides.append(_sentences(work / language, language, path))
        found = []
        for language, side in zip(languages, sides, strict=True):
            with tqdm(total=len(side), desc=f"embed {language}", unit="sentence", unit_scale=True) as bar:
                found.append(vectors.embed(embedder, side, work / f"{language}.vectors", bar.update))
        note_truncated("mine", embedder, sum(map(len, sides)), "sentences")
        neighbours = []
        for one, other in ((0, 1), (1, 0)):
            index = search.choose_index(args.index, len(sides[other]), embedder.device)
            name = f"{languages[one]}-{languages[other]}.{args.neighbours}.{index}"
            with tqdm(total=len(sides[one]), desc=f"search {name}", unit="sentence", unit_scale=True) as bar:
                how = args.neighbours, work / name, index, embedder.device, bar.update
                neighbours.append(search.nearest(found[one], found[other], *how))
        pairs = margins.mine(*neighbours)
        pairs = pairs._replace(margin=pairs.margin.astype(float).round(DIGITS))  # a limit that was read cuts there
        least, report = _threshold(args, gold, sides, pairs)
        written = int((pairs.margin >= least).sum())
        with open(part, "w", encoding="utf-8", newline="\n") as file:
            for place in range(written):
                (first_id, first), (second_id, second) = (
                    side[int(places[place])] for side, places in zip(sides, pairs[:2], strict=True)
                )
                ids = f"\t{first_id}\t{second_id}" if first_id or second_id else ""
                file.write(f"{first}\t{second}\t{pairs.margin[place]:.{DIGITS}f}{ids}\n")
    if not args.work:
        shutil.rmtree(work)
    print(f"{len(pairs.margin):,} candidates by margin, one to one\n{histogram(in_hundredths(pairs.margin), least)}")
    print(report, end="")
    print(f"{args.output}: {written:,} pairs of a margin of {least:.4g} or more")


def _languages_and_paths(text: str) -> tuple[list[str], tuple[Path, Path]]:
    languages, names = parse_pair(text)
    paths = [Path(name) for name in names]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: {why_no_file(path)}; give a file of sentences")
        unpacked_name(path)  # refuses other archives
    if len(paths) != 2:
        raise InputError(f"{text}: {len(paths)} files; give one of each language, as de-en=news.de,news.en")
    return languages, (paths[0], paths[1])


def _sentences(place: Path, language: str, source: Path) -> "Sentences":
    """The different sentences of a file, in the work folder."""
    from ppa_fairseq.evaluation.mining.sentences import Sentences, read_sentences, write_sentences

    if not all(Path(f"{place}.{ending}").exists() for ending in ("txt", "ends")):
        dropped = Counter()
        lines = read_sentences(source, dropped)
        read = len(write_sentences(place, tqdm(lines, desc=f"read {language}", unit="sentence", unit_scale=True)))
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.most_common())
        print(f"{source}: {read:,} sentences (not used: {reasons or 'none'})", file=sys.stderr)
    found = Sentences(place)
    if not len(found):
        raise InputError(f"{source}: no sentence in it; give text, a sentence a line")
    return found


def _threshold(args: argparse.Namespace, gold: set | None, sides: list["Sentences"], pairs) -> tuple[float, str]:
    """The least margin of the pairs to write, and a table of the accuracy against gold."""
    from ppa_fairseq.evaluation.mining.gold import accuracy_at, best_accuracy
    from ppa_fairseq.evaluation.mining.sentences import text_hash

    if gold is None:
        return MARGIN if args.min_margin is None else args.min_margin, ""
    hashes = (
        tuple(text_hash(side[place][1]) for side, place in zip(sides, places, strict=True))
        for places in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    )
    right = np.fromiter((pair in gold for pair in hashes), dtype=bool, count=len(pairs.margin))
    best = best_accuracy(pairs.margin, right, len(gold))
    rows = {"best F1": best}
    if args.min_margin is not None:
        rows["--min-margin"] = accuracy_at(args.min_margin, pairs.margin, right, len(gold))
    lines = [["threshold", "margin", "precision", "recall", "F1", "pairs"]]
    for name, one in rows.items():
        lines.append([name, f"{one.margin:.4f}", *(f"{value:.1f}" for value in one[1:4]), f"{one.pairs:,}"])
    return best.margin if args.min_margin is None else args.min_margin, markdown_table(lines) + "\n"
