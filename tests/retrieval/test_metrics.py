import numpy as np
import pytest

from lib.data.tables import read_groups, read_ignored, read_solution, read_submission
from lib.retrieval.metrics import evaluate, mean_average_precision, per_query
from lib.retrieval.ranking import Ranking

SOLUTION_FILE = """id,images,Usage
p0,a b,Public
p1,c,Private
p2,d e f ,Private
i0,None,Ignored
"""


def naive_average_precision(ranked, relevant, k):
    """The sum of the metric's page, written out rank by rank."""
    total, seen = 0.0, []
    for rank in range(1, min(len(ranked), k) + 1):
        hit = ranked[rank - 1] in relevant and ranked[rank - 1] not in ranked[: rank - 1]
        if hit:
            seen.append(ranked[rank - 1])
            total += len(seen) / rank
    return total / min(len(relevant), k)


def random_case(generator):
    """Predictions with repeats, gaps and missing queries, and what is relevant."""
    names = [f"g{number}" for number in range(int(generator.integers(5, 150)))]
    queries = [f"q{number}" for number in range(int(generator.integers(1, 12)))]
    solution = {
        query: set(generator.choice(names, generator.integers(1, len(names) + 1), replace=False))
        for query in queries
    }
    predictions = {
        query: list(generator.choice(names, generator.integers(0, 140)))
        for query in queries
        if generator.random() < 0.8
    }
    return predictions, solution


@pytest.mark.parametrize("k", [1, 3, 100])
def test_average_precision_agrees_with_naive_reference(k):
    generator = np.random.default_rng(k)
    for _ in range(60):
        predictions, solution = random_case(generator)
        expected = [
            naive_average_precision(predictions.get(query, []), relevant, k)
            for query, relevant in solution.items()
        ]
        found = per_query(predictions, {"Public": solution, "Private": {}}, k=k)
        np.testing.assert_allclose(found[f"AP@{k}"], expected, rtol=1e-12)
        assert found["query"].tolist() == list(solution)
        assert found["usage"].unique().tolist() == ["Public"]
        assert found["relevant"].tolist() == [len(ids) for ids in solution.values()]
        assert f"P@{100 if k < 100 else 101}" not in found
        assert mean_average_precision(predictions, solution, k) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("ranked", "relevant", "k", "expected"),
    [
        (["a"], {"a"}, 100, 1.0),
        (["x", "a"], {"a"}, 100, 1 / 2),
        (["a", "x", "b"], {"a", "b"}, 100, (1 + 2 / 3) / 2),
        (["a", "a", "b"], {"a", "b"}, 100, (1 + 2 / 3) / 2),  # the repeat keeps its rank
        (["x", "x", "a"], {"a"}, 100, 1 / 3),
        (["a"], {"a", "b", "c", "d"}, 100, 1 / 4),  # what is not found counts
        (["a"], {"a", "b", "c", "d"}, 2, 1 / 2),  # but no more than k of it
        (["x", "a"], {"a"}, 1, 0.0),
        ([], {"a"}, 100, 0.0),
    ],
)
def test_mean_average_precision_by_hand(ranked, relevant, k, expected):
    assert mean_average_precision({"q": ranked}, {"q": relevant}, k) == pytest.approx(expected)


def test_mean_average_precision_counts_missing_queries_as_zero():
    solution = {"q": {"a"}, "r": {"b"}, "s": {"c"}}
    assert mean_average_precision({"q": ["a"]}, solution) == pytest.approx(1 / 3)
    assert mean_average_precision({}, solution) == 0.0


def test_mean_average_precision_is_one_only_for_a_perfect_ranking():
    relevant = {f"g{number}" for number in range(130)}
    perfect = sorted(relevant)[:100]
    assert mean_average_precision({"q": perfect}, {"q": relevant}) == pytest.approx(1.0)
    assert mean_average_precision({"q": perfect[:-1]}, {"q": relevant}) == pytest.approx(0.99)


def test_metrics_read_a_ranking():
    ranking = Ranking([[0.9, 0.8]], [[1, 0]], ["q"], ["a", "b"])
    solution = {"q": {"a"}}
    assert mean_average_precision(ranking, solution) == 0.5
    assert per_query(ranking, {"Public": solution}).iloc[0, 3:].to_dict() == {
        "AP@2": 0.5,
        "P@1": 0.0,
        "first hit": 2,
    }


def test_precisions_keep_their_denominator_and_ignore_repeats():
    predictions = {"q": ["a", "a", "b"], "r": []}
    solution = {"q": {"a", "b"}, "r": {"c"}}
    found = per_query(predictions, {"Public": solution})
    assert found[["P@1", "P@5", "P@10"]].to_numpy().tolist() == [[1.0, 0.4, 0.2], [0.0, 0.0, 0.0]]


def test_first_hits_are_from_one_and_101_without_any():
    predictions = {"q": ["a"], "r": ["x"] * 99 + ["b"], "s": ["x"] * 100 + ["c"]}
    solution = {"q": {"a"}, "r": {"b"}, "s": {"c"}, "t": {"d"}}
    assert per_query(predictions, {"Public": solution})["first hit"].tolist() == [1, 100, 101, 101]
    found = evaluate(predictions, {"Public": solution}).iloc[0]
    assert (found["mean first hit"], found["median first hit"]) == (75.75, 100.5)


@pytest.mark.parametrize(
    ("predictions", "solution", "message"),
    [
        ({"q": ["a"], "z": ["a"]}, {"q": {"a"}}, "1 others, the first 'z'"),
        ({"q": ["a"]}, {"q": set()}, "relevant ids for query 'q', found none"),
        ({}, {}, "at least one query"),
        ({"q": "a b"}, {"q": {"a"}}, "one string"),
        ({"q": ["a"]}, {"q": "a b"}, "one string"),
    ],
)
def test_mean_average_precision_refuses_bad_input(predictions, solution, message):
    with pytest.raises(ValueError, match=message):
        mean_average_precision(predictions, solution)


def test_metrics_refuse_k_below_one():
    with pytest.raises(ValueError, match="at least 1, found 0"):
        mean_average_precision({"q": ["a"]}, {"q": {"a"}}, 0)
    with pytest.raises(ValueError, match="at least 1, found -1"):
        per_query({"q": ["a"]}, {"Public": {"q": {"a"}}}, k=-1)


def test_read_solution_splits_by_usage_and_drops_ignored(tmp_path):
    path = tmp_path / "solution.csv"
    path.write_text(SOLUTION_FILE)
    assert read_solution(path) == {
        "Public": {"p0": {"a", "b"}},
        "Private": {"p1": {"c"}, "p2": {"d", "e", "f"}},
    }
    assert read_ignored(path) == {"i0"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,images\nq,a\n", "columns id,images,Usage, found id,images;"),
        ("", "is empty"),
        ("id,images,Usage\nq,a,Secret\n", "data row 1: .*found Usage 'Secret'"),
        ("id,images,Usage\nq,a,Public\nq,b,Public\n", "data row 2: .*once, found id 'q'"),
        ("id,images,Usage\nq, ,Public\n", "data row 1: expected relevant images"),
    ],
)
def test_read_solution_refuses_what_it_does_not_know(tmp_path, text, message):
    path = tmp_path / "solution.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_solution(path)


def test_read_submission_tolerates_blanks_and_empty_predictions(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("id,images\nq,a b \n\nr,\n ,\ns,c\n")
    assert read_submission(path) == {"q": ["a", "b"], "r": [], "s": ["c"]}


def test_read_submission_refuses_a_query_twice_and_another_header(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("id,images\nq,a\nq,b\n")
    with pytest.raises(ValueError, match=r"data row 2: .*once, found id 'q'"):
        read_submission(path)
    path.write_text("id,landmarks\nq,a\n")
    with pytest.raises(ValueError, match="columns id,images"):
        read_submission(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("q,x,a,b", "expected a CSV table, .*, write spaces"),
        ('q,"x,a,b"', "data row 1: expected image ids alone.* found images 'x,a,b'"),
        ("q,a.jpg b.jpg", "data row 1: .* found images 'a.jpg'"),
        ("q,0/1/a b", "data row 1: .* found images '0/1/a'"),
        ("q,\"['a', 'b']\"", r"data row 1: .* found images \"\['a',\""),
        ("q.jpg,a", "data row 1: .* found id 'q.jpg'"),
        ("q r,a", "data row 1: expected the id of a query, found id 'q r'"),
        ("q,a\0b", "data row 1"),
    ],
)
def test_read_submission_refuses_what_is_no_list_of_ids(tmp_path, row, message):
    path = tmp_path / "submission.csv"
    path.write_text(f"id,images\n{row}\n")
    with pytest.raises(ValueError, match=rf"submission\.csv(, |: .*){message}"):
        read_submission(path)


def test_read_submission_reads_rows_of_any_length_and_spelling(tmp_path):
    path = tmp_path / "submission.csv"
    ids = [f"{number:016x}" for number in range(9000)]
    path.write_text(f'\ufeff"id","images"\r\n"0012","{" ".join(ids)}"\r\n', encoding="utf-8")
    assert read_submission(path) == {"0012": ids}


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0 JFIF", b"id,images\nq,\xff\n", b"\0" * 50])
@pytest.mark.parametrize("read", [read_submission, read_solution, read_groups])
def test_readers_name_a_file_that_is_no_table(tmp_path, content, read):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.jpg: expected "):
        read(path)


def test_evaluate_scores_each_usage_on_its_own_queries():
    solutions = {"Public": {"p0": {"a"}}, "Private": {"p1": {"c"}, "p2": {"d"}}, "Other": {}}
    predictions = {"p0": ["a"], "p1": ["x", "c"], "i0": ["a"]}
    table = evaluate(predictions, solutions, ignored={"i0"})
    assert table.index.tolist() == ["Public", "Private"]
    assert table["queries"].tolist() == [1, 2]
    assert table["mAP@100"].tolist() == [1.0, 0.25]
    assert table["P@1"].tolist() == [1.0, 0.0]
    assert table["median first hit"].tolist() == [1.0, 51.5]
    with pytest.raises(ValueError, match="'i0'"):
        evaluate(predictions, solutions)


def test_evaluate_scores_each_group_on_its_own_queries():
    solutions = {"Public": {"p0": {"a"}, "p1": {"b"}}, "Private": {"p2": {"c"}, "p3": {"d"}}}
    predictions = {"p0": ["a"], "p1": ["x", "b"], "p2": ["c"]}
    table = evaluate(predictions, solutions, groups={"p0": "Asia", "p1": "Asia", "p2": "Africa"})
    assert table.index.tolist() == [("Private", ""), ("Private", "Africa"), ("Public", "Asia")]
    assert table["mAP@100"].tolist() == [0.0, 1.0, 0.75]
    assert table["queries"].tolist() == [1, 1, 2]


def test_evaluate_of_no_queries_is_an_empty_table():
    assert evaluate({}, {"Public": {}, "Private": {}}).empty
    assert evaluate({}, {}, groups={}).empty
