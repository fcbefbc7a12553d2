"""Folders of sentence-transformers: the files beside the model that say how to make one vector of a sentence."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.json_files import read_object

MODULES, LENGTH, CONFIG = "modules.json", "sentence_bert_config.json", "config.json"
LENGTHS = "sentence_*_config.json"  # as old releases named it by the kind of model
PROMPTS = "config_sentence_transformers.json"
POOLING_FOLDER = "1_Pooling"
NOT_TAKEN = "not taken: "  # begins the notes on what would change a vector


@dataclass
class SentenceEncoder:
    """What a folder says beside its model: all None where it is a folder of transformers alone."""

    folder: Path  # that holds the transformer
    pooling: str | None = None  # "cls" or "mean"
    max_length: int | None = None
    notes: list[str] = field(default_factory=list)  # what cannot be taken, for the user


def read(folder: Path) -> SentenceEncoder:
    """Find the transformer, the pooling and the length in a folder."""
    found = SentenceEncoder(folder)
    for kind, path in _modules(folder / MODULES):
        place = folder / path
        if kind == "Transformer":
            found.folder = place
            options = next((read_object(file) for file in sorted(place.glob(LENGTHS))), {})
            found.max_length = options.get("max_seq_length")
            if options.get("do_lower_case"):
                found.notes.append(f"{NOT_TAKEN}its do_lower_case; lower-case the text yourself")
        elif kind == "Pooling":
            found.pooling, mode = _pooling(read_object(place / CONFIG))
            if found.pooling is None:
                found.notes.append(f"{NOT_TAKEN}its pooling ({mode}); only cls and mean can be computed")
        else:
            found.notes.append(f"{NOT_TAKEN}its module {kind} ({path}), without which sentence vectors differ")
    if (folder / PROMPTS).is_file() and (prompt := read_object(folder / PROMPTS).get("default_prompt_name")):
        found.notes.append(f"{NOT_TAKEN}its default prompt ({prompt}); put it before each sentence yourself")
    if found.pooling:
        found.notes.append(f"a sentence encoder: {found.pooling} pooling, {found.max_length or 'all'} tokens at most")
    return found


def _modules(path: Path) -> list[tuple[str, str]]:
    """Kind and folder of each module, in order. Raises InputError on a damaged file."""
    try:
        modules = json.loads(path.read_bytes()) if path.is_file() else []
        return [(module["type"].split(".")[-1], module["path"]) for module in modules]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no list of modules ({type(error).__name__}: {error}); fetch it again") from None


def _pooling(config: dict) -> tuple[str | None, str]:
    """Ours of the modes in a Pooling module's configuration, in its old and its new form; and what it says."""
    modes = [key.removeprefix("pooling_mode_") for key in config if key.startswith("pooling_mode_") and config[key]]
    modes = modes or [str(config.get("pooling_mode"))]
    ours = {"cls_token": "cls", "mean_tokens": "mean", "cls": "cls", "mean": "mean"}
    return (ours.get(modes[0]) if len(modes) == 1 else None), " + ".join(modes)


def write(folder: Path, dim: int, pooling: str, max_length: int) -> None:
    """Write these files to a folder, in the form of releases before 6, which later ones still read."""
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate([("Transformer", ""), ("Pooling", POOLING_FOLDER)])
    ]
    (folder / POOLING_FOLDER).mkdir()
    write_json(folder / MODULES, modules)
    write_json(folder / LENGTH, {"max_seq_length": max_length})
    modes = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
    write_json(folder / POOLING_FOLDER / CONFIG, {"word_embedding_dimension": dim, **modes})


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
