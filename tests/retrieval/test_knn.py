import time
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest

from lib.retrieval import knn
from lib.retrieval.embedding_table import EmbeddingSubset
from lib.retrieval.knn import TagScores, knn_on_gpus, nearest, search


def unit_rows(generator, count, width, dtype=np.float32):
    rows = generator.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)


def naive(queries, gallery, k):
    """Every product in double precision, sorted by score and then by position."""
    scores = queries.astype(np.float64) @ gallery.astype(np.float64).T
    order = [sorted(range(len(gallery)), key=lambda j: (-row[j], j))[:k] for row in scores]
    order = np.array(order, dtype=np.int64).reshape(len(queries), min(k, len(gallery)))
    return np.take_along_axis(scores, order, axis=1), order


@pytest.mark.parametrize("block", [11, 37, 1000, 65_536])
def test_search_agrees_with_naive_reference(block):
    generator = np.random.default_rng(1)
    queries, gallery = unit_rows(generator, 20, 16), unit_rows(generator, 1500, 16)
    ranking = search(queries, gallery, 30, block=block)
    scores, positions = naive(queries, gallery, 30)
    np.testing.assert_array_equal(ranking.positions, positions)
    np.testing.assert_allclose(ranking.scores, scores, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 7, 100])
def test_search_breaks_ties_by_position(seed, k):
    # Entries of -1, 0 and 1: hundreds of gallery rows share each score, at the cut as well.
    generator = np.random.default_rng(seed)
    queries = generator.integers(-1, 2, (11, 6)).astype(np.float32)
    gallery = generator.integers(-1, 2, (900, 6)).astype(np.float32)
    ranking = search(queries, gallery, k, block=int(generator.integers(1, 1000)))
    np.testing.assert_array_equal(ranking.positions, naive(queries, gallery, k)[1])


def test_search_ties_equal_photographs_exactly():
    # Equal float32 rows may differ in the last bit of a blocked matrix product; never here.
    generator = np.random.default_rng(2)
    different = unit_rows(generator, 40, 512)
    source = generator.integers(0, 40, 3000)
    queries = unit_rows(generator, 5, 512)
    ranking = search(queries, different[source], 200, block=701)
    for scores, positions in zip(ranking.scores, ranking.positions, strict=True):
        for original in np.unique(source[positions]):
            copies = source[positions] == original
            assert len(np.unique(scores[copies])) == 1
            assert (np.diff(positions[copies]) > 0).all()


def test_search_streams_a_float16_memory_map(tmp_path):
    generator = np.random.default_rng(3)
    rows = unit_rows(generator, 2000, 32, np.float16)
    np.save(tmp_path / "gallery.npy", rows)
    gallery = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    queries = unit_rows(generator, 9, 32, np.float16)
    ranking = search(queries, gallery, 50, block=300)
    scores, positions = naive(queries, rows, 50)
    np.testing.assert_array_equal(ranking.positions, positions)
    np.testing.assert_allclose(ranking.scores, scores, atol=1e-7)


def test_search_never_holds_more_than_two_blocks_of_the_gallery():
    generator = np.random.default_rng(4)
    seen = []

    class Watched(EmbeddingSubset):
        def __getitem__(self, item):
            seen.append(item)
            return super().__getitem__(item)

    gallery = Watched(unit_rows(generator, 1000, 8), np.arange(1000))
    search(unit_rows(generator, 3, 8), gallery, 5, block=256)
    slices = [item for item in seen if isinstance(item, slice)]
    assert slices == [slice(start, start + 256) for start in (0, 256, 512, 768)]


@pytest.fixture
def coarse_gpu(monkeypatch):
    """A stand-in for two GPUs that multiply with ten bits of mantissa, as TF32 does."""
    calls = []

    def coarse(array):
        bits = array.astype(np.float32).view(np.uint32)
        return ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)

    def knn_gpu(resources, queries, piece, k, metric, device):
        calls.append((device, k))
        return faiss.knn(coarse(queries), coarse(piece), k, metric=metric)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(faiss, "knn_gpu", knn_gpu, raising=False)
    monkeypatch.setattr(knn, "_resources", lambda device: None)
    return calls


@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_search_uses_the_gpu_when_there_is_one_and_repairs_its_rounding(coarse_gpu, spread):
    # At the smaller spread hundreds of scores lie within the rounding of the cut.
    generator = np.random.default_rng(5)
    queries = unit_rows(generator, 30, 24)
    gallery = queries[:1] + spread * unit_rows(generator, 4000, 24)
    ranking = search(queries, gallery, 40, block=900)
    assert sorted(set(coarse_gpu)) == [(0, 112), (1, 112)]  # every GPU, and 2 k + 32 candidates
    expected = np.sort((queries.astype(np.float64) @ gallery.T.astype(np.float64)), axis=1)
    np.testing.assert_allclose(ranking.scores, expected[:, :-41:-1], rtol=0, atol=1e-7)


def test_search_is_the_same_for_queries_alone_and_together():
    generator = np.random.default_rng(6)
    queries, gallery = unit_rows(generator, 12, 64), unit_rows(generator, 800, 64)
    together = search(queries, gallery, 25)
    for row in range(12):
        alone = search(queries[row : row + 1], gallery, 25)
        np.testing.assert_array_equal(alone.scores[0], together.scores[row])
        np.testing.assert_array_equal(alone.positions[0], together.positions[row])


def test_search_puts_an_identical_image_first():
    gallery = unit_rows(np.random.default_rng(7), 700, 48)
    ranking = search(gallery[[5, 311]], gallery, 3)
    assert ranking.positions[:, 0].tolist() == [5, 311]
    np.testing.assert_allclose(ranking.scores[:, 0], 1.0, atol=1e-6)


def test_search_clips_k_to_the_gallery():
    generator = np.random.default_rng(8)
    queries, gallery = unit_rows(generator, 2, 4), unit_rows(generator, 3, 4)
    ranking = search(queries, gallery, 100)
    np.testing.assert_array_equal(ranking.positions, naive(queries, gallery, 100)[1])


@pytest.mark.parametrize(("queries", "images"), [(0, 5), (5, 0), (0, 0), (0, 5000)])
def test_search_of_nothing_is_an_empty_ranking(queries, images):
    ranking = search(
        np.zeros((queries, 4), np.float16),
        np.zeros((images, 4), np.float16),
        3,
        query_ids=[f"q{row}" for row in range(queries)],
        gallery_ids=[f"g{row}" for row in range(images)],
    )
    assert ranking.positions.shape == (queries, min(3, images))
    assert len(ranking.predictions()) == queries


def test_search_keeps_ids_in_step():
    ranking = search(np.eye(2), np.eye(2), 1, query_ids=["x", "y"], gallery_ids=["a", "b"])
    assert ranking.predictions() == {"x": ["a"], "y": ["b"]}
    with pytest.raises(ValueError, match="one gallery id per row, found 1 ids for 2 rows"):
        search(np.eye(2), np.eye(2), 1, gallery_ids=["a"])
    with pytest.raises(ValueError, match="one query id per row, found 3 ids for 2 rows"):
        search(np.eye(2), np.eye(2), 1, query_ids=["x", "y", "z"])


def test_search_takes_mixed_precision():
    generator = np.random.default_rng(9)
    queries, gallery = unit_rows(generator, 4, 16, np.float64), unit_rows(generator, 600, 16)
    expected = search(queries.astype(np.float32), gallery, 10)
    np.testing.assert_array_equal(search(queries, gallery, 10).positions, expected.positions)


@pytest.mark.parametrize("images", [10, 2000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_search_refuses_values_that_are_not_finite(images, value):
    gallery = np.ones((images, 4), np.float16)
    gallery[images - 2, 1] = value
    with pytest.raises(ValueError, match=f"finite gallery.*row {images - 2};"):
        search(np.ones((3, 4)), gallery, 2, block=64)
    with pytest.raises(ValueError, match=f"finite queries.*row {images - 2};"):
        search(gallery, np.ones((3, 4)), 2, block=64)


@pytest.mark.parametrize(
    ("queries", "gallery", "k", "message"),
    [
        (np.ones((2, 4)), np.ones((3, 5)), 1, "one width, found 4 and 5"),
        (np.ones(4), np.ones((3, 4)), 1, r"queries as an \(N, D\) array, found \(4,\)"),
        (np.ones((2, 4)), np.ones((3, 4, 1)), 1, r"gallery as an \(N, D\) array"),
        (np.ones((2, 4)), np.full((3, 4), "x"), 1, "real numbers, found <U1"),
        (np.ones((2, 4)), np.ones((3, 4), complex), 1, "real numbers, found complex"),
        (np.ones((2, 4)), np.ones((3, 4)), 0, "at least 1, found 0"),
        ([[1.0, 0.0]], np.ones((3, 2)), 1, "found list"),
    ],
)
def test_search_refuses_bad_input(queries, gallery, k, message):
    with pytest.raises(ValueError, match=message):
        search(queries, gallery, k)


class TableTerm:
    """A score term looked up in a table of all pairs."""

    def __init__(self, table):
        self.table = table

    def at(self, rows, positions):
        return self.table[rows, positions]

    def tile_adder(self, rows):
        def add_to_tile(tile, start):
            tile += self.table[rows, start : start + len(tile)].T

        return add_to_tile


@pytest.mark.parametrize("order", ["random", "ascending", "descending"])
@pytest.mark.parametrize("block", [97, 65_536])
def test_nearest_is_exact_for_the_sum_with_a_term(monkeypatch, block, order):
    monkeypatch.setattr(knn, "TILE_QUERIES", 4)
    monkeypatch.setattr(knn, "TILE_ENTRIES", 1_000)
    generator = np.random.default_rng(10)
    queries, gallery = unit_rows(generator, 15, 8), unit_rows(generator, 2500, 8)
    if order != "random":
        gallery = gallery[np.argsort(gallery @ queries[0])[:: 1 if order == "ascending" else -1]]
    extra = generator.choice([0.0, 0.1, 1.0], (15, 2500), p=[0.9, 0.08, 0.02])
    dense = queries.astype(np.float64) @ gallery.T.astype(np.float64) + extra
    expected = np.argsort(-dense, axis=1, kind="stable")[:, :60]
    scores, positions = nearest(queries, gallery, 60, block=block, terms=[TableTerm(extra)])
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(dense, expected, 1), atol=1e-6)


def test_nearest_with_a_term_breaks_ties_by_position():
    queries, gallery = np.ones((3, 2), np.float32), np.ones((5000, 2), np.float32)
    extra = np.zeros((3, 5000))
    extra[1, 4000] = 0.5
    scores, positions = nearest(queries, gallery, 10, terms=[TableTerm(extra)])
    assert positions[[0, 2]].tolist() == [list(range(10))] * 2
    assert positions[1].tolist() == [4000, *range(9)]
    assert scores[1].tolist() == [2.5] + [2.0] * 9


@pytest.fixture(params=[1, 3])
def devices(request, monkeypatch):
    calls = []

    def knn_gpu(resources, queries, rows, k, metric, device):
        calls.append((device, len(rows), k))
        return faiss.knn(queries, rows, k, metric=metric)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: request.param)
    monkeypatch.setattr(faiss, "knn_gpu", knn_gpu, raising=False)
    monkeypatch.setattr(knn, "_resources", lambda device: None)
    return request.param, calls


@pytest.mark.parametrize("size", [53, 10, 2])
def test_knn_on_gpus_gives_every_device_its_share(devices, size):
    count, calls = devices
    generator = np.random.default_rng(0)
    queries = generator.standard_normal((4, 6), dtype=np.float32)
    rows = generator.standard_normal((size, 6), dtype=np.float32)
    scores, positions = knn_on_gpus(queries, rows, 5, count)
    assert sorted(device for device, *_ in calls) == list(range(min(count, size)))
    assert sum(share for _, share, _ in calls) == size
    assert all(found == min(share, 5) for _, share, found in calls)
    products = queries @ rows.T
    np.testing.assert_allclose(scores, np.take_along_axis(products, positions, 1), 1e-5)
    for row, found in zip(np.argsort(-products, axis=1)[:, :5], positions, strict=True):
        assert set(row) <= set(found)


def test_knn_on_gpus_raises_what_a_gpu_raises(devices, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(faiss, "knn_gpu", broken, raising=False)
    rows = np.ones((30, 2), np.float32)
    with pytest.raises(RuntimeError, match="out of memory"):
        knn_on_gpus(rows[:1], rows, 5, devices[0])


def test_searches_side_by_side_take_turns_on_a_gpu(devices, monkeypatch):
    at_work, most = [0] * devices[0], []

    def knn_gpu(resources, queries, rows, k, metric, device):
        at_work[device] += 1
        time.sleep(0.002)
        most.append(at_work[device])
        at_work[device] -= 1
        return faiss.knn(queries, rows, k, metric=metric)

    monkeypatch.setattr(faiss, "knn_gpu", knn_gpu, raising=False)
    gallery = unit_rows(np.random.default_rng(0), 600, 8)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda row: search(gallery[row : row + 3], gallery, 5, block=100), range(4)))
    assert set(most) == {1}


def random_tags(seed, queries=7, votes=3, images=40, *, weighted=False):
    generator = np.random.default_rng(seed)
    voted = np.stack([generator.choice(12, votes, replace=False) for _ in range(queries)])
    voted[generator.random(voted.shape) < 0.3] = -1
    scores = generator.random((queries, votes)) * (voted >= 0)
    tags = generator.integers(-1, 12, images)
    weights = generator.normal(size=images) if weighted else None
    return TagScores(voted, scores, tags, weights)


def naive_term(term):
    table = np.zeros((len(term.voted), len(term.tags)))
    for query in range(len(term.voted)):
        for tag, score in zip(term.voted[query], term.scores[query], strict=True):
            for image in range(len(term.tags)):
                if tag == term.tags[image] and tag != -1:
                    weight = 1.0 if term.weights is None else term.weights[image]
                    table[query, image] += score * weight
    return table


def in_tiles(term, queries, images, step=11):
    tile, rows = np.zeros((images, len(queries)), np.float32), np.asarray(queries)
    add = term.tile_adder(rows)
    for start in range(0, images, step):
        add(tile[start : start + step], start)
    return tile.T


@pytest.mark.parametrize("seed", range(6))
def test_tag_scores_agrees_with_naive_reference(seed):
    term = random_tags(seed, weighted=seed % 2 == 1)
    expected = naive_term(term)
    every = term.at(np.arange(7)[:, None], np.arange(40)[None])
    np.testing.assert_allclose(every, expected, atol=1e-12)
    pairs = np.random.default_rng(seed).integers(0, 40, (7, 5))
    at = term.at(np.arange(7)[:, None], pairs)
    np.testing.assert_allclose(at, np.take_along_axis(expected, pairs, 1), atol=1e-12)
    np.testing.assert_allclose(in_tiles(term, range(7), 40), expected, atol=1e-6)
    np.testing.assert_allclose(in_tiles(term, [4, 2], 40), expected[[4, 2]], atol=1e-6)


def test_tag_scores_gives_nothing_without_votes_or_tags():
    for term in (
        TagScores(np.full((2, 3), -1), np.ones((2, 3)), np.array([-1, 5])),
        TagScores(np.empty((2, 0), int), np.empty((2, 0)), np.array([-1, 5])),
        TagScores(np.array([[7], [8]]), np.ones((2, 1)), np.array([-1, -1])),
    ):
        assert not term.at(np.arange(2)[:, None], np.arange(2)[None]).any()
        assert not in_tiles(term, range(2), 2).any()


def test_nearest_adds_all_terms_up(monkeypatch):
    monkeypatch.setattr(knn, "TILE_ENTRIES", 1_000)
    generator = np.random.default_rng(11)
    queries, gallery = unit_rows(generator, 7, 8), unit_rows(generator, 900, 8)
    terms = [random_tags(seed, images=900, weighted=seed == 2) for seed in range(3)]
    dense = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    dense += sum(naive_term(term) for term in terms)
    for k in (20, 400):  # from tiles, and in full
        expected = np.argsort(-dense, axis=1, kind="stable")[:, :k]
        scores, positions = nearest(queries, gallery, k, terms=terms)
        np.testing.assert_array_equal(positions, expected)
        np.testing.assert_allclose(scores, np.take_along_axis(dense, expected, 1), atol=1e-6)
