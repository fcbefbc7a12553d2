"""From files of NLI to a folder of tokens as text, the rows of all languages side by side, for `ppa binarize`."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files, write_files
from ppa_fairseq.data.nli.files import by_language, side_by_side
from ppa_fairseq.data.nli.reader import LABELS, NO_CONSENSUS, NLIExample, NLIFile
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder

BATCH = 4000  # sentences to tokenize at once
FIELDS = ("input0", "input1", "label")  # fairseq's names: premise, hypothesis, label


def prepare_nli(
    tokenizer_folder: str, out: str | Path, files: dict[str, list[NLIFile]], languages: Sequence[str] = ()
) -> dict[str, dict]:
    """Write the splits, labels, dictionary, tokenizer and statistics.json to *out*; return the statistics by split.

    Args:
        files: of each split.
        languages: to take; if empty, all in the files.
    """
    texts = read_files(tokenizer_folder)
    tokenizer = ModelTokenizer(texts, tokenizer_folder)
    if warning := tokenizer.case_warning():
        print(warning)
    splits = {split: by_language(of_split) for split, of_split in files.items() if of_split}
    found = {language for examples in splits.values() for language in examples}
    if missing := [language for language in languages if language not in found]:
        raise InputError(f"--langs: none of the files has {', '.join(missing)}; name them with LANG=FILE")
    statistics = {}
    with output_folder(out, "prepare-xnli") as folder:
        for split, examples in splits.items():
            chosen = {language: rows for language, rows in examples.items() if language in (languages or found)}
            statistics[split] = of_split = _write_split(chosen, split, folder, tokenizer)
            if not of_split["rows"]:
                dropped = ", ".join(f"{number:,} {reason}" for reason, number in of_split["dropped"].items())
                raise InputError(
                    f"--{split}: none of {of_split['read']:,} rows is left ({dropped}); give other files or --langs"
                )
        write_files(texts, folder)
        for name, entries in (("dict.txt", tokenizer.symbols), ("labels.txt", LABELS)):
            (folder / name).write_text("".join(f"{entry} 1\n" for entry in entries), encoding="utf-8")
        (folder / "statistics.json").write_text(json.dumps(statistics, indent=1) + "\n", encoding="utf-8")
    return statistics


def _write_split(
    examples: dict[str, Iterable[NLIExample]], split: str, folder: Path, tokenizer: ModelTokenizer
) -> dict:
    """Write `{language}/{split}.{input0,input1,label}` in *folder*, a row a line, and count.

    Drop a row in all languages at once: one without consensus, and in the training split one with a sentence without
    tokens. Raises InputError on the latter in another split: no row of a benchmark may vanish.
    """
    read, labels, dropped = 0, Counter(dict.fromkeys(LABELS, 0)), {"no consensus": 0, "empty": 0}
    of_language = {language: {"tokens": 0, "unknown": 0} for language in examples}
    rows = iter(tqdm(side_by_side(examples), desc=split, unit=" rows"))
    with ExitStack() as stack:
        files = {}
        for language in examples:
            (folder / language).mkdir(exist_ok=True)
            for part in FIELDS:
                path = folder / language / f"{split}.{part}"
                files[language, part] = stack.enter_context(open(path, "w", encoding="utf-8", newline="\n"))
        while batch := list(islice(rows, BATCH // (2 * len(examples) or 1))):
            sentences = [text for row in batch for example in row for text in (example.premise, example.hypothesis)]
            encodings = iter(tokenizer.backend.encode_batch_fast(sentences, add_special_tokens=False))
            read += len(batch)
            for row in batch:
                pairs = [(next(encodings).ids, next(encodings).ids) for _ in row]
                empty = next((example for example, pair in zip(row, pairs, strict=True) if not all(pair)), None)
                if any(example.label == NO_CONSENSUS for example in row):
                    dropped["no consensus"] += 1
                elif empty and split == "train":
                    dropped["empty"] += 1
                elif empty:
                    raise InputError(
                        f"{empty.place}: the premise or the hypothesis is empty or has no token; correct it, or remove "
                        "the row in every language"
                    )
                else:
                    labels[row[0].label] += 1
                    for language, pair in zip(examples, pairs, strict=True):
                        for part, ids in zip(FIELDS, pair, strict=False):
                            files[language, part].write(" ".join(map(tokenizer.symbols.__getitem__, ids)) + "\n")
                            of_language[language]["tokens"] += len(ids)
                            of_language[language]["unknown"] += ids.count(tokenizer.unk())
                        files[language, "label"].write(row[0].label + "\n")
    return {"read": read, "rows": labels.total(), "labels": labels, "dropped": dropped, "languages": of_language}
