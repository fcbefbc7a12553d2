"""Remove the tokens that a corpus does not use from a model's vocabulary.

MODEL is what `ppa import-hf` wrote, a checkpoint or a Hugging Face folder, with a WordPiece or a Unigram tokenizer. A
text is named by its languages:

  de-en=corpus.tsv.xz                  a bitext, as `ppa prepare-bitext` takes it (German in the first column)
  de-en=europarl.de.gz,europarl.en.gz  two files, line by line translations
  de=wiki.txt,news.txt.xz              sentences of one language

The trimmed vocabulary keeps the tokens that the texts become, special tokens and all single characters, in their order,
with their vectors and MLM biases. So these texts are tokenized as before and get the same hidden states, except that a
word that was [UNK] may become tokens. OUT has the form that `ppa import-hf` writes; prepare and binarize the data with
it again.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import Checkpoint
from ppa_fairseq.commands.arguments import Once, add_columns_argument, add_workers_argument, positive
from ppa_fairseq.commands.import_hf import write_import
from ppa_fairseq.data import trimming
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.data.text_files import text_lines
from ppa_fairseq.modules.bert import BertShape
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
    add_workers_argument(parser)


def run(args: argparse.Namespace) -> None:
    corpora = [trimming.parse_corpus(text, args.columns) for text in args.texts]
    others = [trimming.parse_corpus(text, args.columns) for text in args.held_out]
    with output_folder(args.out, "trim-vocab") as folder:
        model, source = checkpoint.read(args.model), str(args.model)
        if not isinstance(model.shape, BertShape):
            raise InputError(f"{source}: a model of transformers; only this plugin's own form of BERT can be trimmed")
        tokenizer = model.build_tokenizer(source)
        counts = Counter()
        for _, counted, _ in count(corpora, args.workers, trimming.make_counter, model.tokenizer, source):
            counts += counted
        used = {token for token, number in counts.items() if number >= args.min_count}
        if not used:
            raise InputError(f"{args.texts[0]}: no token is used {args.min_count} times; give more text")
        chosen = set(used)
        if args.keep_file:
            lines = list(text_lines(args.keep_file))
            chosen |= {*lines, *trimming.make_counter(model.tokenizer, source)(lines)}
        needed = trimming.needed_by_any_text(tokenizer)
        kept = [i for i, symbol in enumerate(tokenizer.symbols) if i in needed or symbol in chosen]
        texts = trimming.cut_files(model.tokenizer, kept, source)
        rows = []
        for kind, some in (("", corpora), ("held-out ", others)):
            sums = defaultdict(Counter)
            work = trimming.make_comparer, model.tokenizer, texts, source
            for name, counted, left_out in count(some, args.workers, *work):
                sums[kind + name] += counted
                sums[kind + name]["left out"] += left_out
            rows += [trimming.table_row(name, sums[name]) for name in sorted(sums)]
        state = {name: weight[kept] if name in (WORDS, BIAS) else weight for name, weight in model.state.items()}
        trimmed = replace(model, state=state, shape=replace(model.shape, vocab_size=len(kept)), tokenizer=texts)
        write_import(folder, trimmed, trimmed.build_tokenizer(source))
    print(markdown_table([trimming.HEAD, *rows]))
    kinds = "special tokens, single characters and --keep-file"
    print(f"\n{len(used):,} tokens are used; with {kinds} {len(kept):,} are kept\n")
    sizes = ["before", *_size(model)], ["after", *_size(trimmed)]
    print(markdown_table([["", "vocabulary", "M parameters", "MB"], *sizes]))


def count(
    corpora: list[trimming.Corpus], workers: int, make: Callable, *arguments
) -> Iterator[tuple[str, Counter, int]]:
    """For each batch: its language, what the function that `make(*arguments)` returns counts in it, lines left out."""
    with OrderedPool(workers, _make_worker, make, *arguments) as pool, tqdm(unit=" sentences") as bar:
        for corpus in corpora:
            for (language, sentences, left_out), counted in pool.map(corpus.batches()):
                yield language, counted, left_out
                bar.update(len(sentences))


def _make_worker(make: Callable, *arguments) -> Callable[[tuple[str, list[str], int]], Counter]:
    work = make(*arguments)
    return lambda batch: work(batch[1])


def _size(model: Checkpoint) -> list[str]:
    weights = model.state.values()
    parameters, size = sum(weight.numel() for weight in weights), sum(weight.nbytes for weight in weights)
    return [f"{model.shape.vocab_size:,}", f"{parameters / 1e6:.1f}", f"{size / 1e6:.0f}"]
