"""The packages of the sample, and readers of their translations."""

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polib
from registry import Wheel

# XNLI's languages -> their names in the sources
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
    """Read …/locale/LOCALE/LC_MESSAGES/*.po, whose ids are the English text."""
    catalogue = re.compile(rf".*/locale/({'|'.join(locales)})/LC_MESSAGES/\w+\.po")
    for name in filter(catalogue.fullmatch, sorted(archive.namelist())):
        yield from po_pairs(archive.read(name).decode())


def po_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield (English, xx) of the translated entries that are not fuzzy and have no plural forms."""
    for entry in polib.pofile(text):
        if entry.translated() and not entry.msgid_plural:
            yield entry.msgid, entry.msgstr


def read_json(archive: zipfile.ZipFile, locales: list[str], path: str) -> Iterator[tuple[str, str]]:
    """Read JSON trees with the same keys; the group in the pattern `path` is the locale, "en" for English."""
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
    "home assistant": partial(read_json, path=r"homeassistant/components/\w+/translations/(?:\w+\.)?([\w-]+)\.json"),
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
