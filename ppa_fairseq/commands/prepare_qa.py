"""SQuAD-format question answering to WordPieces, binarized for the task mlqa_codeswitch.

Files are SQuAD's JSON (SQuAD 1.1, MLQA, XQuAD, TyDiQA-GoldP and translations of them), or .jsonl with the fields of
`datasets`; plain, .gz or .xz. A language is given as LANG=FILE[,FILE...]. Code-switching finds the translations of a
question by its id, so a question has the same id in all languages.

OUT gets LANG/{train,valid}.{question,context,answer}.{bin,idx}, offsets.npy and ids.txt of each, dict.txt, the
tokenizer's files and qa.json with the window sizes, the languages and the statistics; what an earlier run left in OUT
is replaced. Contexts are stored whole: windows are cut when they are loaded, since a code-switched question has
another length. A question keeps the first of its answers that has a span; one without is left out and counted.
"""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints import tokenizer_files as tokenizer
from ppa_fairseq.commands.arguments import positive
from ppa_fairseq.data.bitext.reader import LANGUAGE
from ppa_fairseq.data.code_switching import ENGLISH
from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.data.qa.answer_spans import FAULTS
from ppa_fairseq.data.qa.encoder import encode_in_worker, set_up_worker
from ppa_fairseq.data.qa.squad import Question, read_squad
from ppa_fairseq.data.qa.windows import check_window_sizes
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import READABLE, output_folder, why_no_file
from ppa_fairseq.utils.markdown import markdown_table

BATCH = 200  # questions a task
META = "qa.json"
REASONS = {
    "unanswerable": "questions without an answer in the file",
    "misplaced": "questions whose answers have no span, the first since it is misplaced",
    "unmapped": "questions whose answers have no span, the first since it is unmapped",
    "blank": "questions without a WordPiece",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    files = {"nargs": "+", "action": "extend", "default": [], "metavar": "LANG=FILE"}
    add("--tokenizer", required=True, metavar="DIR", help="folder that `ppa import-hf` wrote, or a Hugging Face one")
    add("--out", required=True, metavar="OUT", type=Path, help="folder to write")
    add("--train", **files, help="training files, as in en=train-v1.1.json de=squad.translate.train.en-de.json")
    add("--valid", **files, help="validation files, as in en=dev-context-en-question-en.json")
    add("--max-length", type=positive, default=384, metavar="N",
        help="WordPieces of a question with a window of its context, specials included: what OUT's windows are "
        "counted for, and the task's default (default: %(default)s)")  # fmt: skip
    add("--doc-stride", type=int, default=128, metavar="N",
        help="WordPieces that two consecutive windows share, as in transformers (default: %(default)s)")  # fmt: skip
    add("--renumber", action="store_true",
        help="give the questions of files in which ids repeat (some copies of TyDiQA) new ones, FILE:1, FILE:2 ...; "
        "code-switching then finds no translations of them")  # fmt: skip
    add("--workers", type=positive, default=len(os.sched_getaffinity(0)), metavar="N",
        help="processes that tokenize (default: all cores)")  # fmt: skip


@dataclass(frozen=True)
class Source:
    """The files of one split of one language."""

    language: str
    split: str
    files: tuple[Path, ...]

    def read(self, renumber: bool) -> list[Question]:
        return read_squad(*self.files, renumber=renumber)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.data.dictionary import WordPieceDictionary
    from ppa_fairseq.data.qa.writer import QAWriter

    sources = [*_sources(args.train, "train"), *_sources(args.valid, "valid")]
    if not sources:
        raise InputError("neither --train nor --valid: give LANG=FILE, as in --train en=train-v1.1.json")
    texts = tokenizer.read_files(args.tokenizer)
    dictionary = WordPieceDictionary(tokenizer.symbols(texts, args.tokenizer), source=args.tokenizer)
    sizes = args.max_length, args.doc_stride, PairLayout(dictionary, args.max_length).specials
    check_window_sizes(*sizes)
    # Reading takes a hundredth of the time: what is wrong with the last file is told before the first is encoded.
    total = sum(len(source.read(args.renumber)) for source in sources)
    with (
        output_folder(args.out, "prepare-qa") as out,
        OrderedPool(args.workers, encode_in_worker, set_up_worker, (texts, args.tokenizer)) as pool,
        tqdm(total=total, unit=" questions") as progress,
    ):
        tokenizer.write_files(texts, out)
        dictionary.save(str(out / "dict.txt"))
        all_counts, train_ids = {}, {}
        for source in sources:
            (out / source.language).mkdir(exist_ok=True)
            writer = QAWriter(out / source.language, source.split, dictionary, sizes)
            all_counts[source] = writer.counts
            _prepare(source, source.read(args.renumber), writer, pool, progress)
            if source.split == "train":
                train_ids[source.language] = set(writer.ids)
        partners = {
            language: len(ids & train_ids[ENGLISH])
            for language, ids in train_ids.items()
            if ENGLISH in train_ids and language != ENGLISH
        }
        _write_meta(out, args, all_counts, partners)
    _report(all_counts, partners)


def _sources(texts: list[str], split: str) -> Iterator[Source]:
    """Sources in the order of their names' first use. Raises InputError on a bad name or a missing file."""
    files: dict[str, list[Path]] = {}
    for text in texts:
        language, _, names = text.partition("=")
        if not names or not LANGUAGE.fullmatch(language):
            raise InputError(f"--{split} {text}: expected LANG=FILE[,FILE...], as in en=train-v1.1.json")
        files.setdefault(language, []).extend(map(Path, names.split(",")))
    for language, paths in files.items():
        for path in paths:
            if not path.is_file() or paths.count(path) > 1:
                fault = "given twice" if path.is_file() else why_no_file(path)
                raise InputError(f"{path}: {fault}; --{split} {language} needs SQuAD-format files")
        yield Source(language, split, tuple(paths))


def _prepare(source: Source, questions: list[Question], writer, pool: OrderedPool, progress: tqdm) -> None:
    """Encode *questions* and write them by *writer*, a `QAWriter`, to its end."""
    batches = (questions[start : start + BATCH] for start in range(0, len(questions), BATCH))
    progress.set_description(f"{source.split} {source.language}")
    with closing(pool.map(batches)) as encoded_batches:
        for batch, encoded in encoded_batches:
            writer.write(len(batch), encoded)
            progress.update(len(batch))
    counts = writer.counts
    if not counts.kept:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.dropped.most_common())
        places = "; ".join(place for places in counts.places.values() for place in places)
        raise InputError(
            f"--{source.split} {source.language}: none of {counts.read:,} questions has an answer to learn from "
            f"({reasons}); {places or 'give files with answers'}"
        )
    writer.close()


def _write_meta(out: Path, args: argparse.Namespace, all_counts: dict, partners: dict[str, int]) -> None:
    languages = {
        split: [source.language for source in all_counts if source.split == split] for split in ("train", "valid")
    }
    statistics: dict[str, dict] = {}
    for source, counts in all_counts.items():
        statistics.setdefault(source.language, {})[source.split] = vars(counts)
    sizes = {"max_length": args.max_length, "doc_stride": args.doc_stride}
    meta = sizes | languages | {f"in_{ENGLISH}_too": partners, "statistics": statistics}
    (out / META).write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", **READABLE)


def _report(all_counts: dict, partners: dict[str, int]) -> None:
    reasons = [reason for reason in REASONS if any(counts.dropped[reason] for counts in all_counts.values())]
    rows = [["", "read", "kept", *reasons, "windows", "windowless", "cut", "[UNK]"]]
    for source, counts in all_counts.items():
        dropped = [counts.dropped[reason] for reason in reasons]
        numbers = [counts.read, counts.kept, *dropped, counts.windows, counts.windowless, counts.cut]
        share = f"{counts.unknown / counts.tokens:.2%}"
        rows.append([f"{source.split} {source.language}", *(f"{number:,}" for number in numbers), share])
    print(markdown_table(rows))
    for reason in reasons:
        print(f"{reason}: {REASONS[reason]}; left out")
    print("windowless: kept questions whose answer is whole in no window; cut: questions too long to stand beside one")
    for fault, meaning in FAULTS.items():
        found = [(source, counts) for source, counts in all_counts.items() if counts.faults[fault]]
        if found:
            print(f"{fault} answers, {meaning}:")
        for source, counts in found:
            print(f"  {source.split} {source.language}: {counts.faults[fault]:,}, as in {counts.places[fault][0]}")
    for language, number in partners.items():
        print(f"{language}: {number:,} training questions are in {ENGLISH}, too (for code-switching)")
