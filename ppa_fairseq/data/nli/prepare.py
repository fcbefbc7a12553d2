"""From files of NLI to a folder of tokens as text, the rows of all languages side by side, for `ppa binarize`."""

from collections.abc import Sequence
from pathlib import Path

from ppa_fairseq.data.classification.prepare import FIELDS, Rows, prepare
from ppa_fairseq.data.nli.files import by_language, side_by_side
from ppa_fairseq.data.nli.reader import LABELS, NLIFile
from ppa_fairseq.utils.errors import InputError


def prepare_nli(
    tokenizer_folder: str, out: str | Path, files: dict[str, list[NLIFile]], languages: Sequence[str] = ()
) -> dict[str, dict]:
    """Write the splits, labels, dictionary, tokenizer and statistics.json to *out*; return the statistics by split.

    Args:
        files: of each split.
        languages: to take; if empty, all in the files.
    """
    splits = {split: by_language(of_split) for split, of_split in files.items() if of_split}
    found = {language for examples in splits.values() for language in examples}
    if missing := [language for language in languages if language not in found]:
        raise InputError(f"--langs: none of the files has {', '.join(missing)}; name them with LANG=FILE")
    groups = {}
    for split, examples in splits.items():
        chosen = {language: rows for language, rows in examples.items() if language in (languages or found)}
        groups[split] = Rows(split, list(chosen), side_by_side(chosen))
    return prepare(tokenizer_folder, out, "prepare-xnli", groups, FIELDS, LABELS)
