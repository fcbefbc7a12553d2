"""A model's vocabulary as a fairseq dictionary: ids are the vocabulary's own."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from fairseq.data import Dictionary

from ppa_fairseq.checkpoints.tokenizer import UNUSED, ModelTokenizer, read_files
from ppa_fairseq.utils.errors import InputError, quote

WRITTEN_BY = "give the dict.txt that `ppa import-hf` writes"
# bos, pad, eos, unk and mask of BERT and of XLM-RoBERTa, whether two eos stand between sentences, type of the second
KNOWN = (
    (("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"), False, 1),
    (("<s>", "<pad>", "</s>", "<unk>", "<mask>"), True, 0),
)


def read_symbols(path: str) -> tuple[list[str], list[int]]:
    """Read the symbols and counts of a dict.txt: one `symbol count` a line. Raises InputError on a foreign file."""
    try:
        # Only \n ends a line: splitlines() and rstrip() would cut symbols at \r and at odd Unicode spaces.
        lines = Path(path).read_bytes().decode().removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {WRITTEN_BY}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); {WRITTEN_BY}") from None
    symbols, counts = [], []
    for number, line in enumerate(lines, start=1):
        symbol, space, count = line.rpartition(" ")
        if not space or not count.isdecimal():
            raise InputError(f"{path}:{number}: expected `symbol count`, not {quote(line)}; {WRITTEN_BY}")
        symbols.append(symbol)
        counts.append(int(count))
    return symbols, counts


class WordPieceDictionary(Dictionary):
    """fairseq's `Dictionary` without its own specials: a symbol's id is its line in dict.txt, counted from 0.

    A tokenizer decides which symbols are special, and how two sentences become one sequence: the one whose files lie
    beside dict.txt or up to two folders above (`ppa import-hf`, `ppa prepare-*` and `ppa binarize` write them there).
    Without such files the names decide: [CLS], [PAD], [SEP], ... as in BERT, or <s>, <pad>, </s>, ... as in
    XLM-RoBERTa; and symbols named [unusedN] are special.

    The vocabulary is closed. A symbol that stands twice is found at its later line, as in Hugging Face's readers.
    Raises InputError if a special symbol is missing; `source` names the vocabulary in the message.

    Attributes:
        tokenizer: that one, if there is one.
        between: ids that stand between two sentences of one sequence, after the first one's own eos.
        second_type: token type of the second sentence.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        counts: Iterable[int] | None = None,
        source: str = "vocabulary",
        tokenizer: ModelTokenizer | None = None,
    ):
        symbols = list(symbols)
        self.tokenizer = tokenizer
        if tokenizer:
            if symbols != tokenizer.symbols:
                raise InputError(f"{source}: its symbols differ from those of the tokenizer there; {WRITTEN_BY}")
            names = [symbols[getattr(tokenizer, name)()] for name in ("bos", "pad", "eos", "unk", "mask")]
            self.between, self.second_type, special = tokenizer.between, tokenizer.second_type, tokenizer.special
        else:
            present = set(symbols)
            names, doubled, self.second_type = min(KNOWN, key=lambda known: len(set(known[0]) - present))
            if missing := [name for name in names if name not in present]:
                raise InputError(f"{source}: no {missing[0]} among its {len(symbols)} symbols; {WRITTEN_BY}")
            special = {index for index, symbol in enumerate(symbols) if UNUSED.fullmatch(symbol)}
        bos, pad, eos, unk, _ = names
        super().__init__(bos=bos, pad=pad, eos=eos, unk=unk, add_special_symbols=False)
        self.nspecial = 0  # fairseq leaves the first `nspecial` symbols out of dict.txt
        self.symbols, self.indices = symbols, {symbol: index for index, symbol in enumerate(symbols)}
        self.count = [1] * len(symbols) if counts is None else list(counts)
        self.bos_index, self.pad_index, self.eos_index, self.unk_index, self.mask_index = map(self.indices.get, names)
        self.special = special | {self.pad_index, self.bos_index, self.eos_index, self.mask_index}
        if not tokenizer:
            self.between = [self.eos_index] * doubled

    @classmethod
    def of(cls, tokenizer: ModelTokenizer) -> "WordPieceDictionary":
        """The dictionary of a tokenizer."""
        return cls(tokenizer.symbols, tokenizer=tokenizer)

    @classmethod
    def load(cls, path: str) -> "WordPieceDictionary":
        """Read dict.txt and the tokenizer near it. Raises InputError on a foreign file."""
        symbols, counts = read_symbols(path)
        for folder in Path(path).parents[:3]:
            is_beside = folder == Path(path).parent
            try:
                tokenizer = ModelTokenizer(texts, str(folder)) if (texts := read_files(folder)) else None
            except InputError:
                if is_beside:
                    raise
                continue  # files of something else
            if tokenizer and (is_beside or tokenizer.symbols == symbols):
                return cls(symbols, counts, path, tokenizer)
        return cls(symbols, counts, path)

    def mask(self) -> int:
        return self.mask_index

    def special_ids(self) -> list[int]:
        """Ids that are never masked, ascending: special tokens but unk, and those in no text."""
        return sorted(self.special)

    def random_ids(self) -> list[int]:
        """Ids that TLM may draw as the random token, ascending: all but `special_ids()` and unk."""
        return sorted(set(range(len(self))) - self.special - {self.unk_index})

    def encode_line(self, line, consumer=None, append_eos=True, **fairseqs_other_options) -> torch.IntTensor:
        """Ids of a line of symbols, (symbols [+ 1],) int32. An unknown symbol is unk and never added."""
        words = line.split()  # cuts where fairseq's \s does, at a fraction of its time
        lookup, unk = self.indices.get, self.unk_index
        ids = [lookup(word, unk) for word in words]
        if consumer is not None:
            for word, index in zip(words, ids, strict=True):
                consumer(word, index)
        if append_eos:
            ids.append(self.eos_index)
        return torch.from_numpy(np.array(ids, dtype=np.int32))  # a third of torch.tensor's time
