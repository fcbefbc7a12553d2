"""The binarized language pairs of a data-bin folder."""

import logging
import re
from pathlib import Path

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer
from ppa_fairseq.data.bitext.dataset import ParallelCorpus
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.indexed import open_indexed
from ppa_fairseq.data.text_files import LANGUAGE
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
HOW_TO_BINARIZE = "binarize with `ppa binarize` or `fairseq-preprocess --user-dir ppa_fairseq --task ppa_alignment`"


def find_pairs(folder: str, split: str, ending: str = ".idx") -> list[str]:
    """Language pairs with files `{split}.{pair}.{language}{ending}` in *folder*, sorted: ``["ar-en", "de-en", …]``."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; {HOW_TO_BINARIZE}")
    code = LANGUAGE.pattern
    pattern = re.compile(rf"{re.escape(split)}\.({code}-{code})\.{code}{re.escape(ending)}")
    return sorted({match[1] for path in Path(folder).iterdir() if (match := pattern.fullmatch(path.name))})


def load_corpora(
    folder: str, split: str, pairs: list[str], all_needed: bool, dictionary: WordPieceDictionary | None = None
) -> list[ParallelCorpus]:
    """Open ``{split}.{src}-{tgt}.{lang}`` of *pairs*, memory-mapped; unless *all_needed*, skip pairs without *split*.

    Raises InputError if a file is missing or damaged, two sides differ in length, all are empty, or an id is not in
    *dictionary* (None: ids are not checked).
    """
    corpora, present = [], find_pairs(folder, split)
    for number, pair in enumerate(pairs):
        if not all_needed and pair not in present:
            continue
        source_lang, target_lang = pair.split("-")
        prefix = f"{folder}/{split}.{pair}."
        source, target = (open_indexed(prefix + lang, dictionary) for lang in (source_lang, target_lang))
        if len(source) != len(target):
            raise InputError(
                f"{prefix}{source_lang} has {len(source)} sentences but {prefix}{target_lang} has {len(target)}: "
                "they must be translations line by line; binarize the pair again"
            )
        if len(source):
            corpora.append(ParallelCorpus(number, source_lang, target_lang, source, target))
    if not corpora:
        raise InputError(f"{folder}: the {split} split of {', '.join(pairs)} is empty or missing; {HOW_TO_BINARIZE}")
    return corpora


def load_dictionary(folder: str, pairs: list[str]) -> WordPieceDictionary:
    """The one dictionary of all *pairs*. Raises InputError if a dict file is missing, or two of them differ."""
    languages = sorted({language for pair in pairs for language in pair.split("-")})
    paths = [Path(folder) / f"dict.{language}.txt" for language in languages]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file; {HOW_TO_BINARIZE}")
        if path.read_bytes() != paths[0].read_bytes():
            raise InputError(f"{path} differs from {paths[0]}: binarize all languages with one --srcdict")
    return WordPieceDictionary.load(str(paths[0]))


def check_vocabulary(dictionary: WordPieceDictionary, tokenizer: dict[str, str], source: str) -> None:
    """Raise InputError unless the data was made by the tokenizer of these files; warn if the data folder has none."""
    model = ModelTokenizer(tokenizer, source)
    theirs = model.symbols
    if theirs != dictionary.symbols:
        difference = f"has {len(theirs):,} tokens, and they are not the {len(dictionary):,} of the data"
    elif dictionary.tokenizer and (parts := dictionary.tokenizer.difference(model)):
        difference = f"has another tokenizer than the data, with the same tokens; they differ in: {parts}"
    else:
        if not dictionary.tokenizer:
            logger.warning(
                "the data folder has no tokenizer files, so only its tokens are compared with the model's; copy those "
                "of the prepared text beside dict.*.txt to compare the tokenizers, too"
            )
        return
    raise InputError(f"{source} {difference}; prepare and binarize the data with the same import")
