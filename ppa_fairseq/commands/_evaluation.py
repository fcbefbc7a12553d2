"""What the measuring commands share: the optional output folder, facts about a model, notes, the files of a report."""

import argparse
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ppa_fairseq.utils.files import output_folder

if TYPE_CHECKING:  # torch takes a second to import
    from ppa_fairseq.evaluation.embedding import SentenceEmbedder


def probability(text: str) -> float:
    """Parse a flag's value."""
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError("must be above 0 and below 1")
    return number


def optional_folder(path: Path | None, command: str) -> AbstractContextManager[Path | None]:
    """`output_folder(path, command)`, or None for no path."""
    return output_folder(path, command) if path else nullcontext()


def load_embedder(name: str, path: Path, args, several: bool = False) -> "SentenceEmbedder":
    """Read an encoder. Its own pooling and length, as a sentence encoder's folder has them, are the flags' defaults.

    Name on stderr what such a folder has beyond these. `several`: the flags may choose all layers and both poolings.
    """
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.checkpoints.sentence_encoder import NOT_TAKEN
    from ppa_fairseq.evaluation.embedding import POOLINGS, SentenceEmbedder, choose_layers

    model = checkpoint.read(path)
    layers = choose_layers(args.layer, model.shape.layers, several)
    poolings = POOLINGS if args.pooling == "both" else [args.pooling or model.pooling or "mean"]
    sizes = limits(args) | {"max_length": args.max_length or model.max_length}
    embedder = SentenceEmbedder(*model.build_encoder(str(path)), layers, poolings, **sizes)
    for note in model.notes:
        if note.startswith(NOT_TAKEN):
            print(f"{name}: {note}", file=sys.stderr)
    return embedder


def describe(path: Path, model, **more) -> dict:
    """The facts about `model`, an evaluation's encoder at work, for the JSON file."""
    facts = {"path": str(path), "layers": model.shape.layers, "dim": model.shape.dim, "max_length": model.max_length}
    return facts | more | {"device": str(model.device)} | model.precision.describe()


def limits(args) -> dict:
    """The values of the batching flags."""
    return {flag: getattr(args, flag) for flag in ("max_length", "batch_tokens", "cpu", "dtype")}


def note_precision(name: str, model, rows: str) -> None:
    """Tell the user on stderr by how much half precision changes the model's `rows`, if it computed in that."""
    if note := model.precision.note(rows):
        print(f"{name}: {note}", file=sys.stderr)


def note_truncated(name: str, model, total: int, what: str) -> None:
    """Tell the user on stderr how many of the `total` inputs were cut, if any were."""
    if model.truncated:
        print(f"{name}: {model.truncated} of {total} {what} cut to {model.max_length} tokens", file=sys.stderr)


def write_json(path: Path, content: dict) -> None:
    # ASCII: the official scripts open files in the encoding of the user's locale.
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="ascii")


def write_report(folder: Path, name: str, tables: str, args, flags: tuple[str, ...], **document) -> None:
    """Write `tables` to table.md and the rest to `name`, with the values of `flags` as its settings."""
    settings = {flag: getattr(args, flag) for flag in flags} | document.pop("settings", {})
    results = [result.record() for result in document.pop("results")]
    write_json(folder / name, {"settings": settings, **document, "results": results})
    if tables:
        (folder / "table.md").write_text(tables, encoding="utf-8")
