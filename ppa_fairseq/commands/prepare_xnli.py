"""NLI in one or more languages to WordPieces, rows side by side, ready for `ppa binarize`.

A file is TSV or JSON lines as XNLI-1.0, XNLI-MT-1.0, MultiNLI or Hugging Face publish them, or TSV of three columns:
premise, hypothesis, label; plain, .gz or .xz. Its rows say the language (XNLI-1.0), or LANG= does, or its name:

  --train en=multinli_1.0_train.txt                    English alone (zero-shot)
  --train XNLI-MT-1.0/multinli/multinli.train.*.tsv    15 languages (translate-train)
  --train en=nli-en/                                   all .tsv, .jsonl and .json in the folder, one after the other
  --valid XNLI-1.0/xnli.dev.tsv --test XNLI-1.0/xnli.test.tsv
  --valid dev-*.tsv

The languages of a split must have the same rows: matched by pairID where both have one, else by position; other
counts or labels are an error. OUT gets LANG/{train,valid,test}.{input0,input1,label}, dict.txt, labels.txt, the
tokenizer's files and statistics.json; what an earlier run left in OUT is replaced. Memory does not grow with the text,
but for files that name their languages.
"""

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints import tokenizer_files as tokenizer
from ppa_fairseq.commands.arguments import Once
from ppa_fairseq.data.nli.encoder import FIELDS, REASONS, RowBatch, RowCounts, encode_in_worker, set_up_worker
from ppa_fairseq.data.nli.files import files_in, parse_source
from ppa_fairseq.data.nli.reader import LABELS, NLIExample, NLIFile, language_of
from ppa_fairseq.data.nli.rows import side_by_side
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder
from ppa_fairseq.utils.markdown import markdown_table

SPLITS = ("train", "valid", "test")
BATCH = 2000  # examples a task: rows times languages
STATISTICS = "statistics.json"
LABEL_FILE = "labels.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="DIR",
        help="folder that `ppa import-hf` wrote, or a Hugging Face model",
    )
    parser.add_argument("--out", required=True, metavar="OUT", help="folder to write")
    for split in SPLITS:
        help_text = f"files or folders of the {split} split"
        parser.add_argument(f"--{split}", nargs="+", action="extend", metavar="[LANG=]PATH", help=help_text)
    parser.add_argument("--langs", metavar="A,B,C", action=Once, help="languages to take (default: all in the files)")
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes that tokenize (default: all cores)",
    )


def run(args: argparse.Namespace) -> None:
    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: must be at least 1")
    files = {split: [file for source in getattr(args, split) or () for file in _files(source)] for split in SPLITS}
    all_files = [file for of_split in files.values() for file in of_split]
    if not all_files:
        raise InputError("nothing to prepare; name files with --train, --valid or --test")
    wanted = args.langs.split(",") if args.langs else None
    texts = tokenizer.read_files(args.tokenizer)
    symbols = tokenizer.symbols(texts, args.tokenizer)
    splits = {split: _by_language(of_split, wanted) for split, of_split in files.items() if of_split}
    _check_languages(splits, wanted)
    with (
        output_folder(args.out, "prepare-xnli") as out,
        OrderedPool(args.workers, encode_in_worker, set_up_worker, (texts, args.tokenizer)) as pool,
        tqdm(total=sum(file.path.stat().st_size for file in all_files), unit="B", unit_scale=True) as progress,
    ):
        tokenizer.write_files(texts, out)
        for name, words in (("dict.txt", symbols), (LABEL_FILE, LABELS)):
            (out / name).write_text("".join(f"{word} 1\n" for word in words), encoding="utf-8")

        def show(counts: RowCounts) -> None:
            progress.set_postfix(rows=f"{counts.read:,}", refresh=False)
            progress.update(sum(file.position for file in all_files) - progress.n)

        counts = {}
        for split, examples in splits.items():
            progress.set_description(split)
            counts[split] = _prepare(split, examples, out, pool, show)
        statistics = {split: _statistics(of_split) for split, of_split in counts.items()}
        (out / STATISTICS).write_text(json.dumps(statistics, indent=1) + "\n", encoding="utf-8")
    _report(counts)


def _files(source: str) -> list[NLIFile]:
    language, path = parse_source(source)
    if not path.exists():
        raise InputError(f"{path}: no such file; name files or folders, as in dev-fr.tsv or fr=dev.tsv")
    return [NLIFile(file, language) for file in files_in(path)]


def _by_language(files: list[NLIFile], wanted: list[str] | None) -> dict[str, Iterator[NLIExample]]:
    """The examples of one split by language, English first, as all others follow the first."""
    parts: dict[str, list[Iterable[NLIExample]]] = {}
    origins: dict[str, NLIFile] = {}
    for file in files:
        for language, examples in _examples(file).items():
            if wanted is not None and language not in wanted:
                continue
            origin = origins.setdefault(language, file)
            if origin is not file and None in (origin.language, file.language):
                raise InputError(
                    f"{origin.path} and {file.path} both have {language}; name one of them, or write {language}= "
                    "before each if they shall follow one another"
                )
            parts.setdefault(language, []).append(examples)
    languages = sorted(parts, key=lambda language: (language != "en", language))
    return {language: chain.from_iterable(parts[language]) for language in languages}


def _examples(file: NLIFile) -> dict[str, Iterable[NLIExample]]:
    if file.language or not file.names_languages:
        return {file.language or language_of(file.path): map(itemgetter(1), file)}
    examples = defaultdict(list)
    for language, example in file:
        examples[language].append(example)
    return examples


def _check_languages(splits: dict[str, dict], wanted: list[str] | None) -> None:
    found = {language for examples in splits.values() for language in examples}
    missing = [language for language in wanted or () if language not in found]
    if missing:
        raise InputError(f"--langs: no file of {', '.join(missing)} among those given; name them with LANG=FILE")
    for split, examples in splits.items():
        if not examples:
            raise InputError(f"--{split}: none of its files has a language of --langs {','.join(wanted)}; leave it out")


def _prepare(
    split: str,
    examples: dict[str, Iterator[NLIExample]],
    out: Path,
    pool: OrderedPool,
    show: Callable[[RowCounts], None],
) -> RowCounts:
    """Write one split; *show* gets its counts so far. Raises InputError if no row is left."""
    languages = tuple(examples)
    rows = side_by_side(examples)
    size = max(1, BATCH // len(languages))
    batches = (RowBatch(split, languages, chunk) for chunk in iter(lambda: list(islice(rows, size)), []))
    counts = RowCounts()
    with ExitStack() as stack:
        files = {}
        for language in languages:
            (out / language).mkdir(exist_ok=True)
            for part in FIELDS:
                path = out / language / f"{split}.{part}"
                files[language, part] = stack.enter_context(open(path, "w", encoding="utf-8", newline="\n"))
        for _, encoded in stack.enter_context(closing(pool.map(batches))):
            for key, lines in encoded.lines.items():
                files[key].writelines(f"{line}\n" for line in lines)
            counts.add(encoded.counts)
            show(counts)
    if not counts.rows:
        raise InputError(f"{split}: none of {counts.read:,} rows is left ({_dropped(counts)}); give other files")
    return counts


def _statistics(counts: RowCounts) -> dict:
    languages = {
        language: {"pieces": pieces, "unknown": counts.unknown[language]} for language, pieces in counts.pieces.items()
    }
    return {
        "read": counts.read,
        "rows": counts.rows,
        "labels": {label: counts.labels[label] for label in LABELS},
        "dropped": counts.dropped,
        "languages": languages,
    }


def _report(all_counts: dict[str, RowCounts]) -> None:
    lines = [["", "rows", *LABELS, "WordPieces a row", "unknown"]]
    for split, counts in all_counts.items():
        labels = [f"{counts.labels[label]:,}" for label in LABELS]
        for language, pieces in counts.pieces.items():
            mean, unknown = pieces / counts.rows, counts.unknown[language] / pieces
            lines.append([f"{split} {language}", f"{counts.rows:,}", *labels, f"{mean:.1f}", f"{unknown:.2%}"])
    print(markdown_table(lines))
    for split, counts in all_counts.items():
        print(f"{split}: {counts.read:,} rows read, {_dropped(counts)}")


def _dropped(counts: RowCounts) -> str:
    reasons = ", ".join(f"{number:,} {reason} ({REASONS[reason]})" for reason, number in counts.dropped.items())
    return f"dropped in every language: {reasons or 'none'}"
