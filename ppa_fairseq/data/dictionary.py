"""The vocabulary of a BERT or an XLM-RoBERTa as a fairseq dictionary: ids are the vocabulary's own."""

import re
from collections.abc import Iterable

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.tokenizer import tokenize_line

from ppa_fairseq.checkpoints.families import family_of
from ppa_fairseq.utils.errors import InputError, shown

WRITTEN_BY = "give the dict.txt that `ppa import-hf` writes"
MOST_DIGITS = 18  # of a count; int() raises at thousands of them
UNUSED = re.compile(r"\[unused\d+\]")


def read_symbols(f, source: str, advice: str) -> tuple[list[str], list[int]]:
    """The symbols and counts of a dict.txt (a path or an open text file): one `symbol count` a line.

    Raises InputError, which names *source* and gives *advice*, on a missing or foreign file.
    """
    try:
        if isinstance(f, str):
            with open(f, encoding="utf-8", newline="\n") as file:
                text = file.read()
        else:
            text = f.read()
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{source}: no such file; {advice}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 ({error}); {advice}") from None
    # Only \n ends a line: splitlines() and rstrip() would cut symbols at \r and at odd Unicode spaces.
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    symbols, counts = [], []
    for number, line in enumerate(lines, start=1):
        symbol, space, count = line.rpartition(" ")
        if not space or not count.isdecimal() or len(count) > MOST_DIGITS:
            raise InputError(f"{source}:{number}: no `symbol count` but {shown(line)}; {advice}")
        symbols.append(symbol)
        counts.append(int(count))
    return symbols, counts


class WordPieceDictionary(Dictionary):
    """fairseq's `Dictionary` without its own specials: a symbol's id is its line in dict.txt, counted from 0.

    The specials tell the family: bos is [CLS] or <s>, pad [PAD] or <pad>, and so on, and there is `mask()`. The
    vocabulary is closed. A symbol that stands twice is found at its later line, as in Hugging Face's readers.
    Raises InputError if one of the five specials is missing; `source` names the vocabulary in the message.

    Attributes:
        between: ids that stand between two sentences of one sequence, after the first one's own eos.
        second_type: token type of the second sentence.
    """

    def __init__(self, symbols: Iterable[str], counts: Iterable[int] | None = None, source="vocabulary"):
        symbols = list(symbols)
        indices = {symbol: index for index, symbol in enumerate(symbols)}
        family = family_of(indices)
        if missing := family.missing(indices):
            raise InputError(
                f"{source}: no {missing[0]} among its {len(symbols)} symbols: no {family.name} vocabulary; {WRITTEN_BY}"
            )
        words = {name: getattr(family, name) for name in ("bos", "pad", "eos", "unk")}
        super().__init__(**words, add_special_symbols=False)
        self.nspecial = 0  # fairseq leaves the first `nspecial` symbols out of dict.txt
        self.symbols, self.indices = symbols, indices
        self.count = [1] * len(symbols) if counts is None else list(counts)
        for name, word in words.items():
            setattr(self, f"{name}_index", indices[word])
        self.mask_word, self.mask_index = family.mask, indices[family.mask]
        self.between = [self.eos_index] * family.doubled_eos
        self.second_type = family.second_type

    @classmethod
    def load(cls, f, add_special_symbols: bool = False) -> "WordPieceDictionary":
        """Read dict.txt (a path or an open text file): one `symbol count` a line.

        `add_special_symbols` is fairseq's and unused. Raises InputError on a missing or foreign file.
        """
        source = f if isinstance(f, str) else getattr(f, "name", "dictionary")
        symbols, counts = read_symbols(f, source, WRITTEN_BY)
        return cls(symbols, counts, source)

    def mask(self) -> int:
        """Index of [MASK] or <mask>."""
        return self.mask_index

    def special_ids(self) -> list[int]:
        """Ids never masked, ascending: pad, bos, eos, the mask itself, every [unusedN]."""
        special = {self.pad_index, self.bos_index, self.eos_index, self.mask_index}
        special.update(index for index, symbol in enumerate(self.symbols) if UNUSED.fullmatch(symbol))
        return sorted(special)

    def random_ids(self) -> list[int]:
        """Ids that TLM may draw as the random item, ascending: all but `special_ids()` and unk."""
        excluded = {self.unk_index, *self.special_ids()}
        return [index for index in range(len(self)) if index not in excluded]

    def encode_line(
        self,
        line,
        line_tokenizer=tokenize_line,
        add_if_not_exist=True,
        consumer=None,
        append_eos=True,
        reverse_order=False,
    ) -> torch.IntTensor:
        """Ids of a line of symbols, (symbols [+ 1],) int32. An unknown symbol is unk and never added."""
        # str.split() cuts where tokenize_line's \s does, at a fraction of its time.
        words = line.split() if line_tokenizer is tokenize_line else line_tokenizer(line)
        if reverse_order:
            words = words[::-1]
        lookup, unk = self.indices.get, self.unk_index
        ids = [lookup(word, unk) for word in words]
        if consumer is not None:
            for word, index in zip(words, ids, strict=True):
                consumer(word, index)
        if append_eos:
            ids.append(self.eos_index)
        return torch.from_numpy(np.array(ids, dtype=np.int32))  # a third of torch.tensor's time
