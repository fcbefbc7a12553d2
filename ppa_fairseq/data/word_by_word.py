"""Sentences as WordPieces, each word tokenized once: several times as fast as the tokenizer alone."""

import re
import string
from itertools import chain

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

# A BERT tokenizer cuts at these whatever stands beside them (of its whole list, those that make words repeat).
PUNCTUATION = re.escape(string.punctuation)
CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
MAX_WORDS = 1 << 18  # remembered, before all are forgotten


class WordByWord:
    """The WordPieces of sentences, as `symbols` joined by spaces; what `tokenizer` gives, without specials.

    A BERT's normalisation and WordPiece see nothing beyond a space: so words are tokenized once and remembered, in
    bounded memory. Any other tokenizer (XLM-RoBERTa's joins characters across a space) gets its sentences whole, and
    so does a sentence with an added token of the tokenizer in it.
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
        """One line of symbols for each of *sentences*, empty where nothing is left of it."""
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
