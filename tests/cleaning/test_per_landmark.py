"""Work on every landmark: every row arrives once, in order, whole and of unit length."""

import numpy as np
import pytest

import lib.cleaning.per_landmark
from lib.cleaning.per_landmark import NormalizedSubset, check_embeddings, map_landmarks, select_rows


def unit(generator: np.random.Generator, count: int, dimensions: int = 4) -> np.ndarray:
    rows = generator.standard_normal((count, dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def first_column(rows, sizes: np.ndarray) -> np.ndarray:
    assert len(rows) == sizes.sum()
    return rows[:][:, 0]


def groups_seen(rows, sizes: np.ndarray) -> np.ndarray:
    return np.stack([np.repeat(np.arange(len(sizes)), sizes), np.repeat(sizes, sizes)])


@pytest.fixture
def tiny_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib.cleaning.per_landmark, "TASK_ROWS", 16)
    monkeypatch.setattr(lib.cleaning.per_landmark, "WHOLE", 30)


@pytest.mark.usefixtures("tiny_tasks")
def test_map_landmarks_hands_out_every_row_once_and_groups_whole():
    generator = np.random.default_rng(0)
    for _ in range(50):
        groups = generator.integers(0, generator.integers(1, 20), generator.integers(1, 200))
        rows = unit(generator, len(groups))
        seen = []
        for at, (which, sizes) in map_landmarks(groups_seen, rows, groups):
            seen.extend(at.tolist())
            for number in np.unique(which):
                members = at[which == number]
                # then a group's rows come together, complete and in their given order
                assert members.tolist() == np.flatnonzero(groups == groups[members[0]]).tolist()
                assert (sizes[which == number] == len(members)).all()
        assert sorted(seen) == list(range(len(groups)))


@pytest.mark.usefixtures("tiny_tasks")
def test_map_landmarks_reads_the_rows_at_the_given_positions():
    generator = np.random.default_rng(1)
    rows, positions = unit(generator, 300), generator.permutation(300)[:120]
    groups = generator.integers(0, 5, 120)
    found = np.empty(120, dtype=np.float32)
    for at, values in map_landmarks(first_column, rows, groups, positions=positions):
        found[at] = values
    np.testing.assert_allclose(found, rows[positions, 0], atol=1e-6)


def test_map_landmarks_gives_the_same_from_a_memory_map(tmp_path):
    generator = np.random.default_rng(2)
    rows, groups = unit(generator, 100).astype(np.float16), generator.integers(0, 9, 100)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    expected = dict(_by_position(map_landmarks(first_column, rows, groups)))
    assert dict(_by_position(map_landmarks(first_column, mapped, groups, jobs=2))) == expected
    assert len(expected) == 100


def _by_position(results):
    return [pair for at, found in results for pair in zip(at.tolist(), found.tolist(), strict=True)]


@pytest.mark.usefixtures("tiny_tasks")
@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "NaN"), (0, "zero")])
@pytest.mark.parametrize("count", [5, 50])
def test_map_landmarks_names_the_row_that_cannot_be_used(value: float, what: str, count: int):
    rows = unit(np.random.default_rng(3), count)
    rows[3] = value
    with pytest.raises(ValueError, match=f"row 3 .*{what}"):
        list(map_landmarks(first_column, rows, np.zeros(count, dtype=int)))


@pytest.mark.usefixtures("tiny_tasks")
@pytest.mark.parametrize("count", [5, 50])
def test_map_landmarks_normalises_with_one_warning(count: int):
    rows = unit(np.random.default_rng(4), count)
    longer = rows.copy()
    longer[1:4] *= 3
    with pytest.warns(UserWarning, match=f"3 of {count} rows") as caught:
        found = _by_position(map_landmarks(first_column, longer, np.zeros(count, dtype=int)))
    assert len(caught) == 1
    for at, value in found:
        assert value == pytest.approx(rows[at, 0], abs=1e-6)


def flags_and_firsts(rows, sizes: np.ndarray, flags: np.ndarray) -> np.ndarray:
    return np.stack([flags, rows[:][:, 0]])


@pytest.mark.usefixtures("tiny_tasks")
def test_map_landmarks_hands_flags_beside_their_rows():
    generator = np.random.default_rng(5)
    for _ in range(20):
        groups = generator.integers(0, 8, int(generator.integers(1, 150)))
        positions = generator.integers(0, 90, len(groups))  # some rows several times
        rows, flags = unit(generator, 90), generator.random(len(groups))
        options = {"positions": positions, "flags": flags}
        for at, (beside, first) in map_landmarks(flags_and_firsts, rows, groups, **options):
            np.testing.assert_allclose(beside, flags[at], atol=1e-7)
            np.testing.assert_allclose(first, rows[positions[at], 0], atol=1e-6)


def test_map_landmarks_tells_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setenv("LANDMARK_HEADLESS", "1")
    monkeypatch.setattr(lib.cleaning.per_landmark, "TASK_ROWS", 16)
    monkeypatch.setattr("lib.artifacts.time.monotonic", iter(range(0, 10**6, 20)).__next__)
    rows, groups = unit(np.random.default_rng(6), 200), np.arange(200) // 10
    list(map_landmarks(first_column, rows, groups, jobs=1))
    assert not capsys.readouterr().out
    list(map_landmarks(first_column, rows, groups, what="cleaning", jobs=1))
    assert "cleaning: 2 of 13 (15%)" in capsys.readouterr().out


def test_chosen_rows_of_a_huge_group_stay_unread(monkeypatch):
    monkeypatch.setattr(lib.cleaning.per_landmark, "WHOLE", 10)
    rows = unit(np.random.default_rng(7), 60)
    lazy = NormalizedSubset(rows, np.arange(60)[::-1])
    few, many = np.array([3, 1, 59]), np.arange(0, 60, 2)
    np.testing.assert_allclose(select_rows(lazy, few), rows[::-1][few], atol=1e-6)
    later = select_rows(lazy, many)
    assert isinstance(later, NormalizedSubset)
    assert len(later) == 30
    np.testing.assert_allclose(later[5:9], rows[::-1][many][5:9], atol=1e-6)
    np.testing.assert_array_equal(select_rows(rows, many), rows[many])


def test_map_landmarks_of_nothing_yields_nothing():
    nothing = np.empty((0, 4), dtype=np.float32), np.empty(0, dtype=int)
    assert list(map_landmarks(first_column, *nothing)) == []


@pytest.mark.parametrize(
    ("embeddings", "groups", "what"),
    [
        (np.ones(3), np.zeros(3, int), "shape"),
        (np.ones((3, 0)), np.zeros(3, int), "shape"),
        (np.ones((3, 2), int), np.zeros(3, int), "floating-point embeddings, found int64"),
        (np.ones((3, 2)), np.zeros(4, int), "each of the 3 embeddings"),
        (np.ones((3, 2)), np.zeros((3, 1), int), "each of the 3 embeddings"),
        (np.ones((3, 2)), np.zeros(3), "integer landmark ids, found float64"),
    ],
)
def test_check_embeddings_refuses_what_does_not_fit(embeddings, groups, what: str):
    with pytest.raises(ValueError, match=what):
        check_embeddings(embeddings, groups)
