"""Batches of sentence pairs: queries, keys and masked TLM sequences."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from fairseq.data import FairseqDataset

from ppa_fairseq.data.bitext.masking import INPUT_SHUFFLE, MaskingScheme, mask_tokens
from ppa_fairseq.data.code_switching import ENGLISH
from ppa_fairseq.data.counter_random import uniform
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.sampling import epoch_counts, epoch_rows


@dataclass(frozen=True)
class ParallelCorpus:
    """One language pair: two indexed datasets, parallel row by row; each row ends in [SEP]."""

    number: int  # its position in the task's list of pairs
    source_lang: str
    target_lang: str
    source: torch.utils.data.Dataset
    target: torch.utils.data.Dataset


def sentence_hash(tokens: torch.Tensor) -> int:
    """A 64-bit hash of a sentence, the same on every machine and in every run."""
    digest = hashlib.blake2b(tokens.numpy().astype("<i8").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def pivot_of(source_lang: str, target_lang: str, pivot: str) -> str:
    """The language whose sentence identifies a pair: *pivot* if it is one of the two, else the source language."""
    return pivot if pivot == target_lang else source_lang


@dataclass(eq=False, repr=False)
class AlignmentDataset(FairseqDataset):
    """Sentence pairs of many language pairs. A batch holds a query, a key and a masked TLM sequence of each pair:

        query         [CLS] first sentence [SEP]
        key           [CLS] second sentence [SEP]
        TLM sequence  [CLS] first sentence [SEP] second sentence [SEP], with masked tokens

    The side that becomes the query, and the masked tokens, depend on (seed, epoch, index) alone.
    """

    corpora: list[ParallelCorpus]
    dictionary: WordPieceDictionary
    masking: MaskingScheme | None  # how to mask the TLM sequences; None leaves them out
    seed: int  # for input shuffling, masks and sampling
    contrastive: bool = True  # False leaves queries and keys out
    pivot: str = ENGLISH  # two keys with the same sentence in this language are not negatives for each other
    input_shuffle: bool = True  # draw for each pair which side is the query (Pan et al. 2021); False: the source
    sampling_exponent: float = 1.0  # see `epoch_counts`
    reset_positions: bool = False  # restart positions at the second sentence of a TLM sequence, as XLM does
    languages: list[str] | None = None  # rows of the language embedding, for XLM's TLM; None leaves language ids out
    shard: str | None = None  # name of the folder, if the data are in several

    def __post_init__(self):
        self.cls = np.array([self.dictionary.bos()])
        self.between = np.array(self.dictionary.between, dtype=np.int64)
        specials = 1 + len(self.between)  # [CLS] and what stands between; the [SEP] of each side is part of its row
        self._lengths = [c.source.sizes + c.target.sizes + specials for c in self.corpora]
        self._counts = epoch_counts([len(c.source) for c in self.corpora], self.sampling_exponent)
        self.set_epoch(1)

    def set_epoch(self, epoch: int) -> None:
        """Choose the rows of this epoch; shuffling and masks change with it."""
        self.epoch = epoch
        rows = [
            epoch_rows(len(lengths), count, self.seed, epoch, number)
            for number, (lengths, count) in enumerate(zip(self._lengths, self._counts, strict=True))
        ]
        self._row = np.concatenate(rows)  # (I,) by index
        self._corpus = np.repeat(np.arange(len(rows)), self._counts)  # (I,)
        self.sizes = np.concatenate([lengths[row] for lengths, row in zip(self._lengths, rows, strict=True)])

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, index: int) -> dict:
        corpus, row = self.corpora[self._corpus[index]], self._row[index]
        source, target = corpus.source[row], corpus.target[row]
        pivot = pivot_of(corpus.source_lang, corpus.target_lang, self.pivot)
        return {
            "id": index,
            "pair": corpus.number,
            "languages": (corpus.source_lang, corpus.target_lang),
            "source": source.numpy(),  # (tokens,) including [SEP]
            "target": target.numpy(),  # (tokens,)
            "pivot": sentence_hash(target if corpus.target_lang == pivot else source),
        }

    def origin(self, index: int) -> str:
        """Where a pair of this epoch is in the data, rows counted from 1: "de-en row 18 of shard0"."""
        corpus = self.corpora[self._corpus[index]]
        shard = f" of {self.shard}" if self.shard else ""
        return f"{corpus.source_lang}-{corpus.target_lang} row {self._row[index] + 1}{shard}"

    def num_tokens(self, index: int) -> int:
        return self.sizes[index]

    num_tokens_vec = size = num_tokens

    def ordered_indices(self) -> np.ndarray:
        """Indices by length, in random order within one length: the sentences of a batch are about equally long."""
        shuffled = np.random.permutation(len(self))
        return shuffled[np.argsort(self.sizes[shuffled], kind="stable")]

    def collater(self, samples: list[dict]) -> dict:
        """Make a batch of N pairs.

        ``net_input`` holds ``query_input`` (N queries, then N TLM sequences, packed), ``key_input`` (N keys, packed),
        ``masked`` (M,), the masked positions in the packed query input, and ``masked_counts``, their number in each
        TLM sequence. Beside it: ``target`` (M,), the masked tokens; ``id``, ``pair``, ``pivot`` and ``swapped`` (N,);
        and the counts that fairseq logs.
        """
        if not samples:
            return {}
        index = np.array([sample["id"] for sample in samples])  # (N,)
        swapped = np.zeros(len(samples), dtype=bool)  # (N,) whether the target is the query
        if self.input_shuffle:
            swapped = uniform(self.seed, self.epoch, index, INPUT_SHUFFLE) < 0.5
        sides = [
            (sample["target"], sample["source"]) if swap else (sample["source"], sample["target"])
            for sample, swap in zip(samples, swapped, strict=True)
        ]
        queries = [[self.cls, query] for query, _ in sides] if self.contrastive else []
        pairs = [[self.cls, query, self.between, key] for query, key in sides] if self.masking else []
        query_input = self._pack(queries + pairs, [0] * len(queries) + [len(key) for *_, key in pairs])
        if self.languages:
            query_input["languages"] = self._language_ids(samples, swapped, queries, pairs)
        masked, target, masked_counts = self._mask(query_input, len(queries), index)
        net_input = {"query_input": query_input, "masked": masked, "masked_counts": masked_counts}
        if self.contrastive:
            net_input["key_input"] = self._pack([[self.cls, key] for _, key in sides], [0] * len(sides))
        return {
            "id": torch.from_numpy(index),
            "pair": torch.tensor([sample["pair"] for sample in samples]),
            "pivot": torch.tensor([sample["pivot"] for sample in samples]),
            "swapped": torch.from_numpy(swapped),
            "net_input": net_input,
            "target": target,
            "nsentences": len(samples),
            "ntokens": sum(len(query) + len(key) for query, key in sides),
        }

    def _pack(self, sequences: list[list[np.ndarray]], second_lengths: list[int]) -> dict:
        """Lay B sequences, each a list of its parts, end to end (see `modules/packing.py`).

        *second_lengths* are the numbers of tokens at the end of each sequence that are its second sentence.
        """
        lengths = np.array([sum(map(len, parts)) for parts in sequences])  # (B,)
        ends = np.cumsum(lengths)  # (B,)
        positions = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)  # (T,)
        boundary = np.repeat(lengths - second_lengths, lengths)  # (T,) the position at which the second sentence begins
        is_second = (positions >= boundary).astype(np.int64)  # (T,)
        if self.reset_positions:
            positions = positions - boundary * is_second
        return {
            "tokens": torch.from_numpy(np.concatenate([part for parts in sequences for part in parts])),  # (T,)
            "positions": torch.from_numpy(positions),  # (T,)
            "token_types": torch.from_numpy(is_second * self.dictionary.second_type),  # (T,)
            "cu_seqlens": torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32)),  # (B + 1,)
            "lengths": lengths.tolist(),  # B
            "max_length": int(lengths.max()),
        }

    def _mask(self, packed: dict, first: int, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Mask the TLM sequences in *packed*, those from number *first* on, in place.

        Returns the masked positions (M,), the tokens that stood there (M,), and the number of them in each sequence.
        """
        if not self.masking:
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), []
        starts = packed["cu_seqlens"].numpy()[first:]  # (N + 1,)
        tokens = packed["tokens"].numpy()[starts[0] :]  # (T,) a view
        after, masked = mask_tokens(tokens, np.diff(starts), index, self.masking, self.seed, self.epoch)
        target = tokens[masked]  # (M,)
        tokens[:] = after
        masked = masked + starts[0]
        counts = np.diff(masked.searchsorted(starts))  # (N,)
        return torch.from_numpy(masked), torch.from_numpy(target), counts.tolist()

    def _language_ids(self, samples: list[dict], swapped: np.ndarray, queries: list, pairs: list) -> torch.Tensor:
        """The row of the language embedding for each token, (T,). Queries have row 0, which stays zero."""
        rows = [np.zeros(sum(len(part) for parts in queries for part in parts), dtype=np.int64)]
        for sample, swap, (_, query, between, key) in zip(samples, swapped, pairs, strict=True):
            languages = sample["languages"][::-1] if swap else sample["languages"]
            first, second = (1 + self.languages.index(language) for language in languages)
            rows.append(np.repeat([first, second], [1 + len(query) + len(between), len(key)]))
        return torch.from_numpy(np.concatenate(rows))
