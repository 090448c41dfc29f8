"""Blocks on GPUs, which a stand-in plays: which device gets which block, and what comes back."""

import faiss
import numpy as np
import pytest

from lib.retrieval import knn as gpu
from lib.retrieval.blocks import blocks


@pytest.fixture(params=[1, 3])
def devices(request, monkeypatch):
    asked = []

    def knn_gpu(resources, queries, rows, k, metric, device):
        asked.append((device, len(rows), k))
        return faiss.knn(queries, rows, k, metric=metric)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: request.param)
    monkeypatch.setattr(faiss, "knn_gpu", knn_gpu, raising=False)
    monkeypatch.setattr(gpu, "_resources", lambda device: None)
    return request.param, asked


def test_search_blocks_gives_every_device_its_turn(devices):
    count, asked = devices
    generator = np.random.default_rng(0)
    queries = generator.standard_normal((4, 6), dtype=np.float32)
    gallery = generator.standard_normal((53, 6)).astype(np.float16)
    found = list(gpu.search_blocks(queries, blocks(gallery, 10, "gallery"), 5))
    expected = [(number % count, size, min(size, 5)) for number, size in enumerate([10] * 5 + [3])]
    assert sorted(asked) == sorted(expected)
    for start, (squares, scores, positions) in zip(range(0, 53, 10), found, strict=True):
        rows = gallery[start : start + 10].astype(np.float32)
        np.testing.assert_allclose(squares, (rows**2).sum(axis=1), rtol=1e-5)
        order = np.argsort(-(queries @ rows.T), axis=1)[:, :5]
        np.testing.assert_array_equal(positions, order + start)
        np.testing.assert_allclose(scores, np.take_along_axis(queries @ rows.T, order, 1), 1e-5)


def test_a_failing_gpu_says_so(devices, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(faiss, "knn_gpu", broken, raising=False)
    rows = np.ones((30, 2), np.float32)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(gpu.search_blocks(rows[:1], blocks(rows, 10, "gallery"), 5))
