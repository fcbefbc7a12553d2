"""Batches of alignment from the bundled sample, as fairseq-train would make them of it."""

import lzma
from pathlib import Path

import numpy as np
import torch
from fairseq.data import ListDataset

from ppa_fairseq.checkpoints import tokenizer_files as tokenizer
from ppa_fairseq.data.bitext.dataset import AlignmentDataset, ParallelCorpus
from ppa_fairseq.data.bitext.masking import MaskingScheme
from ppa_fairseq.data.dictionary import WordPieceDictionary

SAMPLE = Path(__file__).resolve().parents[1] / "sample"
MAX_LENGTH = 128  # of both sentences together, as in preparation


def sample_dataset(folder: Path, pairs_a_language: int) -> AlignmentDataset:
    """The first pairs of every language under the tokenizer in *folder*."""
    texts = tokenizer.read_files(folder)
    encode = tokenizer.build_tokenizer(texts, str(folder)).encode_batch_fast
    dictionary = WordPieceDictionary(tokenizer.symbols(texts, str(folder)))
    corpora = []
    for number, path in enumerate(sorted(SAMPLE.glob("*.train.tsv.xz"))):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            lines = [line.rstrip("\n").split("\t")[:2] for line, _ in zip(file, range(pairs_a_language), strict=False)]
        sides = [encode(list(side), add_special_tokens=False) for side in zip(*lines, strict=True)]
        rows = [[[*one.ids, dictionary.eos()] for one in side] for side in sides]
        kept = [pair for pair in zip(*rows, strict=True) if sum(map(len, pair)) < MAX_LENGTH]
        source, target = (
            ListDataset([torch.tensor(row) for row in side], np.array(list(map(len, side))))
            for side in zip(*kept, strict=True)
        )
        corpora.append(ParallelCorpus(number, *path.name.split(".")[0].split("-"), source, target))
    return AlignmentDataset(corpora, dictionary, MaskingScheme.for_dictionary(dictionary, 0.15), seed=1)


def make_batches(dataset: AlignmentDataset, size: int, count: int) -> dict[str, list[dict]]:
    """The same *count* times *size* pairs in batches by length, at even steps through all lengths, and shuffled."""
    np.random.seed(1)  # the dataset shuffles by it
    by_length = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=size)
    at = (np.arange(count) + 0.5) / count * (len(by_length) - 1)
    chosen = [by_length[int(place)] for place in np.random.permutation(at)]
    shuffled = np.random.permutation(np.concatenate(chosen)).reshape(count, size)
    return {
        order: [dataset.collater([dataset[int(index)] for index in batch]) for batch in batches]
        for order, batches in (("by length", chosen), ("shuffled", shuffled))
    }
