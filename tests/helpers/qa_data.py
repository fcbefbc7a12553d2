"""Question answering in three made-up languages, binarized as `ppa prepare-qa` does: `de` and `fr` cipher `en`."""

import json
import random
from pathlib import Path

import numpy as np
import torch

SHIFT = {"en": 0, "de": 60, "fr": 120}  # w0…w59 are English, and so on


def questions(count: int, seed: int) -> list[tuple[list[int], list[int], list[int]]]:
    """Return questions of two words, and contexts whose answer, of one to three words, follows the second of them."""
    rng, result = random.Random(seed), []
    for _ in range(count):
        context = rng.sample(range(50), rng.randint(8, 40))
        first = rng.randrange(1, len(context))
        last = min(first + rng.randrange(3), len(context) - 1)
        result.append(([50, context[first - 1]], context, [first, last]))
    return result


def make_qa_bin(folder: Path, dictionary, sizes: dict[str, int], max_length=24, doc_stride=6) -> Path:
    """Make the data-bin folder as `ppa prepare-qa` writes it (its own tests check that)."""
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    dictionary.save(str(folder / "dict.txt"))
    (folder / "qa.json").write_text(json.dumps({"max_length": max_length, "doc_stride": doc_stride}))
    for language, shift in SHIFT.items():
        (folder / language).mkdir()
        for split, count in sizes.items():
            rows = questions(count, seed=len(split))
            rows = rows[::-1] if language == "fr" else rows  # translations have the same id, not the same position
            ids = [f"q{number}" for number in range(count)]
            ids = ids[::-1] if language == "fr" else ids
            for place, part in enumerate(("question", "context", "answer")):
                prefix = f"{folder}/{language}/{split}.{part}"
                builder = MMapIndexedDatasetBuilder(f"{prefix}.bin", np.uint32 if part == "answer" else np.uint16)
                for row in rows:
                    words = row[place]
                    row_ids = words if part == "answer" else [*(10 + w + shift for w in words), dictionary.eos()]
                    builder.add_item(torch.tensor(row_ids))
                builder.finalize(f"{prefix}.idx")
            (folder / language / f"{split}.ids.txt").write_text("".join(f"{name}\n" for name in ids))
    return folder
