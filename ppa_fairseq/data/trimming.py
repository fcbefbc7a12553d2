"""A tokenizer with a part of its vocabulary: which tokens a text needs, and the files with those alone."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files, write_files
from ppa_fairseq.data.bitext.find_files import parse_bitext
from ppa_fairseq.data.packed import unpacked_name
from ppa_fairseq.data.text_files import LANGUAGE, LineReader
from ppa_fairseq.data.word_by_word import WordByWord
from ppa_fairseq.utils.errors import InputError

TRIMMABLE = ("WordPiece", "Unigram")
INSIDE = "##"  # before a WordPiece that does not begin a word
SPACE = "▁"  # before a SentencePiece that begins a word
BATCH = 2000  # sentences of a language
HEAD = ("text", "sentences", "left out", "tokens", "tokens after", "[UNK] before", "after", "tokenized as before")


@dataclass
class Corpus:
    """Text of one language or of a pair; `rows()` has a sentence for each, or None for a line that is left out."""

    languages: list[str]
    rows: Callable[[], Iterator[tuple[str, ...] | None]]

    def batches(self) -> Iterator[tuple[str, list[str], int]]:
        """Each language with sentences, and with the number of lines left out among them."""
        rows = self.rows()
        while chunk := list(islice(rows, BATCH)):
            whole = [row for row in chunk if row is not None]
            for side, language in enumerate(self.languages):
                yield language, [row[side] for row in whole], len(chunk) - len(whole)


def parse_corpus(text: str, columns: tuple[int, int]) -> Corpus:
    """`de-en=a.tsv.xz` as `parse_bitext` takes it, or `de=a.txt,b.txt.gz`. Raises InputError on anything else."""
    name, _, paths = text.partition("=")
    if "-" in name or not paths:
        bitext = parse_bitext(text)
        languages = [bitext.first_lang, bitext.second_lang]
        return Corpus(languages, lambda: (None if row.broken else row[:2] for row in bitext.rows(columns)))
    if not LANGUAGE.fullmatch(name):
        raise InputError(f"{name}: expected a language code, as in de=text.txt, or a pair, as in de-en=bitext.tsv")
    for path in paths.split(","):
        unpacked_name(Path(path))
    return Corpus([name], lambda: (_decoded(line) for path in paths.split(",") for line in LineReader(Path(path))))


def _decoded(line: bytes) -> tuple[str] | None:
    try:
        return (line.decode(),)
    except UnicodeDecodeError:
        return None


def make_counter(texts: dict[str, str], source: str) -> Callable[[list[str]], Counter]:
    """Return a function that counts, by symbol, the tokens that sentences become."""
    tokenizer = ModelTokenizer(texts, source)
    words = WordByWord(tokenizer.backend, tokenizer.symbols)
    return lambda sentences: Counter(token for line in words.lines(sentences) for token in line.split())


def make_comparer(before: dict[str, str], after: dict[str, str], source: str) -> Callable[[list[str]], Counter]:
    """Return a function that tokenizes sentences by both vocabularies and counts what `table_row` needs, to be summed.

    *before* and *after* are the tokenizer's files with the whole vocabulary and with the trimmed one.
    """
    whole, cut = (ModelTokenizer(texts, source) for texts in (before, after))
    both = [WordByWord(one.backend, one.symbols) for one in (whole, cut)]
    unk = whole.symbols[whole.unk()]

    def compare(sentences: list[str]) -> Counter:
        counts = Counter(sentences=len(sentences))
        for lines in zip(*(words.lines(sentences) for words in both), strict=True):
            for name, line in zip(("before", "after"), lines, strict=True):
                tokens = line.split()
                counts += {f"tokens {name}": len(tokens), f"unknown {name}": tokens.count(unk)}
            counts["same"] += lines[0] == lines[1]
        return counts

    return compare


def table_row(name: str, counts: Counter) -> list[str]:
    """A row under `HEAD`. Shares are of the tokens before or after, in the last column of sentences."""
    numbers = (f"{counts[column]:,}" for column in ("sentences", "left out", "tokens before", "tokens after"))
    shares = ("unknown before", "tokens before"), ("unknown after", "tokens after"), ("same", "sentences")
    return [name, *numbers, *(f"{counts[part] / (counts[whole] or 1):.3%}" for part, whole in shares)]


def needed_by_any_text(tokenizer: ModelTokenizer) -> set[int]:
    """Ids of special and added tokens, and of single characters, at the start of a word and inside.

    With them, every word that can be tokenized still can be, if only letter by letter.
    """
    needed = {getattr(tokenizer, name)() for name in ("bos", "pad", "eos", "unk", "mask")}
    needed |= tokenizer.backend.get_added_tokens_decoder().keys()
    vocabulary = tokenizer.backend.get_vocab()
    needed |= {i for token, i in vocabulary.items() if len(token.removeprefix(INSIDE).removeprefix(SPACE)) <= 1}
    scores = json.loads(tokenizer.backend.to_str())["model"]["vocab"]
    if isinstance(scores, list):  # Unigram: an unknown character scores less than the last token, by a margin
        needed.add(min(range(len(scores)), key=lambda index: scores[index][1]))
    return needed


def cut_files(texts: dict[str, str], kept: list[int], source: str) -> dict[str, str]:
    """Return *texts* with the ids *kept* alone, which are ascending; the k-th of them becomes id k.

    *kept* must include all added tokens; *source* names the tokenizer in messages. Raises InputError if the tokenizer
    is of another kind than `TRIMMABLE`, or if its files then have other tokens than these.
    """
    texts = _rewrite(texts)
    new_id = {old: new for new, old in enumerate(kept)}
    content = json.loads(texts["tokenizer.json"])
    model = content["model"]
    if model["type"] not in TRIMMABLE:
        raise InputError(f"{source}: its tokenizer is a {model['type']}; only {' and '.join(TRIMMABLE)} can be trimmed")
    if model["type"] == "WordPiece":
        model["vocab"] = {token: new_id[index] for token, index in model["vocab"].items() if index in new_id}
    else:  # tokens with their scores, at their ids
        model["vocab"] = [entry for index, entry in enumerate(model["vocab"]) if index in new_id]
        model["unk_id"] = new_id[model["unk_id"]]
    content["added_tokens"] = [token | {"id": new_id[token["id"]]} for token in content["added_tokens"]]
    content["post_processor"] = _renumber(content["post_processor"], new_id)
    cut = texts | {"tokenizer.json": json.dumps(content, ensure_ascii=False)}
    if "vocab.txt" in texts:
        lines = texts["vocab.txt"].removesuffix("\n").split("\n")
        cut["vocab.txt"] = "".join(f"{lines[index]}\n" for index in kept if index < len(lines))
    cut, whole = _rewrite(cut), ModelTokenizer(texts, source).symbols
    if ModelTokenizer(cut, source).symbols != [whole[index] for index in kept]:
        raise InputError(f"{source}: its tokenizer keeps ids where `ppa trim-vocab` cannot change them")
    return cut


def _rewrite(texts: dict[str, str]) -> dict[str, str]:
    """The texts as transformers writes them today, with the note on what it makes of them."""
    with TemporaryDirectory() as folder:
        write_files(texts, folder)
        return read_files(folder)


def _renumber(value, new_id: dict[int, int]):
    """A post-processor with new ids: they stand in lists named "ids" and in pairs like ["[SEP]", 102]."""
    if isinstance(value, dict):
        return {k: [new_id[i] for i in v] if k == "ids" else _renumber(v, new_id) for k, v in value.items()}
    if isinstance(value, list):
        if [type(item) for item in value] == [str, int]:
            return [value[0], new_id[value[1]]]
        return [_renumber(item, new_id) for item in value]
    return value
