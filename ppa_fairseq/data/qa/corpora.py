"""Open binarized question answering in a data-bin folder, as `ppa prepare-qa` writes it."""

import json
from pathlib import Path

import numpy as np

from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.indexed import open_indexed
from ppa_fairseq.data.qa.dataset import QACorpus
from ppa_fairseq.utils.errors import InputError

HOW_TO_PREPARE = "prepare it with `ppa prepare-qa` or scripts/prepare_mlqa.sh"


def find_languages(folder: str, split: str) -> list[str]:
    """Return the languages in which *folder* has *split*, sorted."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; {HOW_TO_PREPARE}")
    return sorted(path.parent.name for path in Path(folder).glob(f"*/{split}.question.idx"))


def load_dictionary(folder: str) -> WordPieceDictionary:
    """Return the dictionary of all languages. Raises InputError if there is none."""
    return WordPieceDictionary.load(f"{folder}/dict.txt")


def window_sizes(folder: str) -> tuple[int, int]:
    """Return the maximum length and doc stride for which the data was prepared. Raises InputError without qa.json."""
    path = Path(folder) / "qa.json"
    if not path.is_file():
        raise InputError(f"{path}: no such file; {HOW_TO_PREPARE}")
    meta = json.loads(path.read_text("utf-8"))
    return meta["max_length"], meta["doc_stride"]


def load_qa(
    folder: str, split: str, languages: list[str], dictionary: WordPieceDictionary | None = None
) -> list[QACorpus]:
    """Open *split* of all languages, memory-mapped. Raises InputError if a file is missing, damaged or does not fit."""
    numbers: dict[str, int] = {}  # of question ids: the same in every language
    corpora = []
    for language in languages:
        question, context, answer, ids = _load(Path(folder, language), split, dictionary)
        number = np.array([numbers.setdefault(name, len(numbers)) for name in ids])
        corpora.append(QACorpus(language, question, context, answer, number))
    return corpora


def _load(folder: Path, split: str, dictionary: WordPieceDictionary | None):
    question, context = (open_indexed(f"{folder}/{split}.{part}", dictionary) for part in ("question", "context"))
    answer = open_indexed(f"{folder}/{split}.answer")
    names = folder / f"{split}.ids.txt"
    if not names.is_file():
        raise InputError(f"{names}: no such file; {HOW_TO_PREPARE}")
    ids = names.read_text("utf-8").split("\n")[:-1]
    if not len(question) == len(context) == len(answer) == len(ids) > 0:
        raise InputError(
            f"{folder}, {split}: {len(question)} questions, {len(context)} contexts, {len(answer)} answers, "
            f"{len(ids)} ids; {HOW_TO_PREPARE} again"
        )
    if len(set(ids)) < len(ids):
        raise InputError(f"{names}: two questions have the same id; {HOW_TO_PREPARE} again")
    spans = np.stack([answer[row].numpy() for row in range(len(ids))])  # (rows, 2)
    if (wrong := (spans[:, 0] < 0) | (spans[:, 0] > spans[:, 1]) | (spans[:, 1] >= context.sizes - 1)).any():
        raise InputError(f"{folder}, {split}: the answer of row {np.argmax(wrong) + 1} is not in its context")
    return question, context, spans, ids
