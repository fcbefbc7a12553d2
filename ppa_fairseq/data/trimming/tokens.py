"""Which tokens of a vocabulary a corpus needs, to be tokenized as before; and which ones any other text needs."""

import json
from collections import Counter
from itertools import chain

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer
from ppa_fairseq.data.word_by_word import WordByWord

INSIDE = "##"  # before a WordPiece that does not begin a word
SPACE = "▁"  # before a SentencePiece that begins a word
HEAD = ("text", "sentences", "tokens", "kept", "tokens after", "[UNK] before", "after", "tokenized as before")


class TokenCounter:
    """Counts the tokens that sentences need: those they become, and those on the way to an [UNK].

    WordPiece takes the longest token that fits, again and again. A word becomes [UNK] at a place where none fits; if a
    token on the way to that place were missing, another way might get through.
    """

    def __init__(self, texts: dict[str, str], source: str):
        self.tokenizer = ModelTokenizer(texts, source)
        self.words = WordByWord(self.tokenizer.backend, self.tokenizer.symbols)
        self.unk = self.tokenizer.symbols[self.tokenizer.unk()]
        model = json.loads(self.tokenizer.backend.to_str())["model"]
        self.longest = model.get("max_input_chars_per_word", 0)  # 0: not a WordPiece model
        self.vocabulary = model["vocab"]

    def count(self, sentences: list[str]) -> Counter:
        """Count the tokens by symbol."""
        counts = Counter()
        for sentence, line in zip(sentences, self.words.lines(sentences), strict=True):
            found = line.split()
            counts.update(found)
            if self.longest and self.unk in found:
                counts.update(chain.from_iterable(map(self._way_to_unknown, self._words_of(sentence))))
        return counts

    def _words_of(self, sentence: str) -> list[str]:
        backend = self.tokenizer.backend
        if backend.normalizer is not None:
            sentence = backend.normalizer.normalize_str(sentence)
        return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(sentence)]

    def _way_to_unknown(self, word: str) -> list[str]:
        """The tokens before the place where none fits; empty if there is no such place, or the word is too long."""
        way, start = [], 0
        while start < len(word) <= self.longest:
            fitting = (INSIDE * (start > 0) + word[start:end] for end in range(len(word), start, -1))
            token = next((token for token in fitting if token in self.vocabulary), None)
            if token is None:
                return way
            way.append(token)
            start += len(token) - len(INSIDE) * (start > 0)
        return []


def needed_by_any_text(tokenizer: ModelTokenizer) -> set[int]:
    """Ids of special and added tokens, and of single characters, at the start of a word and inside.

    With them, every word that can be tokenized still can be, if only letter by letter.
    """
    vocabulary = tokenizer.backend.get_vocab()
    needed = {getattr(tokenizer, name)() for name in ("bos", "pad", "eos", "unk", "mask")}
    needed |= tokenizer.backend.get_added_tokens_decoder().keys()
    needed |= {i for token, i in vocabulary.items() if len(token.removeprefix(INSIDE).removeprefix(SPACE)) <= 1}
    scores = json.loads(tokenizer.backend.to_str())["model"]["vocab"]
    if isinstance(scores, list):  # Unigram: an unknown character scores less than the last token, by a margin
        needed.add(min(range(len(scores)), key=lambda index: scores[index][1]))
    return needed


class Comparison:
    """Tokenizes sentences by the whole vocabulary and by the trimmed one."""

    def __init__(self, before: dict[str, str], after: dict[str, str], source: str):
        whole, cut = (ModelTokenizer(texts, source) for texts in (before, after))
        self.before, self.after = (WordByWord(one.backend, one.symbols) for one in (whole, cut))
        self.kept = set(cut.symbols)
        self.unk = whole.symbols[whole.unk()]

    def count(self, sentences: list[str]) -> Counter:
        """Count what `table_row` needs, to be summed: sentences, tokens before and after, and so on."""
        counts = Counter(sentences=len(sentences))
        for before, after in zip(self.before.lines(sentences), self.after.lines(sentences), strict=True):
            old, new = before.split(), after.split()
            counts["tokens"] += len(old)
            counts["kept"] += sum(map(self.kept.__contains__, old))
            counts["tokens after"] += len(new)
            counts["unknown before"] += old.count(self.unk)
            counts["unknown after"] += new.count(self.unk)
            counts["same"] += before == after
        return counts


def table_row(name: str, counts: Counter) -> list[str]:
    """A row under `HEAD`. Shares are of the tokens before or after, in the last column of sentences."""
    def share(part: str, whole: str) -> str:
        return f"{counts[part] / (counts[whole] or 1):.3%}"

    sentences, tokens, after = (f"{counts[column]:,}" for column in ("sentences", "tokens", "tokens after"))
    unknown = share("unknown before", "tokens"), share("unknown after", "tokens after")
    return [name, sentences, tokens, share("kept", "tokens"), after, *unknown, share("same", "sentences")]
