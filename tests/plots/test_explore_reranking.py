"""The strip follows the query and the weights, by function call and by slider."""

import pytest

from lib.plots.explorers import RerankingExplorer as Explorer
from lib.plots.explorers import widget
from lib.reranking.landmark_country import landmark_country_rerank
from tests.figures import check_picture
from tests.numbered import NumberedSource
from tests.retrieval_data import small_data, small_evaluation


@pytest.fixture(scope="module")
def explorer():
    evaluation = small_evaluation()
    names = {0: "Old Gate"}
    voting = {"top": 2}
    data = small_data(evaluation)
    return Explorer(NumberedSource(), evaluation, data, voting, names, columns=5)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.5, 0.1), (2.0, 1.0)])
def test_explorer_ranks_one_query_as_all_of_them_are_ranked(explorer, alpha, beta):
    every = landmark_country_rerank(explorer.data, alpha=alpha, beta=beta, top=2)
    for query in ("q0", "q17"):
        sums = explorer.strip(query, alpha, beta).sums
        row = explorer.data.plain.row(query)
        assert sums["final"].tolist() == pytest.approx(every.scores[row, :5].tolist())


def test_explorer_draws_one_strip_or_several(explorer):
    check_picture(explorer.figure("q3", 0.5, 0.1))
    still = explorer.still("q3", [(0, 0), (1, 0), (1, 0.2)])
    check_picture(still)
    assert len(still.axes[0].images) == 3 * (1 + 5)
    assert explorer.png("q3", 0.5, 0.1).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="one of the 30 ranked queries, found 'nobody'"):
        explorer.figure("nobody", 0.5, 0.1)


def test_widget_follows_its_menu_and_sliders_at_once(explorer):
    box = widget(explorer, ["q3", "q7"], alpha=0.5, beta=0.1)
    controls, picture = box.children
    menu, alpha, beta = controls.children
    assert (menu.value, alpha.value, beta.value) == ("q3", 0.5, 0.1)
    assert bytes(picture.value) == explorer.png("q3", 0.5, 0.1)
    alpha.value = 1.5
    assert bytes(picture.value) == explorer.png("q3", 1.5, 0.1)
    beta.value = 0.0
    menu.value = "q7"
    assert bytes(picture.value) == explorer.png("q7", 1.5, 0.0)


def test_widget_needs_a_query(explorer):
    with pytest.raises(ValueError, match="queries to choose from, found none"):
        widget(explorer, [])
