"""A model's tokenizer: transformers reads it, its fast `tokenizers` object does the work.

It is kept as the texts of its files, {file name: text}, which fit into a checkpoint. They are what transformers itself
writes, so that AutoTokenizer gives the same ids for the model's folder, for our checkpoint and for our export. A note
in them says what AutoTokenizer made of them, so that they open without transformers, which takes a second to import.
"""

import json
import re
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer
from tokenizers.models import Unigram

from ppa_fairseq.utils.errors import InputError, quote
from ppa_fairseq.utils.json_files import parse_object

CONFIG = "tokenizer_config.json"
OTHERS = ("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt")
FILES = ("tokenizer.json", CONFIG, "vocab.txt", *OTHERS)  # all texts that a tokenizer can consist of
BINARY_FILES = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "spm.model")
# Where no file names the tokenizer's class: a file or a kind of model -> the class.
CLASSES = {
    "WordPiece": "BertTokenizer",
    "Unigram": "XLMRobertaTokenizer",
    "vocab.txt": "BertTokenizer",
    "sentencepiece.bpe.model": "XLMRobertaTokenizer",
}
NOT_BEHAVIOUR = ("version", "truncation", "padding", "decoder")  # parts of tokenizer.json that change no id
NOTE = "ppa_fairseq"  # the note's key in CONFIG, which transformers ignores and keeps
FROM_PRETRAINED = {"local_files_only", "is_local", "name_or_path", NOTE}  # of the reading, not of the tokenizer
# White space, at which fairseq splits a line of symbols; and what would look like an escaped one.
TO_ESCAPE = re.compile(r"\s|\\(?=u[0-9a-f]{4})")
UNUSED = re.compile(r"[\[<]unused(-row-|_)?\d+[\]>]")


class ModelTokenizer:
    """A fast tokenizer, with what its model needs to know of it.

    Args:
        texts: its files, as `read_files` returns them.
        source: names it in messages.

    Attributes:
        backend: the `tokenizers.Tokenizer`; it neither truncates nor pads.
        symbols: the name of each id, in the form of `escape`; an id without a token is `[unused-row-N]`.
        between: ids between two sentences, beyond the first one's own eos.
        second_type: token type of the second sentence and of its eos.
        special: ids that are never masked and never drawn: special tokens other than unk, and ids in no text.

    Raises InputError if transformers cannot read it, if it has no fast form, no pad or mask token, or if it does not
    put one token before and one behind a sentence.
    """

    def __init__(self, texts: dict[str, str], source: str):
        if not texts:
            raise InputError(
                f"{source}: has no tokenizer (tokenizer.json, sentencepiece.bpe.model, vocab.txt or another form); "
                "copy the files of the model's own"
            )
        if facts := _noted(texts):
            self.backend = _open(texts["tokenizer.json"])
        else:
            with TemporaryDirectory() as folder:
                write_files(_with_class(texts, list(texts), source), folder)
                tokenizer = _auto_tokenizer(folder, source)
            self.backend, facts = tokenizer.backend_tokenizer, _facts(tokenizer)
        self.backend.no_padding()
        self.backend.no_truncation()
        if missing := [name for name in ("pad", "mask") if facts[name] is None]:
            raise InputError(
                f"{source}: the tokenizer has no {missing[0]} token; name one in its tokenizer_config.json "
                f'("{missing[0]}_token"), as the model was trained'
            )
        self._pad, self._mask = facts["pad"], facts["mask"]
        self._unk = self._pad if facts["unk"] is None else facts["unk"]  # no text contains either
        names = {index: token for token, index in self.backend.get_vocab(with_added_tokens=True).items()}
        self.symbols = [escape(names.get(index, f"[unused-row-{index}]")) for index in range(max(names) + 1)]
        added = self.backend.get_added_tokens_decoder()
        special = {index for index, token in added.items() if token.special} | set(facts["special"])
        special |= {index for index, symbol in enumerate(self.symbols) if UNUSED.fullmatch(symbol)}
        # What the tokenizer puts before, between and behind sentences.
        single, pair = self.backend.encode("a"), self.backend.encode("a", "a")
        ids, sides = pair.ids, pair.sequence_ids  # the side of a special token is None
        start, second = (sides.index(side) if side in sides else 0 for side in (0, 1))
        end = start + sides.count(0)
        prefix, first, middle, suffix = ids[:start], ids[start:end], ids[end:second], ids[second + sides.count(1) :]
        if not len(prefix) == len(suffix) == 1 or middle[:1] != suffix or single.ids != prefix + first + suffix:
            raise InputError(
                f"{source}: the tokenizer makes {' '.join(single.tokens)} of a and {' '.join(pair.tokens)} of a pair; "
                "only one with a token before and a token behind each sentence can be used"
            )
        (self._bos,), (self._eos,), self.between = prefix, suffix, middle[1:]
        self.special = special - {self._unk} | {self._pad, self._bos, self._eos}
        self.second_type = pair.type_ids[-1] if facts["token types"] else 0

    # As fairseq's Dictionary names them.
    def bos(self) -> int:
        return self._bos

    def eos(self) -> int:
        return self._eos

    def pad(self) -> int:
        return self._pad

    def unk(self) -> int:
        return self._unk

    def mask(self) -> int:
        return self._mask

    def __len__(self) -> int:
        return len(self.symbols)

    def special_ids(self) -> list[int]:
        """Ids that are never masked, ascending."""
        return sorted(self.special)

    def case_warning(self) -> str | None:
        """Say that the tokenizer lower-cases where its vocabulary has capital letters, which no text can reach then."""
        normalizer = self.backend.normalizer
        added = {escape(token.content) for token in self.backend.get_added_tokens_decoder().values()}
        capital = (s for s in self.symbols if s != s.lower() and s not in added and not UNUSED.fullmatch(s))
        if normalizer is None or normalizer.normalize_str("A") != "a" or (example := next(capital, None)) is None:
            return None
        return (
            f"WARNING: the tokenizer lower-cases text, but its vocabulary has capital letters ({quote(example)}); "
            f'if the model is a cased one, put "do_lower_case": false into its {CONFIG}'
        )

    def difference(self, other: "ModelTokenizer") -> str | None:
        """Name the parts in which two tokenizers differ; None if they do the same."""
        one, two = self._behaviour(), other._behaviour()
        return ", ".join(sorted(k for k in one.keys() | two.keys() if one.get(k) != two.get(k))) or None

    def _behaviour(self) -> dict:
        """All that decides which ids a text gets."""
        content = {k: v for k, v in json.loads(self.backend.to_str()).items() if k not in NOT_BEHAVIOUR}
        special = [self._bos, self._eos, self._pad, self._unk, self._mask, self.special]
        return content | {"special tokens": special, "token types": self.second_type}


def read_files(folder: str | Path, limit: int | None = None) -> dict[str, str]:
    """Read the tokenizer of a folder, in whatever files it lies, into the texts that transformers writes for it.

    They name *limit*, in tokens, as the longest sequence, unless they name a shorter one. The result is empty where
    there is no tokenizer. Raises InputError for a missing folder, and for a tokenizer that transformers cannot read or
    write.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make it with `ppa import-hf`")
    names = [name for name in (*FILES, *BINARY_FILES) if (folder / name).is_file()]
    if not set(names) - {CONFIG}:
        return {}
    texts = {name: _read_text(folder / name) for name in names if name in FILES}
    if _noted(texts) and (limit is None or max_length(texts) in range(limit + 1)):
        return texts  # written by this function
    with TemporaryDirectory() as copies:
        given = folder
        if not (folder / "config.json").is_file():  # by whose model type AutoTokenizer chooses the class
            given = Path(copies, "given")
            given.mkdir()
            for name in names:
                (given / name).write_bytes((folder / name).read_bytes())
            write_files(_with_class(texts, names, str(folder)), given)
        tokenizer = _auto_tokenizer(given, str(folder))
        kind, made = _kind(texts, str(folder)), type(tokenizer.backend_tokenizer.model).__name__
        if kind not in (None, made):
            raise InputError(
                f"{folder}: transformers makes a {made} of the {kind} in tokenizer.json; name its class in {CONFIG} "
                '("tokenizer_class": "PreTrainedTokenizerFast")'
            )
        if limit is not None:
            tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
        tokenizer.save_pretrained(copies)
        texts = {name: _read_text(Path(copies, name)) for name in FILES[:2]}
        if "vocab.txt" in names:  # which tools for BERT read that know no tokenizer.json
            texts["vocab.txt"] = _read_text(folder / "vocab.txt")
        config = {key: value for key, value in json.loads(texts[CONFIG]).items() if key not in FROM_PRETRAINED}
        texts[CONFIG] = json.dumps(config)
        config[NOTE] = _facts(tokenizer) | {"sha256": _fingerprint(texts)}
        texts[CONFIG] = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        write_files(texts, copies)
        again = _auto_tokenizer(copies, str(folder))
        backends = {t.backend_tokenizer.to_str() for t in (tokenizer, again)}
        if backends != {_open(texts["tokenizer.json"]).to_str()} or _facts(tokenizer) != _facts(again):
            raise InputError(
                f"{folder}: {type(tokenizer).__name__} changes when transformers saves and loads it again; save it as "
                "a PreTrainedTokenizerFast first"
            )
    return texts


def write_files(texts: dict[str, str], folder: str | Path) -> None:
    """Write the texts to a folder; names that are no tokenizer's file are left out."""
    for name in FILES:
        if name in texts:
            (Path(folder) / name).write_bytes(texts[name].encode("utf-8"))


def escape(token: str) -> str:
    """The token without white space, one to one: in a line of text, and as a symbol in dict.txt."""
    return TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", token)


def max_length(texts: dict[str, str]) -> int | None:
    """The length that the tokenizer's files set for a sequence, if they do."""
    length = json.loads(texts.get(CONFIG, "{}")).get("model_max_length")
    return length if isinstance(length, int) else None


def _auto_tokenizer(folder: str | Path, source: str):
    from transformers import AutoTokenizer  # takes most of a second, which no command without a tokenizer needs

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever is wrong with files of another's
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{source}: transformers cannot read the tokenizer ({type(error).__name__}: {reason}); copy the files "
            "of the model's own"
        ) from error
    if not tokenizer.is_fast:
        raise InputError(
            f"{source}: {type(tokenizer).__name__} has no fast form (tokenizer.json); convert it, or take another model"
        )
    if tokenizer.split_special_tokens:
        raise InputError(f'{source}: the tokenizer splits special tokens; set "split_special_tokens" to false')
    return tokenizer


def _facts(tokenizer) -> dict:
    """What our side asks of transformers' tokenizer, beside its backend."""
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("pad", "unk", "mask")}
    types = "token_type_ids" in tokenizer.model_input_names
    return ids | {"special": sorted(tokenizer.all_special_ids), "token types": types}


def _open(text: str) -> Tokenizer:
    """Read a tokenizer.json. The library rounds the scores of a Unigram, which decide between ties; this does not."""
    backend = Tokenizer.from_str(text)
    if isinstance(backend.model, Unigram):
        model = json.loads(text)["model"]
        backend.model = Unigram(list(map(tuple, model["vocab"])), model["unk_id"], model["byte_fallback"])
    return backend


def _noted(texts: dict[str, str]) -> dict | None:
    """The facts in the texts' own note; None if there is none, or if anything changed after it was written."""
    try:
        facts = json.loads(texts[CONFIG])[NOTE]
        return facts if facts["sha256"] == _fingerprint(texts) else None
    except (KeyError, TypeError, ValueError):
        return None


def _fingerprint(texts: dict[str, str]) -> str:
    """A hash of the texts, without their note."""
    config = {key: value for key, value in json.loads(texts[CONFIG]).items() if key != NOTE}
    return sha256(json.dumps([texts | {CONFIG: ""}, config], sort_keys=True).encode()).hexdigest()


def _with_class(texts: dict[str, str], names: list[str], source: str) -> dict[str, str]:
    """The texts with a class in their configuration: without one, AutoTokenizer asks the model's config.json."""
    config = parse_object(texts.get(CONFIG, "{}"), f"{source}/{CONFIG}")
    if "tokenizer_class" in config:
        return texts
    kinds = (_kind(texts, source), *names)
    config["tokenizer_class"] = next((CLASSES[kind] for kind in kinds if kind in CLASSES), "PreTrainedTokenizerFast")
    return texts | {CONFIG: json.dumps(config)}


def _kind(texts: dict[str, str], source: str) -> str | None:
    """The kind of model in tokenizer.json, if there is one: WordPiece, Unigram, BPE, ..."""
    content = parse_object(texts.get("tokenizer.json", "{}"), f"{source}/tokenizer.json")
    return dict(content.get("model") or {}).get("type")


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); fetch the file again") from None
