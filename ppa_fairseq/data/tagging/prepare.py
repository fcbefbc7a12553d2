"""From words with tags to a folder of tokens and tags as text, for `ppa binarize`."""

from pathlib import Path

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer
from ppa_fairseq.data.classification.prepare import FIELDS, SPACE, read_tokenizer, write_common_files
from ppa_fairseq.data.labelled import Example
from ppa_fairseq.data.tagging.words import encode_words
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder

UNTAGGED = "_"  # CoNLL-U's empty cell: a word without a tag; here also every token but a word's first


def prepare_tagging(tokenizer_folder: str, out: str | Path, splits: dict[str, dict[str, list[Example]]]) -> dict:
    """Write the splits, labels, dictionary, tokenizer and statistics.json to *out*.

    Returns the statistics by split and language. Raises InputError if a split of a language has no tag.
    """
    texts, tokenizer = read_tokenizer(tokenizer_folder)
    every = (example for by_language in splits.values() for rows in by_language.values() for example in rows)
    tags = sorted({tag for example in every for tag in example.labels} - {UNTAGGED})
    statistics: dict[str, dict[str, dict]] = {split: {} for split in splits}
    with output_folder(out, "prepare-tagging") as folder:
        for split, by_language in splits.items():
            for language, examples in by_language.items():
                (folder / language).mkdir(exist_ok=True)
                counts = _write(examples, folder / language / split, tokenizer)
                if not counts["tagged"]:
                    raise InputError(f"--{split} {language}: no word has a tag; give other files")
                statistics[split][language] = counts
        write_common_files(folder, texts, tokenizer, [UNTAGGED, *tags], statistics)
    return statistics


def _write(examples: list[Example], path: Path, tokenizer: ModelTokenizer) -> dict[str, int]:
    """Write `{path}.input0` and `{path}.label`, a sentence a line and a tag for each token, and count.

    Leave out sentences without tokens.
    """
    counts = dict.fromkeys(("sentences", "words", "tagged", "tokens", "unknown", "longest"), 0)
    with (
        open(f"{path}.{FIELDS[0]}", "w", encoding="utf-8", newline="\n") as tokens,
        open(f"{path}.{FIELDS[2]}", "w", encoding="utf-8", newline="\n") as tags,
    ):
        encoded = encode_words(tokenizer.backend, [example.parts for example in examples])
        for example, (ids, first) in zip(examples, encoded, strict=True):
            line = [UNTAGGED] * len(ids)
            for tag, place in zip(example.labels, first, strict=True):
                if place >= 0:
                    line[place] = tag.replace(" ", SPACE)
            if not len(ids):
                continue
            tokens.write(" ".join(map(tokenizer.symbols.__getitem__, ids)) + "\n")
            tags.write(" ".join(line) + "\n")
            counts["sentences"] += 1
            counts["words"] += len(first)
            counts["tagged"] += len(line) - line.count(UNTAGGED)
            counts["tokens"] += len(ids)
            counts["unknown"] += int((ids == tokenizer.unk()).sum())
            counts["longest"] = max(counts["longest"], len(ids))
    return counts
