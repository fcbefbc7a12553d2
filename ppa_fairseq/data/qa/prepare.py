"""From SQuAD-format files to a data-bin folder of fairseq's indexed datasets."""

import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder, best_fitting_int_dtype
from tokenizers import Tokenizer
from tqdm import tqdm

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files, write_files
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.qa.encoder import answer_span, encode_with_offsets
from ppa_fairseq.data.qa.squad import Question, read_squad
from ppa_fairseq.data.qa.windows import check_window_sizes
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import READABLE, output_folder

logger = logging.getLogger(__name__)

BATCH = 200  # questions to tokenize at once
PARTS = ("question", "context", "answer")
Sources = dict[str, dict[str, list[Path]]]  # files by split and language


def prepare_qa(
    tokenizer_folder: str, out: Path, sources: Sources, max_length: int, doc_stride: int, renumber: bool
) -> dict[str, dict[str, dict]]:
    """Write all *sources*, the dictionary, the tokenizer and qa.json to *out*; return the counts by language and split.

    *max_length* and *doc_stride* become the task's defaults.
    """
    texts = read_files(tokenizer_folder)
    tokenizer = ModelTokenizer(texts, tokenizer_folder)
    dictionary = WordPieceDictionary.of(tokenizer)
    if warning := tokenizer.case_warning():
        print(warning)
    check_window_sizes(max_length, doc_stride, PairLayout(dictionary, max_length).specials)
    questions = {
        (split, language): read_squad(*files, renumber=renumber)
        for split, by_language in sources.items()
        for language, files in by_language.items()
    }
    statistics: dict[str, dict[str, dict]] = {}
    with output_folder(out, "prepare-qa") as folder:
        for (split, language), of_source in questions.items():
            (folder / language).mkdir(exist_ok=True)
            counts = _write(of_source, folder / language, split, tokenizer.backend, dictionary)
            statistics.setdefault(language, {})[split] = counts
        meta = {"max_length": max_length, "doc_stride": doc_stride}
        meta |= {split: list(by_language) for split, by_language in sources.items()} | {"statistics": statistics}
        (folder / "qa.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", **READABLE)
        write_files(texts, folder)
        dictionary.save(str(folder / "dict.txt"))
    return statistics


def _write(
    questions: list[Question], folder: Path, split: str, tokenizer: Tokenizer, dictionary: WordPieceDictionary
) -> dict:
    """Write `{split}.{question,context,answer}.{bin,idx}` and `{split}.ids.txt`; return the counts.

    Rows of question and context end in eos. A row of answer is the [first, last] token of the answer in its context.
    Row k of all parts and of ids.txt is one question. Raises InputError if no question has an answer to learn from.
    """
    dtypes = dict.fromkeys(PARTS, best_fitting_int_dtype(len(dictionary))) | {"answer": np.uint32}
    builders = {part: MMapIndexedDatasetBuilder(f"{folder / split}.{part}.bin", dtypes[part]) for part in PARTS}
    ids, dropped, tokens, unknown = [], Counter(), 0, 0
    source = f"{split} {folder.name}"
    for start in tqdm(range(0, len(questions), BATCH), desc=source, unit_scale=BATCH, unit=" questions"):
        batch = questions[start : start + BATCH]
        contexts = list(dict.fromkeys(question.context for question in batch))
        tokenized = dict(zip(contexts, encode_with_offsets(tokenizer, contexts), strict=True))
        asked = tokenizer.encode_batch_fast([question.question for question in batch], add_special_tokens=False)
        for question, encoding in zip(batch, asked, strict=True):
            context = tokenized[question.context]
            span = answer_span(question, context.offsets)
            if not span or not encoding.ids:
                reason = "blank" if span else "misplaced" if question.answers else "unanswerable"
                if reason == "misplaced" and not dropped[reason]:
                    logger.warning(f"{question.place}: no answer is at its answer_start; left out, with others like it")
                dropped[reason] += 1
                continue
            ids.append(question.id)
            rows = [*encoding.ids, dictionary.eos()], [*context.ids, dictionary.eos()], span
            for part, row in zip(PARTS, rows, strict=True):
                builders[part].add_item(torch.tensor(row))
            tokens += len(encoding.ids) + len(context.ids)
            unknown += encoding.ids.count(dictionary.unk()) + int(np.count_nonzero(context.ids == dictionary.unk()))
    if not ids:
        fault = ", ".join(f"{number:,} {reason}" for reason, number in dropped.items())
        raise InputError(f"--{source}: none of {len(questions):,} questions has an answer to learn from: {fault}")
    for part, builder in builders.items():
        builder.finalize(f"{folder / split}.{part}.idx")
    (folder / f"{split}.ids.txt").write_text("".join(f"{name}\n" for name in ids), encoding="utf-8", newline="\n")
    return {"read": len(questions), "kept": len(ids), "dropped": dropped, "tokens": tokens, "unknown": unknown}
