"""How text is tokenized before and after: what the report of a trimming says of each language."""

from collections import Counter

from ppa_fairseq.checkpoints.families import family_of
from ppa_fairseq.checkpoints.tokenizer_files import build_tokenizer, symbols
from ppa_fairseq.data.word_by_word import WordByWord

HEAD = ("text", "sentences", "pieces", "kept", "pieces after", "[UNK] before", "after", "tokenized as before")


class Comparison:
    """Tokenizes sentences by two tokenizers' files, the second of them the first with pieces left out."""

    def __init__(self, before: dict[str, str], after: dict[str, str], source: str):
        whole, cut = (build_tokenizer(texts, source) for texts in (before, after))
        self.before = WordByWord(whole, symbols(before, source))
        self.after = WordByWord(cut, symbols(after, source))
        self.kept = set(self.after.symbols)
        self.unk = family_of(whole.get_vocab()).unk

    def count(self, sentences: list[str]) -> Counter:
        """Numbers of sentences, pieces before and after, and so on: what `table_row` needs, to be summed."""
        counts = Counter(sentences=len(sentences))
        for before, after in zip(self.before.lines(sentences), self.after.lines(sentences), strict=True):
            old, new = before.split(), after.split()
            counts["pieces"] += len(old)
            counts["kept"] += sum(map(self.kept.__contains__, old))
            counts["pieces after"] += len(new)
            counts["unknown before"] += old.count(self.unk)
            counts["unknown after"] += new.count(self.unk)
            counts["same"] += before == after
        return counts


def table_row(name: str, counts: Counter) -> list[str]:
    """A row under `HEAD`. Shares are of the pieces before or after, in the last column of sentences."""
    def share(part: str, whole: str) -> str:
        return f"{counts[part] / (counts[whole] or 1):.3%}"

    sentences, pieces, after = (f"{counts[column]:,}" for column in ("sentences", "pieces", "pieces after"))
    unknown = share("unknown before", "pieces"), share("unknown after", "pieces after")
    return [name, sentences, pieces, share("kept", "pieces"), after, *unknown, share("same", "sentences")]
