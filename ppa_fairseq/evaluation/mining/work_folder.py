"""The folder of a long run: what is done stays there, and only the same run goes on from it."""

import json
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from ppa_fairseq.evaluation.embedding import SentenceEmbedder
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import READABLE, atomic_path

ABOUT = "about.json"


def open_work_folder(folder: Path, about: dict[str, object]) -> bool:
    """Make the folder; return whether an earlier run with the same facts left it.

    Raises InputError if it holds the work of another run, or what no run wrote.
    """
    file = folder / ABOUT
    if not file.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder}: is no folder of this command; name a new one")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as part:
            part.write_text(json.dumps(about, indent=1) + "\n", **READABLE)
        return False
    try:
        known = json.loads(file.read_text(**READABLE))
    except ValueError:
        known = {}
    for name, value in about.items():
        if not isinstance(known, dict) or known.get(name) != value:
            raise InputError(
                f"{folder}: holds vectors of another {name}; remove the folder, or name another one with --work"
            )
    return True


def describe_model(embedder: SentenceEmbedder) -> str:
    """A hash of all that a sentence's vector depends on."""
    digest = blake2b(digest_size=16)
    facts = [embedder.tokenizer.to_str(), embedder.layers, embedder.poolings, embedder.max_length]
    facts.append(embedder.precision.dtype)
    digest.update(repr(facts).encode())
    for name, tensor in sorted(embedder.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def describe_files(paths: Iterable[Path]) -> list[list]:
    """Names, sizes and times of files."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
