import faiss
import numpy as np
import pytest

from lib.retrieval import ann_index as inverted_file
from lib.retrieval.ann_index import build_index, read_index
from lib.retrieval.blocks import EmbeddingSubset
from tests.winners import rows_around_centres


@pytest.fixture(scope="module")
def rows():
    return rows_around_centres(0, 3000)


def test_build_index_is_done_once_and_again_for_other_rows(rows, tmp_path, monkeypatch):
    build_index(rows, tmp_path, cells=20)
    monkeypatch.setattr(inverted_file, "_trained", None)  # calling it now would fail
    build_index(rows, tmp_path, cells=20)
    build_index(EmbeddingSubset(rows, np.arange(3000)), tmp_path, cells=20)  # the same values
    other = rows.copy()
    other[2999, 3] += 0.5
    for changed, options in ((other, {}), (rows, {"cells": 21}), (rows, {"seed": 1})):
        with pytest.raises(TypeError):
            build_index(changed, tmp_path, **({"cells": 20} | options))


def test_build_index_goes_on_after_a_kill_without_training_again(rows, tmp_path, monkeypatch):
    write = faiss.write_index

    def killed(index, path):
        if index.ntotal:
            raise KeyboardInterrupt
        write(index, path)

    monkeypatch.setattr(faiss, "write_index", killed)
    with pytest.raises(KeyboardInterrupt):
        build_index(rows, tmp_path, cells=20)
    with pytest.raises(ValueError, match=r"expected a finished index in .*, found none"):
        read_index(tmp_path, rows)
    monkeypatch.setattr(faiss, "write_index", write)
    monkeypatch.setattr(faiss.IndexIVFPQFastScan, "train", None)
    build_index(rows, tmp_path, cells=20)
    assert len(read_index(tmp_path, rows)) == 3000
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]


@pytest.mark.parametrize("size", [None, 0, 10, 5000])
def test_build_index_makes_a_missing_or_cut_file_again(rows, tmp_path, size):
    build_index(rows, tmp_path, cells=20)
    for path in sorted(tmp_path.rglob("*.faiss")):
        whole = path.read_bytes()
        path.unlink() if size is None else path.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=r"expected a finished index in .*, found none"):
        read_index(tmp_path, rows)
    build_index(rows, tmp_path, cells=20)
    assert len(read_index(tmp_path, rows)) == 3000


@pytest.mark.parametrize(
    ("wrong", "options", "message"),
    [
        (np.ones(4), {}, r"rows to index as an \(N, D\) array"),
        (np.ones((70, 2)), {"cells": 71}, "found 70 rows for 71 cells"),
        (np.ones((63, 2)), {}, "at least 64 rows and as many as cells, found 63 rows"),
        (np.ones((0, 2)), {}, "found 0 rows"),
        (np.array([[1, 0]] * 99 + [[np.nan, 1]]), {}, "finite rows to index, .* row 99"),
    ],
)
def test_build_index_refuses_bad_input(tmp_path, wrong, options, message):
    with pytest.raises(ValueError, match=message):
        build_index(wrong, tmp_path, **options)


@pytest.mark.parametrize("width", [1, 2, 5, 24])
def test_build_index_takes_rows_of_any_width(width, tmp_path):
    rows = np.random.default_rng(width).standard_normal((300, width)).astype(np.float16)
    index = read_index(build_index(rows, tmp_path), rows, candidates=300)
    assert index.nearest(rows[:20].astype(np.float32), 3).recall_at_k > 0.9


def test_build_index_is_the_same_from_float16_and_float32(rows, tmp_path):
    folders = [
        build_index(own, tmp_path / str(own.dtype)) for own in (rows, rows.astype(np.float32))
    ]
    found = [read_index(folder, rows).nearest(rows[:50], 5).positions for folder in folders]
    np.testing.assert_array_equal(*found)
