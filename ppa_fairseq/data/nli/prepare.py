"""From files of NLI to a folder of tokens as text, which `ppa binarize` takes."""

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files, write_files
from ppa_fairseq.data.nli.encoder import RowCounts, write_rows
from ppa_fairseq.data.nli.files import by_language, side_by_side
from ppa_fairseq.data.nli.reader import LABELS, NLIFile
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder

REASONS = {
    "no consensus": "the annotators agreed on no label (-)",
    "empty": "a premise or a hypothesis, in any language, without a token",
}


def prepare_nli(
    tokenizer_folder: str, out: str | Path, files: dict[str, list[NLIFile]], languages: Sequence[str] | None = None
) -> dict[str, RowCounts]:
    """Write the splits, labels, dictionary, tokenizer and statistics.json to *out*; return the counts by split.

    Args:
        files: of each split.
        languages: to take; None: all in the files.
    """
    all_files = list(chain.from_iterable(files.values()))
    texts = read_files(tokenizer_folder)
    tokenizer = ModelTokenizer(texts, tokenizer_folder)
    if warning := tokenizer.case_warning():
        print(warning)
    splits = {split: by_language(of_split, languages) for split, of_split in files.items() if of_split}
    _check_languages(splits, languages)
    counts: dict[str, RowCounts] = {}

    def update_progress(counts: RowCounts) -> None:
        progress.set_postfix(rows=f"{counts.read:,}", refresh=False)
        progress.update(sum(file.position for file in all_files) - progress.n)

    with (
        output_folder(out, "prepare-xnli") as folder,
        tqdm(total=sum(file.path.stat().st_size for file in all_files), unit="B", unit_scale=True) as progress,
    ):
        for split, examples in splits.items():
            progress.set_description(split)
            counts[split] = write_rows(
                side_by_side(examples), tuple(examples), split, folder, tokenizer, update_progress
            )
            if not counts[split].rows:
                dropped = f"{counts[split].read:,} rows is left ({describe_dropped(counts[split])})"
                raise InputError(f"{split}: none of {dropped}; give other files")
        write_files(texts, folder)
        _write_lines(folder / "dict.txt", (f"{symbol} 1" for symbol in tokenizer.symbols))
        _write_lines(folder / "labels.txt", (f"{label} 1" for label in LABELS))
        statistics = {split: _statistics(of_split) for split, of_split in counts.items()}
        _write_lines(folder / "statistics.json", [json.dumps(statistics, indent=1)])
    return counts


def describe_dropped(counts: RowCounts) -> str:
    """Say how many rows of a split were dropped, and why."""
    reasons = ", ".join(f"{number:,} {reason} ({REASONS[reason]})" for reason, number in counts.dropped.items())
    return f"dropped in every language: {reasons or 'none'}"


def _statistics(counts: RowCounts) -> dict:
    return {
        "read": counts.read,
        "rows": counts.rows,
        "labels": {label: counts.labels[label] for label in LABELS},
        "dropped": counts.dropped,
        "languages": {name: {"tokens": counts.tokens[name], "unknown": counts.unknown[name]} for name in counts.tokens},
    }


def _check_languages(splits: dict[str, dict], languages: Sequence[str] | None) -> None:
    found = {language for examples in splits.values() for language in examples}
    if missing := [language for language in languages or () if language not in found]:
        raise InputError(f"--langs: none of the files has {', '.join(missing)}; name them with LANG=FILE")
    for split, examples in splits.items():
        if not examples:
            raise InputError(
                f"--{split}: none of its files has a language of --langs {','.join(languages)}; leave it out"
            )


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
