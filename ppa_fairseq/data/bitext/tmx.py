"""Sentence pairs from TMX, in constant memory; entities are refused and no other file is read."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from ppa_fairseq.data.bitext.row import Progress, Row, on_one_line
from ppa_fairseq.data.packed import File, open_unpacked
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.extras import load_extra

BLOCK = 1 << 18  # bytes parsed at once
LANGUAGE_NAMES = ("{http://www.w3.org/XML/1998/namespace}lang", "lang")  # of TMX 1.4 and of 1.1
MARKUP = ("bpt", "ept", "it", "ph", "ut")  # these hold codes of a word processor, no text
MOST = 1 << 15  # characters of a unit; no pair is longer


def tmx_rows(path: File, languages: tuple[str, str], progress: Progress) -> Iterator[Row]:
    """A row for each translation unit of *path*; one that lacks a language has an empty side.

    Raises InputError if it is no XML or declares or uses entities of its own, and if no unit has both languages.
    """
    known: dict[str, None] = {}
    pairs = 0
    for number, unit in enumerate(_units(path, progress), 1):
        known |= dict.fromkeys(unit)
        sides = [_choose(unit, language) for language in languages]
        pairs += None not in sides
        broken = {} if None in sides or len(sides[0]) + len(sides[1]) <= MOST else {"broken": "long"}
        yield Row(sides[0] or "", sides[1] or "", where=f"{path}: unit {number}", **broken)
    if not pairs:
        raise InputError(
            f"{path}: no translation unit in {' and '.join(languages)}; its languages: {', '.join(known) or 'none'}"
        )


def tmx_languages(path: File) -> list[str]:
    """The languages of the first translation unit."""
    with closing(_units(path, Progress())) as units:
        return [language for unit in islice(units, 1) for language in unit]


def _units(path: File, progress: Progress) -> Iterator[dict[str, str]]:
    """{language: text} of each translation unit."""
    etree = load_extra("lxml.etree", "sources", path)
    parser = etree.XMLPullParser(("end",), tag="{*}tu", resolve_entities=False, no_network=True, huge_tree=False)
    number = 0
    try:
        with open_unpacked(path) as (raw, file):
            while block := file.read(BLOCK):
                parser.feed(block)
                for _, unit in parser.read_events():
                    number += 1
                    if number == 1:
                        _refuse_entities(path, unit)
                    yield _texts(unit, path, number)
                    unit.clear()
                    while unit.getprevious() is not None:
                        del unit.getparent()[0]
                progress.position = raw.tell()
            parser.close()
    except etree.XMLSyntaxError as error:
        fault = next((entry.message for entry in parser.feed_error_log), error.msg)
        raise InputError(f"{path}: no well-formed TMX ({fault}); download it again or correct it") from None


def _refuse_entities(path: File, unit) -> None:
    definition = unit.getroottree().docinfo.internalDTD
    if definition is not None and (names := [entity.name for entity in definition.iterentities()]):
        raise InputError(f"{path}: declares entities ({', '.join(names[:3])}), which TMX has no use for; remove them")


def _texts(unit, path: File, number: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for variant in unit.iterchildren("{*}tuv"):
        language = next((variant.get(name) for name in LANGUAGE_NAMES if variant.get(name)), "")
        for segment in variant.iterchildren("{*}seg"):
            text = _text(segment, path, number) if len(segment) else segment.text or ""
            found.setdefault(language, on_one_line(text))
    return found


def _text(element, path: File, number: int) -> str:
    """The text in an element, without the codes of a word processor."""
    parts = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str):
            if child.tag.rpartition("}")[2] not in MARKUP:
                parts.append(_text(child, path, number))
        elif child.text and child.text.startswith("&"):  # else a comment
            raise InputError(
                f"{path}: unit {number}: the entity {child.text} is not declared; write the character for it"
            )
        parts.append(child.tail or "")
    return "".join(parts)


def _choose(unit: dict[str, str], language: str) -> str | None:
    """The text in *language*: of the same code, or else of the same language where one of the two has no region."""
    code = _normal(language)
    codes = {_normal(name): text for name, text in reversed(unit.items())}
    if code in codes:
        return codes[code]
    short = code.split("_")[0]
    for other, text in reversed(codes.items()):
        if other.split("_")[0] == short and short in (code, other):
            return text
    return None


def _normal(language: str) -> str:
    return language.replace("-", "_").lower()
