"""JSON objects in files, with one clear line where there is none."""

import json
from pathlib import Path

from ppa_fairseq.utils.errors import InputError


def read_object(path: Path, advice: str = "fetch the file again") -> dict:
    """Read the JSON object in a file. Raises InputError, which gives *advice*, if there is none."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(f"{path}: {error.strerror.lower()}; {advice}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); {advice}") from None
    return parse_object(text, path, advice)


def parse_object(text: str, source: object, advice: str = "fetch the file again") -> dict:
    """Parse a JSON object. Raises InputError, which names *source*, if *text* is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: no JSON ({error}); {advice}") from None
    if not isinstance(content, dict):
        raise InputError(f"{source}: no JSON object; {advice}")
    return content
