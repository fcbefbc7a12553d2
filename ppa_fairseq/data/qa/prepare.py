"""From SQuAD-format files to a data-bin folder of fairseq's indexed datasets."""

import io
import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder, best_fitting_int_dtype
from tokenizers import Tokenizer
from tqdm import tqdm

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files, write_files
from ppa_fairseq.data.code_switching import ENGLISH
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.qa.encoder import answer_spans, encode_with_offsets
from ppa_fairseq.data.qa.squad import Question, read_squad
from ppa_fairseq.data.qa.windows import check_window_sizes, context_windows, kept_question
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import READABLE, output_folder

BATCH = 200  # questions to tokenize at once
PARTS = ("question", "context", "answer")
SPLITS = ("train", "valid")
Sources = dict[tuple[str, str], list[Path]]  # files by split and language


@dataclass
class QACounts:
    """Counts of one source: `read` is always `kept` and all of `dropped`.

    `windowless`, `cut` and `windows` hold for the window sizes given.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)  # questions, by reason
    faults: Counter = field(default_factory=Counter)  # single answers of any question, by fault
    places: dict[str, list[str]] = field(default_factory=dict)  # the first three by fault
    windows: int = 0
    windowless: int = 0  # questions whose answer is whole in no window
    cut: int = 0  # questions that are too long to fit beside a window
    tokens: int = 0  # of the kept questions and their contexts
    unknown: int = 0  # of these, [UNK]


def prepare_qa(
    tokenizer_folder: str, out: Path, sources: Sources, max_length: int, doc_stride: int, renumber: bool
) -> tuple[dict[tuple[str, str], QACounts], dict[str, int]]:
    """Write all *sources*, the dictionary, the tokenizer and qa.json to *out*.

    *max_length* and *doc_stride* are the task's defaults and those of the windows counted. Returns the counts of each
    source, and for each language how many of its training questions exist in English, too.
    """
    texts = read_files(tokenizer_folder)
    tokenizer = ModelTokenizer(texts, tokenizer_folder)
    dictionary = WordPieceDictionary.of(tokenizer)
    if warning := tokenizer.case_warning():
        print(warning)
    sizes = max_length, doc_stride, PairLayout(dictionary, max_length).specials
    check_window_sizes(*sizes)
    # Reading is fast: find what is wrong with the last file before tokenizing the first.
    total = sum(len(read_squad(*files, renumber=renumber)) for files in sources.values())
    counts: dict[tuple[str, str], QACounts] = {}
    train_ids: dict[str, set[str]] = {}
    with output_folder(out, "prepare-qa") as folder, tqdm(total=total, unit=" questions") as progress:
        for (split, language), files in sources.items():
            progress.set_description(f"{split} {language}")
            writer = QAWriter(folder / language, split, tokenizer.backend, dictionary, sizes)
            questions = read_squad(*files, renumber=renumber)
            for start in range(0, len(questions), BATCH):
                writer.write(questions[start : start + BATCH])
                progress.update(min(BATCH, len(questions) - start))
            writer.close()
            counts[split, language] = writer.counts
            if split == "train":
                train_ids[language] = set(writer.ids)
        english = train_ids.pop(ENGLISH, None)
        partners = {} if english is None else {name: len(ids & english) for name, ids in train_ids.items()}
        languages = {split: [language for one, language in sources if one == split] for split in SPLITS}
        statistics: dict[str, dict] = {}
        for (split, language), of_source in counts.items():
            statistics.setdefault(language, {})[split] = vars(of_source)
        meta = {"max_length": max_length, "doc_stride": doc_stride, **languages, f"in_{ENGLISH}_too": partners}
        text = json.dumps(meta | {"statistics": statistics}, indent=1, ensure_ascii=False)
        (folder / "qa.json").write_text(text + "\n", **READABLE)
        write_files(texts, folder)
        dictionary.save(str(folder / "dict.txt"))
    return counts, partners


class QAWriter:
    """Writes `{split}.{question,context,answer}.{bin,idx}`, `{split}.offsets.npy` and `{split}.ids.txt`, and counts.

    Rows of question and context end in eos. Each id in context.bin has a row in offsets; that of eos is empty, behind
    the last token. A row of answer is the [first, last] token of the answer in its context. Row k of all parts and of
    ids.txt is one question. *sizes*: max_length, doc_stride and specials of the windows to count.
    """

    def __init__(
        self, folder: Path, split: str, tokenizer: Tokenizer, dictionary: WordPieceDictionary, sizes: tuple
    ):
        self.tokenizer = tokenizer
        self.source = f"{split} {folder.name}"
        self.prefix = f"{folder / split}."
        folder.mkdir(exist_ok=True)
        dtypes = dict.fromkeys(PARTS, best_fitting_int_dtype(len(dictionary))) | {"answer": np.uint32}
        self.builders = {part: MMapIndexedDatasetBuilder(f"{self.prefix}{part}.bin", dtypes[part]) for part in PARTS}
        self.eos, self.unk = np.array([dictionary.eos()]), dictionary.unk()
        self.sizes = sizes
        self.offsets: list[np.ndarray] = []
        self.ids: list[str] = []
        self.counts = QACounts()

    def write(self, questions: list[Question]) -> None:
        """Write those of *questions* that have a token and an answer with a span, and count all."""
        contexts = list(dict.fromkeys(question.context for question in questions))
        tokenized = dict(zip(contexts, encode_with_offsets(self.tokenizer, contexts), strict=True))
        asked = self.tokenizer.encode_batch_fast([one.question for one in questions], add_special_tokens=False)
        self.counts.read += len(questions)
        for question, encoding in zip(questions, asked, strict=True):
            context = tokenized[question.context]
            spans, faults = answer_spans(question, context.offsets)
            for fault, place in faults:
                self.counts.faults[fault] += 1
                places = self.counts.places.setdefault(fault, [])
                places += [place] * (len(places) < 3)
            if not question.answers:
                self.counts.dropped["unanswerable"] += 1
            elif not spans:
                self.counts.dropped[faults[0][0]] += 1
            elif not encoding.ids:
                self.counts.dropped["blank"] += 1
            else:
                self.ids.append(question.id)
                self._write_row(np.array(encoding.ids, dtype=np.int32), *context, spans[0])

    def _write_row(self, question: np.ndarray, context: np.ndarray, offsets: np.ndarray, span: tuple[int, int]) -> None:
        rows = np.append(question, self.eos), np.append(context, self.eos), np.array(span)
        for part, row in zip(PARTS, rows, strict=True):
            self.builders[part].add_item(torch.from_numpy(row))
        self.offsets += [offsets, np.full((1, 2), offsets[-1, 1])]
        windows = context_windows(len(question), len(context), *self.sizes)
        self.counts.kept += 1
        self.counts.tokens += len(question) + len(context)
        self.counts.unknown += sum(int(np.count_nonzero(ids == self.unk)) for ids in (question, context))
        self.counts.windows += len(windows)
        self.counts.windowless += not any(start <= span[0] and span[1] < end for start, end in windows)
        self.counts.cut += int(kept_question(len(question), *self.sizes)) < len(question)

    def close(self) -> None:
        """Finish all files. Raises InputError if no question was kept."""
        if not self.ids:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.counts.dropped.most_common())
            places = "; ".join(chain.from_iterable(self.counts.places.values())) or "give files with answers"
            fault = f"none of {self.counts.read:,} questions has an answer to learn from ({reasons})"
            raise InputError(f"--{self.source}: {fault}; {places}")
        for part, builder in self.builders.items():
            builder.finalize(f"{self.prefix}{part}.idx")
        content = io.BytesIO()  # on a full disk np.save would lose the end of a file silently
        np.save(content, np.concatenate(self.offsets, dtype=np.int32))
        Path(f"{self.prefix}offsets.npy").write_bytes(content.getvalue())
        with open(f"{self.prefix}ids.txt", "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{name}\n" for name in self.ids)
