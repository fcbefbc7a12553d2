"""Which pieces of a vocabulary to keep, so that a corpus is tokenized as before and any other text still can be."""

import json
from collections import Counter
from itertools import chain

from tokenizers import Tokenizer

from ppa_fairseq.checkpoints.families import family_of
from ppa_fairseq.checkpoints.sentencepiece_model import SPACE
from ppa_fairseq.checkpoints.tokenizer_files import build_tokenizer, symbols
from ppa_fairseq.data.word_by_word import WordByWord

INSIDE = "##"  # before a WordPiece that does not begin a word


class PieceCounter:
    """Counts the pieces that sentences need: those they become, and those that lead to an [UNK].

    WordPiece takes the longest piece that fits, again and again. A word becomes [UNK] if it comes to a place where none
    fits; if a piece on the way there were gone, another way could get through.
    """

    def __init__(self, texts: dict[str, str], source: str):
        self.tokenizer = build_tokenizer(texts, source)
        self.words = WordByWord(self.tokenizer, symbols(texts, source))
        model = json.loads(self.tokenizer.to_str())["model"]
        self.longest = model.get("max_input_chars_per_word", 0)  # 0: no WordPiece, but a unigram model
        self.vocabulary = model["vocab"]
        self.unk = family_of(self.tokenizer.get_vocab()).unk

    def count(self, sentences: list[str]) -> Counter:
        counts = Counter()
        for sentence, line in zip(sentences, self.words.lines(sentences), strict=True):
            found = line.split(" ") if line else []
            counts.update(found)
            if self.longest and self.unk in found:
                counts.update(chain.from_iterable(map(self._way_to_unknown, self._words_of(sentence))))
        return counts

    def _words_of(self, sentence: str) -> list[str]:
        if self.tokenizer.normalizer is not None:
            sentence = self.tokenizer.normalizer.normalize_str(sentence)
        return [word for word, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(sentence)]

    def _way_to_unknown(self, word: str) -> list[str]:
        """The pieces before the place where none fits; none if there is no such place, or the word is too long."""
        way, start = [], 0
        while start < len(word) <= self.longest:
            fitting = (INSIDE * (start > 0) + word[start:end] for end in range(len(word), start, -1))
            piece = next((piece for piece in fitting if piece in self.vocabulary), None)
            if piece is None:
                return way
            way.append(piece)
            start += len(piece) - len(INSIDE) * (start > 0)
        return []


def needed_by_any_text(tokenizer: Tokenizer) -> set[int]:
    """Ids of specials and added tokens, of single characters, at the start of a word and inside.

    With them, every word that can be tokenized still can be, be it letter by letter.
    """
    vocabulary = tokenizer.get_vocab()
    needed = {vocabulary[special] for special in family_of(vocabulary).specials}
    needed |= tokenizer.get_added_tokens_decoder().keys()
    needed |= {index for piece, index in vocabulary.items() if len(_letters(piece)) <= 1}
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    if isinstance(pieces, list):  # a unigram model's unknown character scores less than its last piece, by a margin
        needed.add(min(range(len(pieces)), key=lambda index: pieces[index][1]))
    return needed


def _letters(piece: str) -> str:
    return piece.removeprefix(INSIDE).removeprefix(SPACE)
