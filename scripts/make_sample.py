"""Make sample/: real English-xx pairs from the translations that open-source packages ship.

Run by hand when the sources change; the result is committed. Each pair `xx-en` is a TSV of two columns, xx
first. The same sources give the same bytes: no order of files, sets or time enters the result.
"""

import argparse
import hashlib
import html
import json
import lzma
import re
import sys
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polib
from registry import RegistryError, Wheel, fetch
from tqdm import tqdm

# XNLI's languages -> what the sources call them
LOCALES = {
    "ar": ["ar"],
    "bg": ["bg", "bg_BG"],
    "de": ["de"],
    "el": ["el"],
    "es": ["es", "es_ES"],
    "fr": ["fr", "fr_FR"],
    "hi": ["hi", "hi_IN"],
    "ru": ["ru"],
    "sw": ["sw", "sw_TZ"],
    "th": ["th"],
    "tr": ["tr"],
    "ur": ["ur", "ur_PK"],
    "vi": ["vi"],
    "zh": ["zh_Hans", "zh-Hans"],
}
SCRIPTS = {  # of the languages not in Latin script, as unicodedata names their letters
    "ar": "ARABIC",
    "bg": "CYRILLIC",
    "el": "GREEK",
    "hi": "DEVANAGARI",
    "ru": "CYRILLIC",
    "th": "THAI",
    "ur": "ARABIC",
    "zh": "CJK",
}
UNSPACED = {"th", "zh"}
# placeholders, markup, links, code: what is no natural language
NOISE = re.compile(r"[{}<>\\|$_=~^\[\]]|%[\w(%]|https?:|www\.|::|\w\(\)|&\w+;|\.\w+/")
WORD = re.compile(r"[^\W\d_]+")

TEST_SIZE = 100, 250  # a tenth of a language's pairs, within these bounds
TEST_WORDS = 5  # held-out English sides have at least so many words
TRAIN_SIZE = 6000


@dataclass(frozen=True)
class Source:
    name: str
    wheel: Wheel
    licence: str
    copyright: str
    read: str  # one of READERS

    @property
    def licence_file(self) -> str:
        return f"LICENSE.{self.name.lower().replace(' ', '-')}.txt"

    def pairs(self, wheel: Path, locales: list[str]) -> Iterator[tuple[str, str]]:
        with zipfile.ZipFile(wheel) as archive:
            yield from READERS[self.read](archive, locales)


def read_gettext(archive: zipfile.ZipFile, locales: list[str]) -> Iterator[tuple[str, str]]:
    """…/locale/LOCALE/LC_MESSAGES/*.po, whose ids are the English text."""
    wanted = re.compile(rf".*/locale/({'|'.join(locales)})/LC_MESSAGES/\w+\.po")
    for name in filter(wanted.fullmatch, sorted(archive.namelist())):
        yield from po_pairs(archive.read(name).decode())


def po_pairs(text: str) -> Iterator[tuple[str, str]]:
    """(English, xx) of the entries that are translated, not fuzzy, and without plural forms."""
    for entry in polib.pofile(text):
        if entry.translated() and not entry.msgid_plural:
            yield entry.msgid, entry.msgstr


def read_json(archive: zipfile.ZipFile, locales: list[str], path: str) -> Iterator[tuple[str, str]]:
    """JSON trees that share their keys. `path` is a pattern with the locale, "en" for English, as its group."""
    names = set(archive.namelist())
    for name in sorted(names):
        match = re.fullmatch(path, name)
        if match and match[1] in locales:
            reference = name[: match.start(1)] + "en" + name[match.end(1) :]
            if reference in names:
                ours, theirs = (dict(leaves(json.loads(archive.read(file)))) for file in (reference, name))
                yield from ((ours[key], theirs[key]) for key in sorted(ours.keys() & theirs.keys()))


def leaves(tree: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        elif isinstance(value, str):
            yield (*path, key), value


READERS = {
    "gettext": read_gettext,
    "kolibri": partial(read_json, path=r"kolibri/locale/(\w+)/LC_MESSAGES/.*-messages\.json"),
    "home assistant": partial(
        read_json, path=r"homeassistant/components/\w+/translations/(?:\w+\.)?([\w-]+)\.json"
    ),
}

SOURCES = [
    Source(
        "Kolibri",
        Wheel("kolibri==0.19.5", "dc4c187d29a80037594c2dadd1cbc862cb4b8b76166bfd4084314f8ab2bc6221"),
        "MIT",
        "Copyright (c) 2021 Learning Equality and other contributors",
        "kolibri",
    ),
    Source(
        "Django",
        Wheel("django==5.2.19", "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00"),
        "BSD-3-Clause",
        "Copyright (c) Django Software Foundation and individual contributors.",
        "gettext",
    ),
    Source(
        "django-allauth",
        Wheel("django-allauth==65.21.1", "7bdf018c9f3f0a32c80677f84e7777272d9c833b180bd6734314c4831c802a9e"),
        "MIT",
        "Copyright (c) 2010-2026 Raymond Penners and contributors",
        "gettext",
    ),
    Source(
        "Wagtail",
        Wheel("wagtail==8.0.1", "1e6ad5c7891a54efce1400e168298b5a2cc343b642cee89c31bf5ec30c98b26c"),
        "BSD-3-Clause",
        "Copyright (c) 2014-present Torchbox Ltd and individual contributors.",
        "gettext",
    ),
    Source(
        "Home Assistant",
        Wheel("homeassistant==2024.3.3", "6e1ec2c07441d63fdcfb8acd2c4bbb6f68bc97330855784d3623d10c38fe3577"),
        "Apache-2.0",
        "The Home Assistant Authors (the wheel states no line of copyright)",
        "home assistant",
    ),
]


def clean(text: str) -> str:
    """Plain text: no HTML escapes, emphasis, list marks or zero-width spaces; NFC; single spaces."""
    text = unicodedata.normalize("NFC", html.unescape(text))
    return " ".join(re.sub(r"\*\*|`|\u200b|^\s*[-*•] ", "", text).split())


def key(text: str) -> str:
    """What makes two sentences the same: words alone, without case, spaces and punctuation."""
    return "".join(re.findall(r"\w+", text.casefold()))


def natural(english: str, other: str, language: str) -> bool:
    """Whether both sides are plain sentences or phrases, in their languages and of like length."""
    words = WORD.findall(english)
    letters = [char for char in other if char.isalpha()]
    if len(words) < 3 or not letters or NOISE.search(english) or NOISE.search(other):
        return False
    if language in SCRIPTS:
        native = sum(SCRIPTS[language] in unicodedata.name(char, "") for char in letters)
        if native < 0.6 * len(letters):
            return False
    else:  # Latin script: what is not translated shares its words
        shared = {word.casefold() for word in words} & {word.casefold() for word in WORD.findall(other)}
        if len(shared) > 0.5 * len(words):
            return False
    length = len(other) * (3 if language == "zh" else 1)
    enough = len(letters) >= 4 if language in UNSPACED else len(WORD.findall(other)) >= 2
    return enough and 1 / 3 < length / len(english) < 3


def sentences(english: str, other: str) -> Iterator[tuple[str, str]]:
    """The paragraphs of an entry, one by one, if both sides have the same number of them."""
    ours, theirs = ([line for line in map(clean, side.splitlines()) if line] for side in (english, other))
    if len(ours) == len(theirs):
        yield from zip(ours, theirs, strict=True)


def vote(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """One pair for each English sentence and each translation: the commonest. Sorted by stable hash."""
    counts = Counter(pairs)
    best, used = {}, set()
    for english, other in sorted(counts, key=lambda pair: (-counts[pair], pair)):
        if key(english) not in best and key(other) not in used:
            best[key(english)] = english, other
            used.add(key(other))
    return [best[name] for name in sorted(best, key=rank)]


def rank(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def split(pairs: dict[str, list[tuple[str, str]]]) -> tuple[dict, dict]:
    """(training, held-out) pairs of each language. All languages take their held-out pairs from the same order
    of English sentences, and an English sentence held out for one language is training data for none."""
    held = {}
    for language, ours in pairs.items():
        eligible = [pair for pair in ours if len(WORD.findall(pair[0])) >= TEST_WORDS]
        held[language] = eligible[: min(max(len(ours) // 10, TEST_SIZE[0]), TEST_SIZE[1])]
    english = {key(pair[0]) for test in held.values() for pair in test}
    train = {
        language: [pair for pair in ours if key(pair[0]) not in english][:TRAIN_SIZE]
        for language, ours in pairs.items()
    }
    return train, held


def extract(cache: Path) -> tuple[dict[str, list[tuple[str, str]]], dict[tuple[str, str, str], str]]:
    """Each language's pairs, and the source that a (language, English, xx) was first seen in."""
    found, origin = defaultdict(list), {}
    for source in SOURCES:
        wheel = fetch(source.wheel, cache)
        for language, locales in tqdm(LOCALES.items(), desc=source.name, unit="language"):
            for entry in source.pairs(wheel, locales):
                for pair in sentences(*entry):
                    if natural(*pair, language):
                        found[language].append(pair)
                        origin.setdefault((language, *pair), source.name)
    return {language: vote(found[language]) for language in LOCALES}, origin


def write(path: Path, pairs: list[tuple[str, str]]) -> None:
    text = "".join(f"{other}\t{english}\n" for english, other in pairs)
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def copy_licences(cache: Path, out: Path) -> None:
    for source in SOURCES:
        with zipfile.ZipFile(fetch(source.wheel, cache)) as archive:
            ours = re.compile(r"[^/]+\.dist-info/(licenses/)?LICENSE(\.md)?")
            (name,) = filter(ours.fullmatch, archive.namelist())
            (out / source.licence_file).write_bytes(archive.read(name))


def notice(train: dict, held: dict, origin: dict) -> str:
    counts = [
        Counter(origin[language, *pair] for language, pairs in part.items() for pair in pairs)
        for part in (train, held)
    ]
    lines = [
        "The sample in this folder: English and its translations, from the user interfaces and help texts of",
        "open-source packages. Made by scripts/make_sample.py from the wheels named here; cleaned, shuffled and",
        "split, otherwise unchanged. Each xx-en.{train,test}.tsv.xz holds xx, a tab, English.",
        "",
    ]
    for source in SOURCES:
        lines += [
            f"{source.name} ({source.wheel.requirement}), {source.licence}",
            f"    {source.copyright}",
            f"    {counts[0][source.name]} training pairs, {counts[1][source.name]} held-out pairs; "
            f"licence in {source.licence_file}",
            "",
        ]
    lines += ["language  train  test  words an English side"]
    for language in train:
        words = sum(len(english.split()) for english, _ in train[language]) / len(train[language])
        lines.append(f"{language:8}  {len(train[language]):5}  {len(held[language]):4}  {words:.1f}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=root / "sample", help="folder to write")
    parser.add_argument("--cache", type=Path, default=root / "runs" / "cache", help="where downloads are kept")
    args = parser.parse_args()
    try:
        pairs, origin = extract(args.cache)
    except RegistryError as error:
        sys.exit(f"make_sample: error: {error}")
    train, held = split(pairs)
    args.out.mkdir(parents=True, exist_ok=True)
    for language in LOCALES:
        write(args.out / f"{language}-en.train.tsv.xz", train[language])
        write(args.out / f"{language}-en.test.tsv.xz", held[language])
    copy_licences(args.cache, args.out)
    text = notice(train, held, origin)
    (args.out / "NOTICE").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
