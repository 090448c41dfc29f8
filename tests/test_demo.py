"""The page of `run_all.sh demo` without a browser: what it ranks, tells and refuses."""

import sys

import numpy as np
import pytest
import torch

from lib import artifacts, models, reranking, retrieval
from lib.artifacts import KEPT, VOTING
from lib.config import InferenceConfig
from lib.data import country_name, training_list
from lib.demo import SHOWN, Demo, build_page, main
from lib.reranking import landmark_country_rerank, query_votes, read_retrieval_data

SMALL = InferenceConfig(size=32)
VOTED = {"top": 4, "normalise": False, "reciprocal": False}


@pytest.fixture(scope="module")
def labelled(dataset):
    return training_list(dataset, "full")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model, stripes, evaluation, labelled):
    """A run folder with one untrained network, its gallery and its references."""
    folder = tmp_path_factory.mktemp("outputs") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.build_model(tiny_model)
    checkpoint = models.save(folder / "arcface" / "model.safetensors", model)
    artifacts.mark_complete(checkpoint.parent, "key")
    embeddings = checkpoint.parent / "embeddings"
    retrieval.embed_and_search(checkpoint, evaluation, stripes, embeddings, SMALL)
    retrieval.embed(checkpoint, labelled, stripes, embeddings / "references", SMALL)
    artifacts.write_json({"arcface": "arcface"}, folder / KEPT)
    artifacts.write_json({"alpha": 0.25, "beta": 0.1, **VOTED}, folder / VOTING)
    return folder


@pytest.fixture(scope="module")
def demo(run):
    return Demo(run)


@pytest.fixture(scope="module")
def photo(stripes, evaluation):
    return stripes / evaluation.queries["path"].iloc[0]


def test_demo_starts_with_what_notebook_06_chose(demo):
    assert (demo.alpha, demo.beta) == (0.25, 0.1)
    assert demo.voting == VOTED


def test_answer_is_the_ranking_of_the_whole_chain(demo, run, photo, labelled):
    folder = run / "arcface" / "embeddings"
    whole = read_retrieval_data(folder, labelled, k=100)
    found = demo.answer(demo.ask(photo), 0.5, 0.2)
    for table, ranking, scores in (
        (found.before, whole.plain, "score"),
        (found.after, landmark_country_rerank(whole, alpha=0.5, beta=0.2, **VOTED), "final"),
    ):
        expected = ranking.of(whole.query_ids[0]).head(SHOWN)
        assert len(table) == len(expected) > 0
        np.testing.assert_allclose(table[scores], expected["score"], atol=5e-3)
    voters = query_votes(whole, **VOTED).of(0)
    np.testing.assert_allclose(found.voters["similarity"], voters["similarity"], atol=5e-3)
    assert len(found.voters) == 4


def test_answer_adds_up_the_votes(demo, photo):
    found = demo.answer(demo.ask(photo), 0.5, 0.2)
    for kind, weight in (("landmark", 0.5), ("country", 0.2)):
        votes = found.votes[found.votes["kind"] == kind].set_index("name")
        expected = found.voters.groupby(kind)["similarity"].sum()
        np.testing.assert_allclose(votes["share"][expected.index], expected, rtol=1e-5)
        np.testing.assert_allclose(votes["adds"], weight * votes["share"])


def test_answer_names_landmarks_and_countries(demo, photo, dataset):
    found = demo.answer(demo.ask(photo), 0.5, 0.2)
    categories = dataset.landmarks["category"].str.replace("_", " ")
    assert set(found.voters["landmark"]) <= set(categories)
    known = {country_name(code) for code in dataset.landmarks["country"]} | {"country unknown"}
    assert set(found.voters["country"]) <= known


def test_ask_takes_the_tags_of_the_gallery_that_are_known(demo, photo):
    assert reranking.tag_gallery(demo.ask(photo)) is reranking.tag_gallery(demo.data)


def test_show_has_a_picture_for_every_result_and_escapes_names(demo, photo, monkeypatch):
    assert demo.show(None, 0.5, 0.1) == ""
    monkeypatch.setattr(demo, "names", {name: "<b>&" for name in demo.names})
    page = demo.show(demo.ask(photo), 0.5, 0.1)
    assert page.count('<img src="data:image/jpeg;base64,') == 2 * SHOWN + 4
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page


@pytest.mark.parametrize("missing", ["arcface/embeddings/references", VOTING])
def test_demo_needs_references_and_how_they_vote(run, tmp_path, missing):
    lonely = tmp_path / "lonely"
    for part in (
        "arcface/model.safetensors",
        "arcface/manifest.json",
        "arcface/embeddings/gallery",
        "arcface/embeddings/references",
        VOTING,
    ):
        if part != missing:
            (lonely / part).parent.mkdir(parents=True, exist_ok=True)
            (lonely / part).symlink_to(run / part)
    with pytest.raises(ValueError, match=r"embedded references, which vote, .* run notebook 06"):
        Demo(lonely / "arcface")


def test_page_without_gradio_says_how_to_install_it(demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ValueError, match=r"expected gradio, .* -m pip install 'gradio>=5'"):
        build_page(demo)


def test_main_refuses_a_run_that_is_not_there(tmp_path, capsys):
    assert main(["--run", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("demo: expected a finished run in ")
