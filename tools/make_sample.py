"""Make sample/: English and its translations from open-source packages.

Run it by hand when the sources change, and commit the result. Each pair `xx-en` is a TSV of two columns, xx first. The
same sources give the same bytes.
"""

import argparse
import hashlib
import html
import lzma
import re
import sys
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from registry import RegistryError, fetch
from sample_sources import LOCALES, SOURCES
from tqdm import tqdm

SCRIPTS = {  # languages in other scripts than Latin: how unicodedata names their letters
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
# placeholders, markup, links, code
NOISE = re.compile(r"[{}<>\\|$_=~^\[\]]|%[\w(%]|https?:|www\.|::|\w\(\)|&\w+;|\.\w+/")
WORD = re.compile(r"[^\W\d_]+")

TEST_SIZE = 100, 250  # a tenth of a language's pairs, within these bounds
TEST_WORDS = 5  # minimum in held-out English sides
TRAIN_SIZE = 6000


def clean(text: str) -> str:
    """Plain text: no HTML escapes, emphasis, list marks or zero-width spaces; NFC; single spaces."""
    text = unicodedata.normalize("NFC", html.unescape(text))
    return " ".join(re.sub(r"\*\*|`|\u200b|^\s*[-*•] ", "", text).split())


def key(text: str) -> str:
    """Reduce a sentence to its letters, marks and digits without case; equal keys mean equal sentences."""
    return "".join(char for char in text.casefold() if unicodedata.category(char)[0] in "LMN")


def natural(english: str, other: str, language: str) -> bool:
    """Whether both sides are plain sentences or phrases, in their languages and of similar length."""
    words = WORD.findall(english)
    letters = [char for char in other if char.isalpha()]
    if len(words) < 3 or not letters or NOISE.search(english) or NOISE.search(other):
        return False
    if language in SCRIPTS:
        native = sum(SCRIPTS[language] in unicodedata.name(char, "") for char in letters)
        if native < 0.6 * len(letters):
            return False
    else:  # Latin script: an untranslated text shares its words
        ours, theirs = ({word.casefold() for word in WORD.findall(side)} for side in (english, other))
        if len(ours & theirs) > 0.5 * len(ours):
            return False
    length = len(other) * (3 if language == "zh" else 1)
    enough = len(letters) >= 4 if language in UNSPACED else len(WORD.findall(other)) >= 2
    return enough and 1 / 3 < length / len(english) < 3


def sentences(english: str, other: str) -> Iterator[tuple[str, str]]:
    """Yield the paragraphs of an entry, if both sides have the same number."""
    ours, theirs = ([line for line in map(clean, side.splitlines()) if line] for side in (english, other))
    if len(ours) == len(theirs):
        yield from zip(ours, theirs, strict=True)


def vote(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keep the commonest pair of each English sentence and each translation, sorted by a stable hash."""
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
    """Split the pairs of each language into training and held-out pairs.

    All languages take held-out pairs in the same order of English sentences, and no language trains on an English
    sentence that is held out in another.
    """
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
    """The pairs of each language, and the first source of each (language, English, xx)."""
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
        Counter(origin[(language, *pair)] for language, pairs in part.items() for pair in pairs)
        for part in (train, held)
    ]
    lines = [
        "The sample in this folder: English and its translations, from the user interfaces and help texts of",
        "open-source packages. Made by tools/make_sample.py from the wheels named here; cleaned, shuffled",
        "and split, otherwise unchanged. Each xx-en.{train,test}.tsv.xz holds xx, a tab, English.",
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
    parser.add_argument("--cache", type=Path, default=root / "runs" / "downloads", help="folder for the wheels")
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
