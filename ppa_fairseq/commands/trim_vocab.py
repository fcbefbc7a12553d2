"""Leave out of a model the pieces of its vocabulary that a corpus does not use.

MODEL is what `ppa import-hf` wrote, a checkpoint or a Hugging Face folder. A text is named by its languages:

  de-en=corpus.tsv.xz                  a bitext, as `ppa prepare-bitext` takes it (German in the first column)
  de-en=europarl.de.gz,europarl.en.gz  two files, line by line translations
  de=wiki.txt,news.txt.xz              sentences of one language

Kept are the pieces that the texts become (an [UNK] stays one), special symbols and all single characters, in their
order; vectors and MLM bias are theirs to the bit. So these texts are tokenized as before, and give the same hidden
states. OUT is written as `ppa import-hf` writes it; the data has to be prepared and binarized with it anew.
"""

import argparse
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints import tokenizer_files as tokenizer
from ppa_fairseq.checkpoints.weights import Checkpoint
from ppa_fairseq.commands.arguments import Once, add_columns_argument, positive
from ppa_fairseq.commands.import_hf import write_import
from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.data.trimming import comparison
from ppa_fairseq.data.trimming.corpora import Monolingual, parse_corpus, sentences_of
from ppa_fairseq.data.trimming.tokenizer_files import cut_files
from ppa_fairseq.data.trimming.tokens import PieceCounter, needed_by_any_text
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder
from ppa_fairseq.utils.markdown import markdown_table

WORDS, BIAS = "encoder.embed_tokens.weight", "lm_head.bias"  # what has a row for each piece


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="folder of `ppa import-hf`, checkpoint or Hugging Face folder")
    add("out", metavar="OUT", type=Path, help="new folder (an earlier import is replaced)")
    add("texts", nargs="+", metavar="LANGUAGES=FILE[,FILE...]", help="texts whose pieces are kept")
    add("--held-out", nargs="+", action="extend", default=[], metavar="LANGUAGES=FILE[,FILE...]",
        help="other texts, for the report alone: what the trimmed vocabulary makes of them")  # fmt: skip
    add_columns_argument(parser)
    add("--min-count", type=positive, default=1, metavar="N",
        help="keep pieces that are used N times or more; over 1, the texts may be tokenized otherwise (default: 1)",
    )  # fmt: skip
    add("--keep-file", type=Path, action=Once, metavar="FILE",
        help="pieces, words or sentences to keep the pieces of, one a line")  # fmt: skip
    add("--workers", type=positive, default=len(os.sched_getaffinity(0)), metavar="N",
        help="processes that tokenize (default: all cores)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    corpora, others = ([parse_corpus(text) for text in texts] for texts in (args.texts, args.held_out))
    with output_folder(args.out, "trim-vocab") as folder:
        model, source = checkpoint.read(args.model), str(args.model)
        symbols = tokenizer.symbols(model.tokenizer, source)
        read = 2 * sum(corpus.size for corpus in corpora) + sum(corpus.size for corpus in others)
        with tqdm(total=read, unit="B", unit_scale=True) as progress:
            counting = Work(args, progress, PieceCounter, (model.tokenizer, source))
            counts = Counter()
            for _, counted, _ in counting.run(corpora):
                counts.update(counted)
            wanted = {piece for piece, count in counts.items() if count >= args.min_count}
            if not wanted:
                raise InputError(f"{args.texts[0]}: no piece is used {args.min_count} times; give more text")
            by_choice = _pieces_of_file(args.keep_file, PieceCounter(model.tokenizer, source), set(symbols))
            needed = needed_by_any_text(tokenizer.build_tokenizer(model.tokenizer, source))
            kept = [i for i, symbol in enumerate(symbols) if i in needed or symbol in wanted or symbol in by_choice]
            texts = cut_files(model.tokenizer, kept, source)
            comparing = Work(args, progress, comparison.Comparison, (model.tokenizer, texts, source))
            rows, unread = [], Counter()
            for kind, some in (("", corpora), ("held-out ", others)):
                sums = defaultdict(Counter)
                for language, counted, broken in comparing.run(some):
                    sums[kind + language] += counted
                    unread[kind + language] += broken
                rows += [comparison.table_row(name, sums[name]) for name in sorted(sums)]
        sizes = [_size(model)]
        state = {name: weight[kept] if name in (WORDS, BIAS) else weight for name, weight in model.state.items()}
        model = replace(model, state=state, shape=replace(model.shape, vocab_size=len(kept)), tokenizer=texts)
        sizes.append(_size(model))
        write_import(folder, model, source)
    print(markdown_table([comparison.HEAD, *rows]))
    for name, count in unread.items():
        if count:
            print(f"{name}: {count:,} lines left out: not UTF-8, too long, or not as many columns as most")
    used = sum(symbol in wanted for symbol in symbols)
    kinds = "special symbols, single characters and --keep-file"
    print(f"\n{used:,} pieces are used; with {kinds} {len(kept):,} are kept\n")
    print(markdown_table([["", "vocabulary", "M parameters", "MB"], ["before", *sizes[0]], ["after", *sizes[1]]]))


class Work:
    """Sentences counted in processes, by the method `count` of what *make* makes of *arguments* in each of them."""

    def __init__(self, args: argparse.Namespace, progress: tqdm, make: Callable, arguments: tuple):
        self.args, self.progress = args, progress
        self.pool = args.workers, _make_counter, make, *arguments

    def run(self, corpora: list[Bitext | Monolingual]) -> Iterator[tuple[str, Counter, int]]:
        """For each batch its language, what was counted, and the number of lines that could not be read."""
        with OrderedPool(*self.pool) as pool:
            for corpus in corpora:
                start = self.progress.n
                for (language, _, broken), counted in pool.map(sentences_of(corpus, self.args.columns)):
                    yield language, counted, broken
                    self.progress.update(start + corpus.position - self.progress.n)
                self.progress.update(start + corpus.size - self.progress.n)


def _make_counter(make: Callable, *arguments) -> Callable[[tuple[str, list[str], int]], Counter]:
    counter = make(*arguments)
    return lambda batch: counter.count(batch[1])


def _pieces_of_file(path: Path | None, counter: PieceCounter, vocabulary: set[str]) -> set[str]:
    if path is None:
        return set()
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error})") from None
    return vocabulary & set(lines) | counter.count(lines).keys()


def _size(model: Checkpoint) -> list[str]:
    weights = model.state.values()
    parameters, size = sum(weight.numel() for weight in weights), sum(weight.nbytes for weight in weights)
    return [f"{model.shape.vocab_size:,}", f"{parameters / 1e6:.1f}", f"{size / 1e6:.0f}"]
