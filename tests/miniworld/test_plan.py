"""The miniature world's plan: the proportions that both papers' claims need."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib.config import WorldConfig
from lib.miniworld.plan import CONTINENTS, Plan, draw_places, make_plan

CONTINENT = {code: name for name, codes in CONTINENTS.items() for code in codes.split()}


@pytest.fixture(scope="module", params=[0, 1, 2])
def plan(request: pytest.FixtureRequest) -> Plan:
    return make_plan(WorldConfig(seed=request.param))


def _split(plan: Plan, name: str) -> pd.DataFrame:
    return plan.images[plan.images["split"] == name]


def test_make_plan_gives_what_the_config_asks_for(plan):
    config = WorldConfig()
    counts = plan.images["split"].value_counts()
    assert counts.to_dict() == {
        "train": config.raw_images,
        "index": config.gallery_images,
        "test": config.queries,
    }
    assert (plan.places["role"] == "train").sum() == config.landmarks
    assert plan.images["id"].is_unique
    assert plan.places["name"].is_unique


def test_make_plan_draws_heavy_tailed_classes(plan):
    sizes = _split(plan, "train")["labelled"].value_counts()
    assert len(sizes) == 150
    assert 10 <= sizes.median() <= 18
    assert sizes.max() > 8 * sizes.median()
    assert sizes.min() >= 2


def test_landmarks_are_photographed_as_unequally_as_gldv2_with_its_spread():
    config = WorldConfig(landmarks=800, raw_images=16_000, spread=1.6)
    sizes = draw_places(config)["photographs"][:800]
    # Weyand et al., 2020: 57 % of GLDv2's landmarks have at most 10 images, 38 % at most 5.
    assert (sizes <= 10).mean() == pytest.approx(0.57, abs=0.06)
    assert (sizes <= 5).mean() == pytest.approx(0.38, abs=0.04)
    assert sizes.max() > 25 * sizes.mean()
    assert sizes.max() < 0.04 * sizes.sum()


def test_make_plan_plants_noise_where_it_says(plan):
    train = _split(plan, "train")
    shares = train["planted"].value_counts(normalize=True)
    assert shares["wrong"] == pytest.approx(0.12, abs=0.025)
    assert shares["junk"] == pytest.approx(0.05, abs=0.015)
    is_wrong = train["planted"] == "wrong"
    assert (train["place"][is_wrong] != train["labelled"][is_wrong]).all()
    assert (train["place"] == -1).equals(train["planted"] == "junk")
    country = plan.places["country"].to_numpy(object)
    wrong = train[is_wrong]
    alike = country[wrong["place"]] == country[wrong["labelled"]]
    assert 0.3 < alike.mean() < 0.7


def test_make_plan_lists_clean_images_as_gldv2_does(plan):
    train = _split(plan, "train")
    clean = train[train["is_clean"]]
    assert 0.35 <= len(clean) / len(train) <= 0.45
    assert (clean["planted"] != "none").mean() < 0.01
    assert 0.35 <= clean["labelled"].nunique() / train["labelled"].nunique() <= 0.45
    assert clean["labelled"].value_counts().min() >= 2
    second = train["view"].isin(["back", "interior"]) & (train["planted"] == "none")
    front = (train["view"] == "front") & (train["planted"] == "none")
    assert train["is_clean"][second].mean() < 0.4 * train["is_clean"][front].mean()


def test_make_plan_shows_second_faces_only_of_places_that_have_them(plan):
    images = plan.images[plan.images["view"].isin(["back", "interior"])]
    second = plan.places["second"].to_numpy(object)[images["place"]]
    assert (second == images["view"]).all()
    share = (plan.places["second"][:150] != "").mean()
    assert 0.22 <= share <= 0.5


def test_make_plan_weights_continents_differently_for_evaluation(plan):
    home = plan.places["country"].map(CONTINENT)
    trained = home[plan.places["role"] == "train"].value_counts(normalize=True)
    assert trained["Europe"] + trained["North America"] > 0.5
    queries = _split(plan, "test")
    asked = home[queries["labelled"][queries["labelled"] >= 0]].value_counts(normalize=True)
    assert asked["Asia"] > 0.33
    assert asked["Asia"] > 1.6 * trained["Asia"]
    assert set(home) == set(CONTINENTS)


def test_make_plan_asks_about_known_and_unknown_landmarks(plan):
    evaluated = plan.places[plan.places["index_id"] >= 0]
    assert 0.05 <= (evaluated["role"] == "unseen").mean() <= 0.15
    gallery = _split(plan, "index")
    assert (gallery["labelled"] == -1).mean() == pytest.approx(0.34, abs=0.02)
    queries = _split(plan, "test")
    usage = queries["usage"].value_counts()
    assert usage.to_dict() == {"Private": 95, "Public": 40, "Ignored": 15}
    answered = queries["usage"] != "Ignored"
    assert set(queries["labelled"][answered]) <= set(gallery["labelled"])
    assert (queries["labelled"][~answered] == -1).all()
    strangers = queries[~answered & (queries["place"] >= 0)]["place"]
    assert not set(strangers) & set(gallery["place"])


def test_make_plan_repeats_itself_and_depends_on_the_seed():
    config = WorldConfig(landmarks=20, raw_images=300, gallery_images=120, queries=30)
    first, again = make_plan(config), make_plan(config)
    pd.testing.assert_frame_equal(first.images, again.images)
    pd.testing.assert_frame_equal(first.places, again.places)
    other = make_plan(dataclasses.replace(config, seed=1))
    assert not np.array_equal(first.places["name"], other.places["name"])
    assert not set(first.images["id"]) & set(other.images["id"])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"landmarks": 3}, "at least 6 landmarks"), ({"gallery_images": 20}, "gallery images")],
)
def test_make_plan_refuses_worlds_that_are_too_small(change, message):
    with pytest.raises(ValueError, match=message):
        make_plan(dataclasses.replace(WorldConfig(), **change))
