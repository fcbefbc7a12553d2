"""Neighbours: exact ones are those of brute force; IVF + PQ finds nearly all; a killed search goes on."""

import numpy as np
import pytest
import torch

from ppa_fairseq.evaluation.mining import search

CPU = torch.device("cpu")


def vectors(count, dim=32, seed=0, clusters=0):
    """Unit vectors; in clusters, as those of sentences are."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((count, dim))
    if clusters:
        centres = np.random.default_rng(9).standard_normal((clusters, dim))
        found = centres[rng.integers(0, clusters, count)] + 0.5 * found
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def brute_force(queries, keys, k):
    cosines = queries @ keys.T
    places = np.argsort(-cosines, axis=1)[:, :k]
    return np.take_along_axis(cosines, places, 1), places


def nearest(tmp_path, queries, keys, k=4, index="exact", name="nn", progress=lambda done: None):
    return search.nearest(queries, keys, k, tmp_path / name, index, CPU, progress)


@pytest.mark.parametrize("with_faiss", [True, False], ids=["faiss", "torch"])
def test_exact_neighbours_are_those_of_brute_force(tmp_path, monkeypatch, with_faiss):
    if with_faiss:
        pytest.importorskip("faiss", reason="needs the extra mining")
    else:
        monkeypatch.setattr(search, "find_spec", lambda name: None)
    monkeypatch.setattr(search, "WINDOW", 100)
    queries, keys = vectors(330), vectors(500, seed=1)
    cosines, places = brute_force(queries, keys, 4)
    found = nearest(tmp_path, queries, keys)
    assert (found["key"] == places).all()
    np.testing.assert_allclose(found["cosine"], cosines, atol=1e-6)


def test_blocks_of_keys_do_not_change_the_neighbours():
    queries, keys = vectors(20), vectors(101, seed=1)
    cosines, places = brute_force(queries, keys, 7)
    for size in (3, 50, 1000):
        found = search.torch_search(torch.from_numpy(queries), keys, 7, CPU, size)
        assert (found[1] == places).all()
        np.testing.assert_allclose(found[0], cosines, atol=1e-6)


def test_there_are_no_more_neighbours_than_keys(tmp_path):
    found = nearest(tmp_path, vectors(9), vectors(3, seed=1))
    assert found["key"].shape == (9, 3) and np.sort(found["key"], axis=1).tolist() == [[0, 1, 2]] * 9


def test_ivfpq_finds_what_exact_search_finds(tmp_path):
    pytest.importorskip("faiss", reason="needs the extra mining")
    queries, keys = vectors(200, clusters=60), vectors(6000, seed=1, clusters=60)
    exact = nearest(tmp_path, queries, keys, name="exact")
    found = nearest(tmp_path, queries, keys, index="ivfpq", name="coded")
    recall = np.mean([len(set(a) & set(b)) / 4 for a, b in zip(exact["key"], found["key"], strict=True)])
    assert recall >= 0.98
    same = exact["key"] == found["key"]
    np.testing.assert_allclose(exact["cosine"][same], found["cosine"][same], atol=1e-6)
    assert (tmp_path / "coded.faiss").stat().st_size < keys.nbytes / 3


@pytest.mark.parametrize("index", ["exact", "ivfpq"])
def test_a_search_goes_on_after_its_last_window(tmp_path, monkeypatch, index):
    pytest.importorskip("faiss", reason="needs the extra mining")
    monkeypatch.setattr(search, "WINDOW", 100)
    queries, keys = vectors(330), vectors(900, seed=1)
    whole = np.array(nearest(tmp_path, queries, keys, index=index, name="whole"))
    size = whole.dtype.itemsize
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[: 250 * size + 5])
    done = []
    assert (nearest(tmp_path, queries, keys, index=index, name="cut", progress=done.append) == whole).all()
    assert done == [200, 100, 30]
    done.clear()
    assert (nearest(tmp_path, queries, keys, index=index, name="cut", progress=done.append) == whole).all()
    assert done == [330]


def test_auto_is_exact_up_to_a_million_and_on_a_gpu():
    choose = search.choose_index
    assert choose("auto", 10**6, CPU) == "exact" == choose("auto", 10**8, torch.device("cuda"))
    assert choose("auto", 10**6 + 1, CPU) == "ivfpq" == choose("ivfpq", 5, CPU)
