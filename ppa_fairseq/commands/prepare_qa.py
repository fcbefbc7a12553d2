"""Tokenize SQuAD-format question answering and binarize it for the task mlqa_codeswitch.

Files are SQuAD's JSON (SQuAD 1.1, MLQA, XQuAD, TyDiQA-GoldP and translations of them), or JSON lines with the fields of
`datasets`; plain or packed. Give a language as LANG=FILE[,FILE...]. Code-switching finds the translations of a
question by its id, so a question must have the same id in all languages.

OUT gets LANG/{train,valid}.{question,context,answer}.{bin,idx} and ids.txt of each, dict.txt, the tokenizer's files and
qa.json with the window sizes, the languages and the statistics. An earlier run in OUT is replaced. Contexts are stored
whole: training cuts the windows, since a code-switched question has another length.

A question keeps the first of its answers that is at its answer_start and has a token. The command leaves out and counts
questions without an answer (unanswerable), with none at its answer_start (misplaced) and without a token (blank).
"""

import argparse
import os
from pathlib import Path

from ppa_fairseq.commands.arguments import positive
from ppa_fairseq.data.text_files import LANGUAGE
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.markdown import markdown_table

SPLITS = ("train", "valid")
REASONS = ("unanswerable", "misplaced", "blank")  # to leave out a question


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    files = {"nargs": "+", "action": "extend", "default": [], "metavar": "LANG=FILE"}
    add("--tokenizer", required=True, metavar="DIR", help="folder that `ppa import-hf` wrote, or a Hugging Face model")
    add("--out", required=True, metavar="OUT", type=Path, help="folder to write")
    add("--train", **files, help="training files, as in en=train-v1.1.json de=squad.translate.train.en-de.json")
    add("--valid", **files, help="validation files, as in en=dev-context-en-question-en.json")
    add("--max-length", type=positive, default=384, metavar="N",
        help="tokens of a question with a window of its context, special tokens included, unless training says "
        "otherwise (default: %(default)s)")  # fmt: skip
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
    sources: dict[str, dict[str, list[Path]]] = {split: {} for split in SPLITS}
    for split in SPLITS:
        for text in getattr(args, split):
            language, _, names = text.partition("=")
            if not names or not LANGUAGE.fullmatch(language):
                raise InputError(f"--{split} {text}: expected LANG=FILE[,FILE...], as in en=train-v1.1.json")
            sources[split].setdefault(language, []).extend(map(Path, names.split(",")))
    if not any(sources.values()):
        raise InputError("neither --train nor --valid: give LANG=FILE, as in --train en=train-v1.1.json")
    statistics = prepare_qa(args.tokenizer, args.out, sources, args.max_length, args.doc_stride, args.renumber)
    rows = [["", "read", "kept", *REASONS, "[UNK]"]]
    for language, by_split in statistics.items():
        for split, counts in by_split.items():
            numbers = counts["read"], counts["kept"], *(counts["dropped"][reason] for reason in REASONS)
            share = f"{counts['unknown'] / counts['tokens']:.2%}"
            rows.append([f"{split} {language}", *(f"{number:,}" for number in numbers), share])
    print(markdown_table(rows))
