"""Tokenize SQuAD-format question answering and binarize it for the task mlqa_codeswitch.

Files are SQuAD's JSON (SQuAD 1.1, MLQA, XQuAD, TyDiQA-GoldP and translations of them), or JSON lines with the fields of
`datasets`; plain, .gz or .xz. Give a language as LANG=FILE[,FILE...]. Code-switching finds the translations of a
question by its id, so a question must have the same id in all languages.

OUT gets LANG/{train,valid}.{question,context,answer}.{bin,idx}, offsets.npy and ids.txt of each, dict.txt, the
tokenizer's files and qa.json with the window sizes, the languages and the statistics. An earlier run in OUT is
replaced. Contexts are stored whole: training cuts the windows, since a code-switched question has another length. A
question keeps the first of its answers that has a span; one without such an answer is left out and counted.
"""

import argparse
import os
from pathlib import Path

from ppa_fairseq.commands.arguments import positive
from ppa_fairseq.data.text_files import LANGUAGE
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import why_no_file
from ppa_fairseq.utils.markdown import markdown_table

REASONS = {
    "unanswerable": "questions without an answer in the file",
    "misplaced": "questions whose answers have no span, the first because it is misplaced",
    "unmapped": "questions whose answers have no span, the first because it is unmapped",
    "blank": "questions without a token",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    files = {"nargs": "+", "action": "extend", "default": [], "metavar": "LANG=FILE"}
    add("--tokenizer", required=True, metavar="DIR", help="folder that `ppa import-hf` wrote, or a Hugging Face model")
    add("--out", required=True, metavar="OUT", type=Path, help="folder to write")
    add("--train", **files, help="training files, as in en=train-v1.1.json de=squad.translate.train.en-de.json")
    add("--valid", **files, help="validation files, as in en=dev-context-en-question-en.json")
    add("--max-length", type=positive, default=384, metavar="N",
        help="tokens of a question with a window of its context, special tokens included; the task's default, and that "
        "of the windows counted (default: %(default)s)")  # fmt: skip
    add("--doc-stride", type=int, default=128, metavar="N",
        help="tokens that two consecutive windows share, as in transformers (default: %(default)s)")  # fmt: skip
    add("--renumber", action="store_true",
        help="where ids repeat in the files (some copies of TyDiQA), number the questions anew, FILE:1, FILE:2 ...; "
        "code-switching then finds no translations of them")  # fmt: skip
    add("--workers", type=positive, metavar="N", help="threads that tokenize (default: all cores)")


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.data.qa.prepare import prepare_qa

    if args.workers:
        os.environ["RAYON_NUM_THREADS"] = str(args.workers)  # what the tokenizers library reads
    sources = _sources("train", args.train) | _sources("valid", args.valid)
    if not sources:
        raise InputError("neither --train nor --valid: give LANG=FILE, as in --train en=train-v1.1.json")
    _report(*prepare_qa(args.tokenizer, args.out, sources, args.max_length, args.doc_stride, args.renumber))


def _sources(split: str, texts: list[str]) -> dict[tuple[str, str], list[Path]]:
    """Return files by split and language. Raises InputError on a bad name or a missing file."""
    sources: dict[tuple[str, str], list[Path]] = {}
    for text in texts:
        language, _, names = text.partition("=")
        if not names or not LANGUAGE.fullmatch(language):
            raise InputError(f"--{split} {text}: expected LANG=FILE[,FILE...], as in en=train-v1.1.json")
        files = sources.setdefault((split, language), [])
        for path in map(Path, names.split(",")):
            if not path.is_file() or path in files:
                fault = "given twice" if path in files else why_no_file(path)
                raise InputError(f"{path}: {fault}; --{split} {language} needs SQuAD-format files")
            files.append(path)
    return sources


def _report(all_counts: dict, partners: dict[str, int]) -> None:
    from ppa_fairseq.data.qa.encoder import FAULTS

    reasons = [reason for reason in REASONS if any(counts.dropped[reason] for counts in all_counts.values())]
    rows = [["", "read", "kept", *reasons, "windows", "windowless", "cut", "[UNK]"]]
    for source, counts in all_counts.items():
        dropped = [counts.dropped[reason] for reason in reasons]
        numbers = [counts.read, counts.kept, *dropped, counts.windows, counts.windowless, counts.cut]
        unknown = f"{counts.unknown / counts.tokens:.2%}"
        rows.append([" ".join(source), *(f"{number:,}" for number in numbers), unknown])
    print(markdown_table(rows))
    for reason in reasons:
        print(f"{reason}: {REASONS[reason]}; left out")
    print("windowless: kept questions whose answer is whole in no window; cut: questions too long to fit beside one")
    for fault, meaning in FAULTS.items():
        found = {" ".join(source): counts for source, counts in all_counts.items() if counts.faults[fault]}
        if found:
            print(f"{fault} answers, {meaning}:")
        for source, counts in found.items():
            print(f"  {source}: {counts.faults[fault]:,}, as in {counts.places[fault][0]}")
    for language, number in partners.items():
        print(f"{language}: {number:,} training questions exist in English, too (for code-switching)")
