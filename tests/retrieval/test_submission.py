import re

import numpy as np
import pandas as pd
import pytest

from lib.data.tables import read_submission
from lib.retrieval.knn import search
from lib.retrieval.metrics import mean_average_precision
from lib.retrieval.ranking import Ranking
from lib.retrieval.submission import check_submission, write_submission

QUERIES = ["q0", "q1", "q2"]
GALLERY = ["a", "b", "c", "d"]
GOOD = {"q1": ["d", "c"], "q0": ["a", "b"], "q2": ["b", "d"]}


def write(predictions, path, **more):
    return write_submission(
        predictions, path, **({"query_ids": QUERIES, "gallery_ids": GALLERY, "k": 2} | more)
    )


def test_write_submission_writes_one_row_per_query_in_their_order(tmp_path):
    path = write(GOOD, tmp_path / "new" / "submission.csv")
    assert path.read_text() == "id,images\nq0,a b\nq1,d c\nq2,b d\n"
    assert [file.name for file in path.parent.iterdir()] == ["submission.csv"]


def test_write_submission_keeps_the_order_of_the_sample(tmp_path):
    path = write(GOOD, tmp_path / "submission.csv", sample=pd.Series(["q2", "q0", "q1"]))
    assert pd.read_csv(path)["id"].tolist() == ["q2", "q0", "q1"]


def test_write_submission_of_a_search_is_read_back_and_scored_the_same(tmp_path):
    generator = np.random.default_rng(0)
    queries = [f"q{i}" for i in range(7)]
    gallery = [f"g{i}" for i in range(130)]
    ranking = search(
        generator.standard_normal((7, 5)),
        generator.standard_normal((130, 5)),
        100,
        query_ids=queries,
        gallery_ids=gallery,
    )
    path = write_submission(
        ranking, tmp_path / "submission.csv", query_ids=queries, gallery_ids=gallery
    )
    solution = {query: {gallery[i]} for i, query in enumerate(queries)}
    found = check_submission(path, queries, gallery)
    assert found == ranking.predictions()
    assert mean_average_precision(found, solution) == mean_average_precision(ranking, solution)


def test_write_submission_of_a_small_gallery_has_all_of_it(tmp_path):
    ranking = Ranking([[0.5, 0.4]], [[1, 0]], ["q"], ["a", "b"])
    path = write_submission(
        ranking, tmp_path / "submission.csv", query_ids=["q"], gallery_ids=["a", "b"]
    )
    assert read_submission(path) == {"q": ["b", "a"]}


def test_write_submission_of_a_ranking_has_its_best_hundred_at_most(tmp_path):
    gallery = [f"g{i}" for i in range(150)]
    ranking = Ranking(-np.arange(150.0)[None], np.arange(150)[None], ["q"], gallery)
    path = tmp_path / "submission.csv"
    for found, count in ((ranking, 100), (ranking.top(10), 10)):
        write_submission(found, path, query_ids=["q"], gallery_ids=gallery)
        assert read_submission(path) == {"q": gallery[:count]}


def test_write_submission_keeps_ids_that_look_like_something_else(tmp_path):
    # As numbers these would lose zeros or digits; "NA" would become a missing value.
    queries, gallery = ["0000000000000012", "NA", "1e5"], ["00", "nan"]
    predictions = {query: ["nan", "00"] for query in queries}
    path = write_submission(
        predictions, tmp_path / "submission.csv", query_ids=queries, gallery_ids=gallery
    )
    assert read_submission(path) == predictions


def test_write_submission_without_queries_has_the_header_only(tmp_path):
    path = write({}, tmp_path / "submission.csv", query_ids=[])
    assert path.read_text() == "id,images\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q1": ["a"]}, "row 1, query 'q1': expected 2 ids, found 1;"),
        ({"q0": ["a", "b", "c"]}, "row 2, query 'q0': expected 2 ids, found 3;"),
        ({"q2": ["b", "z"]}, "row 3, query 'q2': expected ids of the gallery, found 'z'"),
        ({"q2": ["b", "b"]}, "row 3, query 'q2': expected distinct ids, found 'b' twice"),
        ({"q0": "a b"}, "row 2, query 'q0': expected a list of ids, found one string"),
        ({"q9": ["a", "b"]}, "row 4: expected one of the 3 queries, found 'q9'"),
    ],
)
def test_submissions_with_a_bad_row_are_refused_and_the_row_is_named(tmp_path, changes, message):
    path = tmp_path / "submission.csv"
    path.write_text("what was there before")
    with pytest.raises(ValueError, match=re.escape(message)):
        write(GOOD | changes, path)
    assert path.read_text() == "what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_write_submission_refuses_missing_queries(tmp_path):
    with pytest.raises(ValueError, match="each of the 3 queries, found none for 1, the first 'q2'"):
        write({"q0": ["a", "b"], "q1": ["a", "b"]}, tmp_path / "submission.csv")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (dict(sample=["q0", "q1"]), "1 in one of the two only, such as 'q2'"),
        (dict(sample=["q0", "q0", "q1"]), "distinct sample ids, found 'q0' twice"),
        (dict(query_ids=["q0", "q0", "q1"]), "distinct query ids"),
        (dict(gallery_ids=["a", "a", "b"]), "distinct gallery ids"),
        (dict(k=0), "at least 1, found 0"),
    ],
)
def test_write_submission_refuses_ids_that_do_not_fit(tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        write(GOOD, tmp_path / "submission.csv", **more)
    assert not list(tmp_path.iterdir())


def test_check_submission_finds_what_an_editor_broke(tmp_path):
    path = write(GOOD, tmp_path / "submission.csv")
    check_submission(path, QUERIES, GALLERY, k=2)
    path.write_text(path.read_text().replace("d c", "d"))
    with pytest.raises(ValueError, match="row 2, query 'q1': expected 2 ids, found 1"):
        check_submission(path, QUERIES, GALLERY, k=2)
    path.write_text("id,images\nq0,a b\nq1,a b\nq0,c d\n")
    with pytest.raises(ValueError, match=r"data row 3: .*once, found id 'q0'"):
        check_submission(path, QUERIES, GALLERY, k=2)
