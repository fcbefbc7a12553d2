"""Vectors of sentences in a file, written front to back, so that a killed run goes on where it stopped."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ppa_fairseq.evaluation.embedding import SentenceEmbedder
from ppa_fairseq.evaluation.mining.sentences import Sentences

WINDOW = 2**12  # sentences embedded at a time; a resumed run has the same windows, so vectors are equal to the bit


def embed(
    embedder: SentenceEmbedder, sentences: Sentences, path: Path, progress: Callable[[int], object]
) -> np.ndarray:
    """Write unit vectors, fp32, to *path*; return them memory-mapped, (N, C). *progress* gets the sentences done.

    Raises InputError if a vector is not finite.
    """
    dim = embedder.shape.dim
    start = whole_rows(path, 4 * dim, WINDOW, len(sentences))
    progress(start)
    with open(path, "ab") as file:
        for place in range(start, len(sentences), WINDOW):
            texts = [text for _, text in sentences.between(place, place + WINDOW)]
            vectors = embedder(texts, progress)[embedder.poolings[0]][0].numpy()  # (n, C)
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            file.write(vectors.astype("<f4").tobytes())
            file.flush()
    return open_rows(path, np.dtype(("<f4", (dim,))))


def whole_rows(path: Path, size: int, window: int, total: int) -> int:
    """The rows of *size* bytes in a file: all *total*, or whole windows; what is behind them is cut off."""
    if not path.exists():
        return 0
    rows = path.stat().st_size // size
    rows = total if rows >= total else rows // window * window
    os.truncate(path, rows * size)
    return rows


def open_rows(path: Path, kind: np.dtype) -> np.ndarray:
    """The rows of a file, memory-mapped."""
    if not path.stat().st_size:
        return np.zeros(0, dtype=kind)
    return np.memmap(path, dtype=kind.base, mode="r").reshape(-1, *kind.shape)
