import pytest

from lib.plots.reranking import vote_breakdown
from lib.plots.sheets import RIGHT, WRONG
from lib.reranking import explain, query_votes
from tests.numbered import NumberedSource, shown
from tests.retrieval_data import small_data, small_evaluation


@pytest.fixture(scope="module")
def evaluation():
    return small_evaluation()


@pytest.fixture(scope="module")
def data(evaluation):
    return small_data(evaluation)


def strip(data, evaluation, query="q4", *, names=None, columns=6, alpha=0.5, beta=0.2):
    weights = {"alpha": alpha, "beta": beta}
    source = NumberedSource()
    found = vote_breakdown(source, evaluation, data, query, **weights, names=names, columns=columns)
    return found, explain(data, query, **weights).head(columns)


def test_strip_shows_the_query_and_its_results_in_order(data, evaluation):
    found, sums = strip(data, evaluation)
    paths = evaluation.gallery.set_index("id")["path"]
    assert shown(found.images, list(paths)) == paths[sums["id"]].tolist()
    assert shown([found.query], ["test/q4.jpg", "test/q5.jpg"]) == ["test/q4.jpg"]
    for name in ("raw", "landmark", "country", "final", "moved"):
        assert found.sums[name].tolist() == sums[name].tolist()


def test_strip_frames_right_and_wrong_and_counts(data, evaluation):
    found, sums = strip(data, evaluation, alpha=0.0, beta=0.0)
    usage = evaluation.queries.set_index("id")["usage"]["q4"]
    answers = evaluation.solution[usage]["q4"]
    right = [image in answers for image in sums["id"]]
    assert found.colours == [RIGHT if is_right else WRONG for is_right in right]
    assert f"{sum(right)} of the first 6 right" in found.title
    assert found.title.startswith("α = 0, β = 0")


def test_strip_names_the_voters(data, evaluation):
    votes = query_votes(data).of(data.plain.row("q4"))
    found, _ = strip(data, evaluation, names={0: "Old Gate", 1: "", 2: "A" * 40})
    assert len(found.voters) == 3
    for line, voter in zip(found.voters, votes.itertuples(), strict=True):
        expected = {0: "Old Gate", 1: "landmark 1", 2: "A" * 25 + "…"}[voter.landmark]
        assert line == f"{voter.similarity:.2f}  {expected} · {voter.country}"
    plain, _ = strip(data, evaluation)
    assert all("  landmark " in line for line in plain.voters)


def test_strip_refuses_a_query_that_is_not_ranked(data, evaluation):
    with pytest.raises(ValueError, match="one of the 30 ranked queries, found 'nobody'"):
        strip(data, evaluation, "nobody")
