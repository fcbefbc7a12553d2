"""JSON that means one thing alone: an object in which a key stands twice is refused, not half of it forgotten."""

import json
from collections import Counter
from pathlib import Path

from ppa_fairseq.utils.errors import InputError, shown
from ppa_fairseq.utils.files import read_whole


def loads(text: str) -> object:
    """As `json.loads`. Raises ValueError, with what is wrong in one line, on a repeated key and deep nesting, too."""
    try:
        return _decoder.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_object(path: Path, advice: str = "fetch the file again") -> dict:
    """The object that a file of JSON holds. Raises InputError if there is none; *advice* says what to do about it."""
    try:
        content = loads(read_whole(path).decode("utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(f"{path}: {error.strerror.lower()}; {advice}") from None
    except ValueError as error:  # no UTF-8 is one, too
        raise InputError(f"{path}: no JSON ({error}); {advice}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: no JSON object; {advice}")
    return content


def _object(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        (repeated, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {shown(repeated)} stands twice in one object")
    return found


_decoder = json.JSONDecoder(object_pairs_hook=_object)
