import zipfile

import numpy as np
import pandas as pd
import pytest

from lib.retrieval.ranking import Ranking


def two_queries() -> Ranking:
    return Ranking(
        scores=[[0.9, 0.5, 0.5], [0.3, 0.2, -0.1]],
        positions=[[3, 0, 1], [1, 2, 3]],
        query_ids=["q0", "q1"],
        gallery_ids=["a", "b", "c", "d"],
    )


def test_ranking_translates_positions_into_ids():
    ranking = two_queries()
    assert ranking.predictions() == {"q0": ["d", "a", "b"], "q1": ["b", "c", "d"]}
    assert all(type(found) is str for found in ranking.predictions()["q0"])


def test_ranking_has_float32_scores_and_int64_positions():
    ranking = two_queries()
    assert (ranking.scores.dtype, ranking.positions.dtype) == (np.float32, np.int64)
    assert (len(ranking), ranking.k) == (2, 3)


def test_ranking_is_read_only_and_apart_from_what_made_it():
    scores, positions = np.array([[0.5, 0.4]], dtype=np.float32), np.array([[1, 0]])
    ranking = Ranking(scores, positions, ["q"], np.array(["a", "b"]))
    scores[0, 0] = 9.0
    positions[0, 0] = 0
    assert ranking.scores[0, 0] == 0.5
    assert ranking.positions[0, 0] == 1
    for array in (ranking.scores, ranking.positions, ranking.query_ids, ranking.gallery_ids):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = array
    with pytest.raises(AttributeError):
        ranking.scores = scores


def test_top_keeps_the_best_and_all_when_k_is_large():
    ranking = two_queries()
    assert ranking.top(2).positions.tolist() == [[3, 0], [1, 2]]
    assert ranking.top(2).predictions() == {"q0": ["d", "a"], "q1": ["b", "c"]}
    assert ranking.top(99).positions.tolist() == ranking.positions.tolist()
    with pytest.raises(ValueError, match="at least 1"):
        ranking.top(0)


def test_of_tabulates_one_query():
    table = two_queries().of("q1")
    assert table["id"].tolist() == ["b", "c", "d"]
    assert table["position"].tolist() == [1, 2, 3]
    assert table["score"].tolist() == pytest.approx([0.3, 0.2, -0.1])
    assert table.index.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="'q9'"):
        two_queries().of("q9")


def test_of_takes_row_numbers_without_ids():
    ranking = Ranking([[0.5], [0.4]], [[0], [7]])
    assert ranking.of(1)["position"].tolist() == [7]
    assert "id" not in ranking.of(1)
    for missing in (2, -1, "q0"):
        with pytest.raises(ValueError, match="expected one of the 2 ranked queries"):
            ranking.of(missing)


def test_predictions_want_ids():
    with pytest.raises(ValueError, match="gallery ids"):
        Ranking([[0.5]], [[0]], query_ids=["q"]).predictions()
    with pytest.raises(ValueError, match="query ids"):
        Ranking([[0.5]], [[0]], gallery_ids=["a"]).predictions()


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_ranking_may_be_empty(shape):
    names = [f"q{row}" for row in range(shape[0])]
    ranking = Ranking(
        np.zeros(shape),
        np.tile(np.arange(shape[1]), (shape[0], 1)),
        names,
        ["a"] * 0 if shape[1] == 0 else ["a", "b", "c"],
    )
    assert ranking.predictions() == {name: [] for name in names}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(scores=[[0.9, 0.5, 0.5]]), "one shape"),
        (dict(scores=[0.9], positions=[0]), "one shape"),
        (dict(scores=[[0.9, 0.5, 0.6], [0.3, 0.2, 0.1]]), "best first.* row 0"),
        (dict(scores=[[0.9, 0.5, 0.1], [0.3, np.nan, 0.1]]), "NaN.* row 1"),
        (dict(scores=[[np.inf, 0.5, 0.1], [0.3, 0.2, 0.1]]), "infinity in row 0"),
        (dict(positions=[[3, 0, 3], [1, 2, 3]]), "one twice in row 0"),
        (dict(positions=[[3, 0, 1], [1, 2, -1]]), "negative one in row 1"),
        (dict(positions=[[3, 0, 1], [1, 2, 4]]), "below the 4 gallery ids, found 4"),
        (dict(positions=[[3.0, 0.0, 1.0], [1.0, 2.0, 3.0]]), "integer positions"),
        (dict(query_ids=["q0"]), "one query id per row, found 1 ids for 2 rows"),
        (dict(query_ids=["q0", "q0"]), "'q0' twice"),
        (dict(gallery_ids=["a", "b", "b", "d"]), "'b' twice"),
        (dict(gallery_ids=["a", None, "c", "d"]), "none at row 1"),
        (dict(query_ids=[["q0", "q1"]] * 2), "flat list"),
    ],
)
def test_ranking_refuses_what_contradicts_itself(changes, message):
    good = two_queries()
    parts = dict(
        scores=good.scores,
        positions=good.positions,
        query_ids=good.query_ids,
        gallery_ids=good.gallery_ids,
    )
    with pytest.raises(ValueError, match=message):
        Ranking(**(parts | changes))


def test_ranking_reads_ids_of_a_table():
    table = pd.DataFrame({"id": ["b", "a"]}, index=[7, 3])
    assert Ranking([[0.5]], [[1]], ["q"], table["id"]).predictions() == {"q": ["a"]}


def test_replace_keeps_the_ids_and_checks_as_ever():
    ranking = two_queries()
    other = ranking.replace([[0.9], [0.1]], [[2], [0]])
    assert other.predictions() == {"q0": ["c"], "q1": ["a"]}
    with pytest.raises(ValueError, match="scores best first"):
        ranking.replace([[0.1, 0.9]] * 2, [[2, 1]] * 2)


@pytest.mark.parametrize("ids", [{}, {"query_ids": ["q"], "gallery_ids": ["ä", "b", "0012"]}])
def test_load_gives_what_save_wrote(tmp_path, ids):
    ranking = Ranking([[0.9, 0.1]], [[2, 0]], **ids)
    path = ranking.save(tmp_path / "new" / "ranking.npz")
    again = Ranking.load(path)
    for name in ("scores", "positions", "query_ids", "gallery_ids"):
        np.testing.assert_array_equal(getattr(again, name), getattr(ranking, name))
    assert [file.name for file in path.parent.iterdir()] == ["ranking.npz"]


def test_load_refuses_other_files(tmp_path):
    (tmp_path / "text.npz").write_text("id,images\n")
    np.savez(tmp_path / "other.npz", rows=np.eye(2))
    np.savez(tmp_path / "wrong.npz", scores=[[0.1, 0.9]], positions=[[0, 1]])
    for name in ("text", "other"):
        with pytest.raises(ValueError, match=rf"expected a ranking in .*{name}.npz, found"):
            Ranking.load(tmp_path / f"{name}.npz")
    with pytest.raises(ValueError, match=r"in .*wrong\.npz, .*expected scores best first"):
        Ranking.load(tmp_path / "wrong.npz")
    with pytest.raises(FileNotFoundError):
        Ranking.load(tmp_path / "missing.npz")


@pytest.mark.parametrize("content", [b"", b"cut", b"flipped", b"PK\x03\x04" + b"\xff" * 90])
def test_load_names_a_damaged_file(tmp_path, content):
    path = Ranking([[0.9, 0.1]] * 50, [[2, 0]] * 50).save(tmp_path / "ranking.npz")
    whole = path.read_bytes()
    changed = {b"cut": whole[: len(whole) // 2], b"flipped": whole[:200] + b"\xff" * 200}
    path.write_bytes(changed.get(content, content))
    with pytest.raises(ValueError, match=r"expected a ranking in .*ranking\.npz, found"):
        Ranking.load(path)


@pytest.mark.parametrize("shape", ["(999999999999999, 2)", "(-1, 2)", "(2,", "(1, 2, 3)"])
def test_load_refuses_a_header_that_lies(tmp_path, shape):
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    array = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(8)
    with zipfile.ZipFile(tmp_path / "ranking.npz", "w") as file:
        file.writestr("scores.npy", array)
        file.writestr("positions.npy", array)
    with pytest.raises(ValueError, match=r"expected a ranking in .*ranking\.npz, found"):
        Ranking.load(tmp_path / "ranking.npz")
