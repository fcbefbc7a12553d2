"""Remove the tokens that a corpus does not use from a model's vocabulary.

MODEL is what `ppa import-hf` wrote, a checkpoint or a Hugging Face folder, with a WordPiece or a Unigram tokenizer. A
text is named by its languages:

  de-en=corpus.tsv.xz                  a bitext, as `ppa prepare-bitext` takes it (German in the first column)
  de-en=europarl.de.gz,europarl.en.gz  two files, line by line translations
  de=wiki.txt,news.txt.xz              sentences of one language

The trimmed vocabulary keeps the tokens that the texts become (an [UNK] stays one), special tokens and all single
characters, in their order, with their vectors and MLM biases. So these texts are tokenized as before and get the same
hidden states. OUT has the form that `ppa import-hf` writes; prepare and binarize the data with it again.
"""

import argparse
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import Checkpoint
from ppa_fairseq.commands.arguments import Once, add_columns_argument, positive
from ppa_fairseq.commands.import_hf import write_import
from ppa_fairseq.data.bitext.reader import Bitext
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.data.trimming.corpora import Monolingual, parse_corpus, sentences_of
from ppa_fairseq.data.trimming.tokenizer_files import cut_files
from ppa_fairseq.data.trimming.tokens import HEAD, Comparison, TokenCounter, needed_by_any_text, table_row
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder
from ppa_fairseq.utils.markdown import markdown_table

WORDS, BIAS = "encoder.embed_tokens.weight", "lm_head.bias"  # with a row for each token


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="folder of `ppa import-hf`, checkpoint or Hugging Face folder")
    add("out", metavar="OUT", type=Path, help="new folder (an earlier result is replaced)")
    add("texts", nargs="+", metavar="LANGUAGES=FILE[,FILE...]", help="texts whose tokens are kept")
    add("--held-out", nargs="+", action="extend", default=[], metavar="LANGUAGES=FILE[,FILE...]",
        help="other texts, for the report alone: what the trimmed vocabulary makes of them")  # fmt: skip
    add_columns_argument(parser)
    add("--min-count", type=positive, default=1, metavar="N",
        help="keep tokens that are used N times or more; above 1, the texts may be tokenized differently (default: 1)",
    )  # fmt: skip
    add("--keep-file", type=Path, action=Once, metavar="FILE",
        help="tokens, words or sentences whose tokens are kept, one a line")  # fmt: skip
    add("--workers", type=positive, default=len(os.sched_getaffinity(0)), metavar="N",
        help="processes that tokenize (default: all cores)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    corpora, others = ([parse_corpus(text) for text in texts] for texts in (args.texts, args.held_out))
    with output_folder(args.out, "trim-vocab") as folder:
        model, source = checkpoint.read(args.model), str(args.model)
        tokenizer = model.build_tokenizer(source)
        size = 2 * sum(corpus.size for corpus in corpora) + sum(corpus.size for corpus in others)
        with tqdm(total=size, unit="B", unit_scale=True) as progress:
            counting = Work(args, progress, TokenCounter, (model.tokenizer, source))
            counts = Counter()
            for _, counted, _ in counting.run(corpora):
                counts.update(counted)
            used = {token for token, count in counts.items() if count >= args.min_count}
            if not used:
                raise InputError(f"{args.texts[0]}: no token is used {args.min_count} times; give more text")
            chosen = used | _tokens_of_file(args.keep_file, TokenCounter(model.tokenizer, source))
            needed = needed_by_any_text(tokenizer)
            kept = [i for i, symbol in enumerate(tokenizer.symbols) if i in needed or symbol in chosen]
            texts = cut_files(model.tokenizer, kept, source)
            comparing = Work(args, progress, Comparison, (model.tokenizer, texts, source))
            rows, unread = [], Counter()
            for kind, some in (("", corpora), ("held-out ", others)):
                sums = defaultdict(Counter)
                for language, counted, broken in comparing.run(some):
                    sums[kind + language] += counted
                    unread[kind + language] += broken
                rows += [table_row(name, sums[name]) for name in sorted(sums)]
        state = {name: weight[kept] if name in (WORDS, BIAS) else weight for name, weight in model.state.items()}
        trimmed = replace(model, state=state, shape=replace(model.shape, vocab_size=len(kept)), tokenizer=texts)
        write_import(folder, trimmed, trimmed.build_tokenizer(source))
    print(markdown_table([HEAD, *rows]))
    for name, count in unread.items():
        if count:
            print(f"{name}: {count:,} lines left out: not UTF-8, too long, or not as many columns as most")
    number = sum(symbol in used for symbol in tokenizer.symbols)
    kinds = "special tokens, single characters and --keep-file"
    print(f"\n{number:,} tokens are used; with {kinds} {len(kept):,} are kept\n")
    sizes = ["before", *_size(model)], ["after", *_size(trimmed)]
    print(markdown_table([["", "vocabulary", "M parameters", "MB"], *sizes]))


class Work:
    """Counts sentences in processes: each calls *make* with *arguments*, and the method `count` of the result."""

    def __init__(self, args: argparse.Namespace, progress: tqdm, make: Callable, arguments: tuple):
        self.args, self.progress = args, progress
        self.pool = args.workers, _make_counter, make, *arguments

    def run(self, corpora: list[Bitext | Monolingual]) -> Iterator[tuple[str, Counter, int]]:
        """Yield for each batch its language, the counts, and the number of lines that could not be read."""
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


def _tokens_of_file(path: Path | None, counter: TokenCounter) -> set[str]:
    if path is None:
        return set()
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); convert it to UTF-8") from None
    return set(counter.tokenizer.symbols) & set(lines) | counter.count(lines).keys()


def _size(model: Checkpoint) -> list[str]:
    weights = model.state.values()
    parameters, size = sum(weight.numel() for weight in weights), sum(weight.nbytes for weight in weights)
    return [f"{model.shape.vocab_size:,}", f"{parameters / 1e6:.1f}", f"{size / 1e6:.0f}"]
