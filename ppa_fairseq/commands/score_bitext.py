"""Score the pairs of bitext by an encoder: cosine and margin as columns, to drop what is no translation.

  ppa score-bitext raw/ --model checkpoint_best.pt --output scored/
  ppa prepare-bitext scored --score-column 4 --min-score 1.0 ...

TEXT is what `ppa prepare-bitext` takes. OUTPUT gets PAIR.tsv with the columns first language, second language, cosine
and margin, and PAIR.png with their distribution. The margin is the cosine of a pair, divided by the mean cosine of both
sentences to their nearest neighbours in the same file (Artetxe and Schwenk 2019): 1 or less says that other sentences
are as near. Lines that cannot be read are left out and counted.
"""

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ppa_fairseq.commands._bitexts import find_all
from ppa_fairseq.commands._evaluation import load_embedder, note_truncated
from ppa_fairseq.commands.arguments import (
    Once,
    add_embedding_arguments,
    add_unquote_argument,
    columns_or_names,
    positive,
)
from ppa_fairseq.data.bitext.checks import checked_rows
from ppa_fairseq.data.bitext.filters import text_fault
from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.data.bitext.row import on_one_line
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder
from ppa_fairseq.utils.markdown import markdown_table

if TYPE_CHECKING:  # torch takes a second to import
    from ppa_fairseq.evaluation.embedding import SentenceEmbedder

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
WINDOW = 2**14  # pairs scored at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("texts", nargs="+", metavar="TEXT", help="folder, or PAIR=FILE[,FILE...]")
    add("--model", metavar="PATH", type=Path, action=Once, required=True,
        help="a fairseq checkpoint, an imported folder or a Hugging Face folder")  # fmt: skip
    add("--output", metavar="DIR", type=Path, required=True, help="folder to write")
    add("--columns", type=columns_or_names, metavar="A,B", help="as in `ppa prepare-bitext`")
    add_unquote_argument(parser)
    add("--neighbours", metavar="K", type=positive, default=4,
        help="nearest neighbours for the margin (default: 4)")  # fmt: skip
    add("--index", choices=("auto", "exact", "ivfpq"), default="auto", help="search, as in `ppa mine` (default: auto)")
    add("--layer", default="last", help="last (default) or a number; 0 is the embeddings")
    add_embedding_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.evaluation.plots import plot_histograms

    bitexts = find_all(args.texts)
    rows = [["pair", "pairs", "left out", *(f"margin {quantile:.0%}" for quantile in QUANTILES)]]
    with output_folder(args.output, "score-bitext") as folder:
        embedder = load_embedder("score-bitext", args.model, args)
        for bitext in bitexts:
            scores = _score(bitext, folder / ".work", embedder, args)
            left_out = _write(bitext, folder / f"{bitext.name}.tsv", scores, args)
            panels = dict(zip(("cosine", "margin"), scores.T, strict=True))
            plot_histograms(folder / f"{bitext.name}.png", f"{bitext.name}, {len(scores):,} pairs", panels)
            quantiles = (f"{value:.3f}" for value in np.quantile(scores[:, 1], QUANTILES))
            rows.append([bitext.name, f"{len(scores):,}", f"{left_out.total():,}", *quantiles])
        table = markdown_table(rows)
        (folder / "table.md").write_text(table + "\n", encoding="utf-8")
    print(f"{table}\n{args.output}: PAIR.tsv with cosine and margin in columns 3 and 4, PAIR.png, table.md")


def _score(bitext: Bitext, work: Path, embedder: "SentenceEmbedder", args: argparse.Namespace) -> np.ndarray:
    """Cosine and margin of all pairs, (N, 2); *work* is a folder that is made and removed."""
    from ppa_fairseq.evaluation.mining import margins, search, vectors
    from ppa_fairseq.evaluation.mining.sentences import Sentences, places_of, write_sentences

    work.mkdir()
    languages, places, found, near = bitext.name.split("-"), [], [], []
    embedder.truncated = 0
    for side, language in enumerate(languages):
        hashes = write_sentences(work / language, (("", pair[side]) for pair in _pairs(bitext, args)))
        if not len(hashes):
            raise InputError(f"{bitext.name}: no pair can be read; `ppa prepare-bitext` says why")
        places.append(places_of(hashes))
        sentences = Sentences(work / language)
        with tqdm(total=len(sentences), desc=f"embed {language}", unit="sentence", unit_scale=True) as bar:
            found.append(vectors.embed(embedder, sentences, work / f"{language}.vectors", bar.update))
    note_truncated(bitext.name, embedder, sum(map(len, found)), "sentences")
    for one, other in ((0, 1), (1, 0)):
        index = search.choose_index(args.index, len(found[other]), embedder.device)
        with tqdm(total=len(found[one]), desc=f"search {languages[other]}", unit="sentence", unit_scale=True) as bar:
            how = args.neighbours, work / f"{languages[one]}.nearest", index, embedder.device, bar.update
            near.append(margins.mean_cosine(search.nearest(found[one], found[other], *how)))
    scores = np.empty((len(places[0]), 2), dtype=np.float32)
    for start in range(0, len(scores), WINDOW):
        here = [side[start : start + WINDOW] for side in places]
        cosine = (found[0][here[0]] * found[1][here[1]]).sum(axis=1)
        margin = margins.ratio_margin(cosine, near[0][here[0]], near[1][here[1]])
        scores[start : start + WINDOW] = np.stack([cosine, margin], axis=1)
    shutil.rmtree(work)
    return scores


def _pairs(bitext: Bitext, args: argparse.Namespace, left_out: Counter | None = None) -> Iterator[tuple[str, str]]:
    """The pairs that a TSV can hold; counts the others, and prints what looks wrong, where *left_out* is given."""
    counter = Counter() if left_out is None else left_out
    for row in checked_rows(bitext, args.columns, args.unquote, _warn if left_out is None else lambda message: None):
        first, second = row.first.strip(), row.second.strip()
        reason = row.broken or text_fault(first, second)
        if reason and reason != "identical":
            counter[reason] += 1
        else:
            yield first, second


def _warn(message: str) -> None:
    tqdm.write(f"warning: {message}", file=sys.stderr)


def _write(bitext: Bitext, path: Path, scores: np.ndarray, args: argparse.Namespace) -> Counter:
    """Write the pairs with their scores; return what was left out, by reason."""
    left_out = Counter()
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for (first, second), (cosine, margin) in zip(_pairs(bitext, args, left_out), scores, strict=True):
            file.write(f"{on_one_line(first)}\t{on_one_line(second)}\t{cosine:.6f}\t{margin:.6f}\n")
    return left_out
