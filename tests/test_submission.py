import re

import numpy as np
import pandas as pd
import pytest

from lib.metrics import mean_average_precision, read_submission
from lib.ranking import Ranking
from lib.ranking_file import write_ranking
from lib.search import search
from lib.submission import check_submission, main, write_submission
from tests.folders import write_folder
from tests.winners import unit_rows

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
    with pytest.raises(ValueError, match=r"line 4: .*found q0 again"):
        check_submission(path, QUERIES, GALLERY, k=2)


def test_main_checks_a_file_against_a_dataset_folder(tmp_path, capsys):
    pd.DataFrame({"id": ["q00", "q01"]}).to_csv(tmp_path / "test.csv", index=False)
    pd.DataFrame({"id": ["aaa", "bbb"]}).to_csv(tmp_path / "index.csv", index=False)
    path = tmp_path / "submission.csv"
    path.write_text("id,images\nq01,bbb aaa\nq00,aaa bbb\n")
    main(["check", str(path), str(tmp_path)])
    assert "2 rows are right" in capsys.readouterr().out
    path.write_text("id,images\nq01,bbb aaa\n")
    with pytest.raises(SystemExit, match=r"error: .*the first 'q00'"):
        main(["check", str(path), str(tmp_path)])


@pytest.fixture
def folders(tmp_path, dataset):
    generator = np.random.default_rng(1)
    ids = {"query": dataset.test, "gallery": dataset.index["id"], "train": dataset.train["id"]}
    for name, own in ids.items():
        write_folder(tmp_path / name, own.tolist(), unit_rows(generator, len(own), 6))
    return tmp_path


def test_main_writes_a_submission_from_embedding_folders(folders, dataset, capsys):
    path = folders / "new" / "submission.csv"
    parts = ["--query", str(folders / "query"), "--gallery", str(folders / "gallery")]
    main(["write", str(path), *parts, "--data", str(dataset.root)])
    assert f"{len(dataset.test)} rows of {len(dataset.index)} ids" in capsys.readouterr().out
    main(["check", str(path), str(dataset.root)])
    plain = read_submission(path)
    more = ["--references", str(folders / "train"), "--alpha", "3", "-k", "5"]
    main(["write", str(path), *parts, *more, "--data", str(dataset.root)])
    main(["check", str(path), str(dataset.root), "-k", "5"])
    reranked = read_submission(path)
    assert list(reranked) == list(plain) == dataset.test.tolist()
    assert any(reranked[query] != plain[query][:5] for query in plain)


def test_main_writes_a_submission_from_a_ranking_file(folders, dataset):
    ids = {"query_ids": ["q00", "q01"], "gallery_ids": ["aaa", "bbb", "ccc"]}
    ranking = Ranking([[0.9, 0.8], [0.5, 0.1]], [[2, 0], [1, 2]], **ids)
    file = write_ranking(ranking, folders / "ranking.npz")
    path = folders / "submission.csv"
    main(["write", str(path), "--ranking", str(file), "-k", "2"])
    assert path.read_text() == "id,images\nq00,ccc aaa\nq01,bbb ccc\n"
    with pytest.raises(SystemExit, match=r"row 1: expected one of the .* queries, found 'q00'"):
        main(["write", str(path), "--ranking", str(file), "--data", str(dataset.root), "-k", "2"])
    with pytest.raises(SystemExit, match="expected k of at least 1, found 0"):
        main(["write", str(path), "--ranking", str(file), "-k", "0"])
    assert path.read_text().startswith("id,images\nq00,ccc")


@pytest.mark.parametrize("data", ["nowhere", "empty"])
def test_main_names_a_folder_that_has_no_dataset(tmp_path, data):
    (tmp_path / "empty").mkdir()
    (tmp_path / "submission.csv").write_text("id,images\nq,a\n")
    with pytest.raises(SystemExit, match=rf"error: expected .* {tmp_path / data}[,;]"):
        main(["check", str(tmp_path / "submission.csv"), str(tmp_path / data)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either --ranking, or --query and --gallery, found neither"),
        (["--ranking", "x.npz", "--query", "y"], "found both"),
        (["--query", "y"], "found one of them"),
        (["--query", "nowhere", "--gallery", "nowhere"], "finished embeddings in nowhere"),
        (["--ranking", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_main_says_what_it_needs_to_write(tmp_path, options, message):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        main(["write", str(tmp_path / "submission.csv"), *options])
    assert not list(tmp_path.iterdir())


def test_main_refuses_a_ranking_without_ids(tmp_path):
    file = write_ranking(Ranking([[0.9]], [[0]]), tmp_path / "ranking.npz")
    with pytest.raises(SystemExit, match="error: expected a ranking with ids, found none"):
        main(["write", str(tmp_path / "submission.csv"), "--ranking", str(file)])
