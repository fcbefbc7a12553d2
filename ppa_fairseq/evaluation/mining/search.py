"""Nearest neighbours by cosine among vectors that lie on the disk: exact, or by an inverted file of coded vectors."""

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ppa_fairseq.evaluation.mining.vectors import open_rows, whole_rows
from ppa_fairseq.utils.extras import load_extra
from ppa_fairseq.utils.files import atomic_path

INDEXES = ("exact", "ivfpq")
MOST_EXACT = 1_000_000  # keys, above which a CPU searches by IVF + PQ
WINDOW = 2**11  # queries searched at a time
KEYS = 2**16  # keys compared at a time on a GPU
REFINED = 16  # candidates for each neighbour whose exact cosine is computed after IVF + PQ
PROBES = 64  # lists of the inverted file that are searched
LEAST, ENOUGH = 39, 64  # training vectors for each list of the inverted file: faiss warns below 39
Search = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def neighbour_type(k: int) -> np.dtype:
    """The record of a query: its *k* nearest keys, nearest first; -1 where there are fewer."""
    return np.dtype([("cosine", "<f4", (k,)), ("key", "<i8", (k,))])


def nearest(
    queries: np.ndarray,
    keys: np.ndarray,
    k: int,
    path: Path,
    index: str,
    device: torch.device,
    progress: Callable[[int], object],
) -> np.ndarray:
    """Write the *k* nearest *keys* (M, C) of all *queries* (N, C), unit vectors, to *path*; return them memory-mapped.

    (N,) of `neighbour_type(k)`, where *k* is at most M. *index* is one of INDEXES. Goes on from the rows in *path*.
    """
    k = min(k, len(keys))
    kind = neighbour_type(k)
    start = whole_rows(path, kind.itemsize, WINDOW, len(queries))
    progress(start)
    search = None
    with open(path, "ab") as file:
        for place in range(start, len(queries), WINDOW):
            search = search or make_search(keys, k, path, index, device)
            window = np.ascontiguousarray(queries[place : place + WINDOW])
            rows = np.empty(len(window), dtype=kind)
            rows["cosine"], rows["key"] = search(window)
            file.write(rows.tobytes())
            file.flush()
            progress(len(window))
    return open_rows(path, kind)


def choose_index(name: str, keys: int, device: torch.device) -> str:
    """The index that *name* selects: "auto" is exact up to a million keys, and on a GPU."""
    if name != "auto":
        return name
    return "exact" if keys <= MOST_EXACT or device.type == "cuda" else "ivfpq"


def make_search(keys: np.ndarray, k: int, path: Path, index: str, device: torch.device) -> Search:
    """A function from queries (n, C) to cosines and places of their *k* nearest keys, (n, k) each."""
    if index == "ivfpq":
        inverted = _inverted_file(load_extra("faiss", "mining", "--index ivfpq"), keys, path.with_suffix(".faiss"))
        return lambda queries: _refined_search(inverted, queries, keys, k)
    if device.type == "cpu" and find_spec("faiss"):  # takes half of torch's time
        faiss = load_extra("faiss", "mining", "ppa mine")
        return lambda queries: faiss.knn(queries, keys, k, metric=faiss.METRIC_INNER_PRODUCT)
    return lambda queries: torch_search(torch.from_numpy(queries), keys, k, device)


def torch_search(queries: torch.Tensor, keys: np.ndarray, k: int, device: torch.device, size: int = KEYS):
    """Exact, in blocks of *size* keys."""
    queries = queries.to(device)
    cosines = torch.full((len(queries), 0), 0.0, device=device)
    places = torch.full((len(queries), 0), 0, device=device)
    for start in range(0, len(keys), size):
        block = torch.from_numpy(np.array(keys[start : start + size])).to(device)
        found, place = (queries @ block.T).topk(min(k, len(block)), dim=1)  # (n, k)
        cosines, order = torch.cat([cosines, found], dim=1).sort(dim=1, descending=True, stable=True)
        places = torch.cat([places, place + start], dim=1).gather(1, order)[:, :k]
        cosines = cosines[:, :k]
    return cosines.cpu().numpy(), places.cpu().numpy()


def _inverted_file(faiss, keys: np.ndarray, path: Path):
    """An index of all keys, a byte for every four dimensions; written to *path* for a resumed run."""
    if path.exists():
        return faiss.read_index(str(path))
    count, dim = keys.shape
    lists = max(1, min(int(4 * math.sqrt(count)), count // LEAST))
    bits = max(1, min(8, int(math.log2(max(2, count // LEAST)))))
    codes = next(parts for parts in (dim // 4, dim // 2, dim) if parts and dim % parts == 0)
    index = faiss.index_factory(dim, f"IVF{lists},PQ{codes}x{bits}", faiss.METRIC_INNER_PRODUCT)
    index.train(np.ascontiguousarray(keys[:: max(1, count // (ENOUGH * max(lists, 2**bits)))]))
    for start in range(0, count, KEYS):
        index.add(np.ascontiguousarray(keys[start : start + KEYS]))
    index.nprobe = min(PROBES, lists)
    with atomic_path(path) as part:
        faiss.write_index(index, str(part))
    return index


def _refined_search(index, queries: np.ndarray, keys: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The best *k* by exact cosine of more that the index finds."""
    _, places = index.search(queries, min(REFINED * k, len(keys)))
    places = np.sort(places, axis=1)  # in the order of the file; -1 for none
    cosines = np.stack([keys[found] @ query for query, found in zip(queries, places, strict=True)])
    cosines[places < 0] = -np.inf
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, best, 1), np.take_along_axis(places, best, 1)
