"""Sentences as tokens, with each word tokenized once: several times as fast as the tokenizer alone."""

import re
import string
from itertools import chain

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

# A BERT tokenizer splits at these, whatever the neighbours are (from its whole list, those that make words repeat).
PUNCTUATION = re.escape(string.punctuation)
CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
MAX_WORDS = 1 << 18  # remembered, before all are forgotten


class WordByWord:
    """Turns sentences into `symbols` joined by spaces: what `tokenizer` gives, without special tokens around them.

    A BERT's normalisation and WordPiece look at one word at a time, so words are tokenized once and remembered, in
    bounded memory. Any other tokenizer (XLM-RoBERTa's joins characters across a space) gets whole sentences, and so
    does any tokenizer for a sentence with one of its added tokens.
    """

    def __init__(self, tokenizer: Tokenizer, symbols: list[str]):
        self.tokenizer = tokenizer
        self.symbols = symbols
        self.known: dict[str, str] = {}
        added = tokenizer.get_added_tokens_decoder().values()
        self.whole = re.compile("|".join(re.escape(token.content) for token in added))
        self.words = None
        parts = tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model
        kinds = normalizers.BertNormalizer, pre_tokenizers.BertPreTokenizer, models.WordPiece
        if all(map(isinstance, parts, kinds)) and not any(token.normalized for token in added):
            alone = PUNCTUATION + CHINESE * tokenizer.normalizer.handle_chinese_chars
            self.words = re.compile(f"[{alone}]|[^ {alone}]+")

    def lines(self, sentences: list[str]) -> list[str]:
        """Return a line of symbols for each sentence, empty where nothing is left of it."""
        if self.words is None:
            return self._tokenize(sentences)
        rows = [[text] if self.whole.search(text) else self.words.findall(text) for text in sentences]
        if len(self.known) > MAX_WORDS:
            self.known.clear()
        new = list(set(chain.from_iterable(rows)) - self.known.keys())
        self.known.update(zip(new, self._tokenize(new), strict=True))
        return [" ".join(filter(None, map(self.known.__getitem__, row))) for row in rows]

    def _tokenize(self, texts: list[str]) -> list[str]:
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        # Not `Encoding.tokens`: the fast encoding leaves them empty.
        return [" ".join(map(self.symbols.__getitem__, encoding.ids)) for encoding in encodings]
