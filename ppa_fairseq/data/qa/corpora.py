"""Binarized question answering of a data-bin folder, as `ppa prepare-qa` writes it."""

from pathlib import Path

import numpy as np

from ppa_fairseq.data.bitext.corpora import open_indexed
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.qa.dataset import QACorpus
from ppa_fairseq.utils.errors import InputError, shown
from ppa_fairseq.utils.strict_json import read_object

HOW_TO_PREPARE = "prepare it with `ppa prepare-qa` or scripts/prepare_mlqa.sh"


def find_languages(folder: str, split: str) -> list[str]:
    """The languages that *folder* holds *split* of, sorted."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; {HOW_TO_PREPARE}")
    return sorted(path.parent.name for path in Path(folder).glob(f"*/{split}.question.idx"))


def load_dictionary(folder: str) -> WordPieceDictionary:
    """The WordPieces of all languages. Raises InputError if they are not there."""
    return WordPieceDictionary.load(f"{folder}/dict.txt")


def window_sizes(folder: str) -> tuple[int, int]:
    """Maximum length and doc stride that the data was prepared for. Raises InputError if qa.json does not tell them."""
    path = Path(folder) / "qa.json"
    meta = read_object(path, HOW_TO_PREPARE)
    for name in ("max_length", "doc_stride"):
        if type(meta.get(name)) is not int:
            raise InputError(f"{path}: {name} is {shown(meta.get(name))}, no number of WordPieces; {HOW_TO_PREPARE}")
    return meta["max_length"], meta["doc_stride"]


def load_qa(
    folder: str, split: str, languages: list[str], dictionary: WordPieceDictionary | None = None
) -> list[QACorpus]:
    """Open *split* of every language, memory-mapped.

    Raises InputError if a file is missing or damaged, or an id is not in *dictionary* (None: nobody looks).
    """
    loaded = [_load(Path(folder, language), split, dictionary) for language in languages]
    numbers: dict[str, int] = {}  # of question ids: the same in every language
    corpora = []
    for language, (question, context, answer, ids) in zip(languages, loaded, strict=True):
        number = np.array([numbers.setdefault(name, len(numbers)) for name in ids])
        corpora.append(QACorpus(language, question, context, answer, number))
    return corpora


def _load(folder: Path, split: str, dictionary: WordPieceDictionary | None):
    question, context = (open_indexed(f"{folder}/{split}.{part}", dictionary) for part in ("question", "context"))
    answer = open_indexed(f"{folder}/{split}.answer")
    try:
        ids = (folder / f"{split}.ids.txt").read_bytes().decode().split("\n")[:-1]  # an id may hold a \r
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder}/{split}.ids.txt: cannot be read ({error}); {HOW_TO_PREPARE}") from None
    if not len(question) == len(context) == len(answer) == len(ids):
        raise InputError(
            f"{folder}, {split}: {len(question)} questions, {len(context)} contexts, {len(answer)} answers, "
            f"{len(ids)} ids; {HOW_TO_PREPARE} again"
        )
    if not ids:
        raise InputError(f"{folder}, {split}: no question; {HOW_TO_PREPARE}")
    if len(set(ids)) < len(ids):
        raise InputError(f"{folder}/{split}.ids.txt: an id stands twice; {HOW_TO_PREPARE} again")
    if (answer.sizes != 2).any():
        raise InputError(f"{folder}, {split}: the answer of row {np.argmax(answer.sizes != 2) + 1} is no span")
    spans = np.stack([answer[row].numpy() for row in range(len(ids))])  # (rows, 2)
    if (wrong := (spans[:, 0] < 0) | (spans[:, 0] > spans[:, 1]) | (spans[:, 1] >= context.sizes - 1)).any():
        raise InputError(f"{folder}, {split}: the answer of row {np.argmax(wrong) + 1} is not in its context")
    return question, context, spans, ids
