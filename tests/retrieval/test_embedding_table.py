from threading import Event

import numpy as np
import pytest

from lib.artifacts import mark_complete
from lib.retrieval.embedding_table import (
    ROWS,
    EmbeddingSubset,
    blocks,
    check_table,
    read_embeddings,
)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8])
@pytest.mark.parametrize("block", [1, 4, 10, 100])
def test_blocks_are_the_table_in_float32(dtype, block):
    table = np.random.default_rng(0).integers(0, 100, (10, 3)).astype(dtype)
    pieces = [
        (start, rows.copy(), squares.copy()) for start, rows, squares in blocks(table, block, "x")
    ]
    assert [start for start, *_ in pieces] == list(range(0, 10, block))
    rows = np.vstack([rows for _, rows, _ in pieces])
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, table)
    squares = np.concatenate([squares for *_, squares in pieces])
    np.testing.assert_allclose(squares, (table.astype(float) ** 2).sum(axis=1), rtol=1e-6)


def test_blocks_take_columns_of_any_layout():
    table = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(4, 3))
    for _, rows, _ in blocks(table, 2, "x"):
        assert rows.flags.c_contiguous


def test_blocks_of_an_empty_table_are_none():
    assert list(blocks(np.empty((0, 3), np.float16), 4, "x")) == []


def test_blocks_can_be_left_early():
    pieces = blocks(np.ones((100, 2), np.float16), 10, "x")
    next(pieces)
    pieces.close()


def test_blocks_that_are_left_wait_for_no_thread():
    """Garbage collection may close them in a thread for which another one waits."""
    may_read, has_read = Event(), Event()

    class SlowTable(EmbeddingSubset):
        def __getitem__(self, places):
            if places.start:
                may_read.wait(20)
                has_read.set()
            return super().__getitem__(places)

    pieces = blocks(SlowTable(np.ones((30, 2), np.float16), np.arange(30)), 10, "x")
    next(pieces)
    pieces.close()
    assert not has_read.is_set()
    may_read.set()


def test_blocks_name_the_row_that_is_not_finite_and_only_that():
    table = np.full((9, 2), 3e38, np.float32)  # longer than float32 can square, yet finite
    assert len(list(blocks(table, 4, "x"))) == 3
    table[6, 1] = np.nan
    with pytest.raises(ValueError, match="finite x, found a NaN or an infinity in row 6;"):
        list(blocks(table, 4, "x"))
    with pytest.raises(ValueError, match="in row 6;"):
        list(blocks(EmbeddingSubset(table, np.array([0, 6])), 1, "x"))


def test_embedding_subset_reads_like_the_rows_it_stands_for():
    table = np.arange(20, dtype=np.float16).reshape(10, 2)
    chosen = EmbeddingSubset(table, np.array([7, 1, 3]))
    check_table(chosen, "x")
    assert (len(chosen), chosen.shape) == (3, (3, 2))
    np.testing.assert_array_equal(chosen[1:], table[[1, 3]])
    np.testing.assert_array_equal(chosen[np.array([[2, 0]])], table[[[3, 7]]])


def test_embeddings_that_do_not_tell_their_data_folder_say_so(tmp_path):
    np.save(tmp_path / ROWS, np.ones((2, 4), np.float16))
    mark_complete(tmp_path, "key")
    with pytest.raises(ValueError, match=r"expected .* to tell its data folder, found none"):
        _ = read_embeddings(tmp_path).root
