"""Ablation tables: what is trained, what is read again, and what the intervals say."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib import ablation, scoring
from lib.ablation import AblationRow, Bench, by_seed, table, table_1, two_way_interval, verdict
from lib.config import ModelConfig, Profile, StageConfig
from lib.ranking import Ranking
from lib.runs import is_done, mark_done, read_key, rng
from lib.train import CHECKPOINT, stage_key
from tests.numbered import numbered_evaluation

EVALUATION = numbered_evaluation()
TRUNKS = {name: ModelConfig(trunk=name) for name in ("ResNeSt101", "ResNet152", "ResNeSt200")}
PROFILE = Profile(
    name="test",
    model=ModelConfig(trunk="own"),
    stage_one=(StageConfig("softmax", loss="softmax", epochs=2), StageConfig("arcface", epochs=3)),
    stage_two=StageConfig("cluster", train_list="cluster", epochs=1, cutmix="code"),
)


class Trainer:
    """Stands in for `train`: signs folders, remembers which stages it trained, dies on request."""

    def __init__(self):
        self.trained = []
        self.dies_at = None

    def __call__(self, stage, model, table, root, folder, *, start=None, seed=0):
        key = stage_key(stage, model, table, start=start, seed=seed)
        if not is_done(folder, key):
            if len(self.trained) == self.dies_at:
                raise KeyboardInterrupt
            self.trained.append((stage.name, model.trunk, seed))
            mark_done(folder, key)
        return folder / CHECKPOINT


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(ablation, "train", trainer)
    return trainer


@pytest.fixture
def ranked(monkeypatch):
    """The folders whose checkpoints were ranked; every checkpoint has an order of its own."""
    folders = []

    def rank(checkpoint, evaluation, root, folder, **_):
        folders.append(checkpoint.parent)
        return random_ranking(checkpoint)

    monkeypatch.setattr(scoring, "rank", rank)
    return folders


def random_ranking(checkpoint):
    generator = rng(0, read_key(checkpoint.parent))
    queries, gallery = EVALUATION.queries["id"], EVALUATION.gallery["id"]
    positions = np.array([generator.permutation(len(gallery)) for _ in queries])
    return Ranking(-np.sort(generator.random(positions.shape)), positions, queries, gallery)


def training_list(name):
    """A list of one image, different for every name."""
    path = f"train/{name}.jpg"
    return pd.DataFrame({"path": [path], "label": 0, "is_clean": True, "continent": "Asia"})


@pytest.fixture
def bench(tmp_path, trainer, ranked):
    return Bench(training_list, tmp_path / "data", tmp_path / "ablation", EVALUATION, size=64)


def test_table_1_has_the_paper_rows_each_against_one_above():
    rows = table_1(PROFILE)
    paper = [(0.305, 0.266), (0.315, 0.276), (0.329, 0.293), (0.356, 0.321), (0.364, 0.327)]
    assert [(r.paper_public, r.paper_private) for r in rows] == [*paper, (0.374, 0.334)]
    names = [row.name for row in rows]
    assert len(set(names)) == 6
    assert rows[0].against == ""
    assert all(names.index(row.against) < place for place, row in enumerate(rows) if place)


def test_table_1_changes_one_thing_from_row_to_row():
    a, b, c, d, e, f = table_1(dataclasses.replace(PROFILE, trunks=TRUNKS))
    assert [row.model.trunk for row in (a, b, c, d, e, f)] == [
        *["ResNeSt101"] * 2,
        *["ResNet152"] * 2,
        *["ResNeSt200"] * 2,
    ]
    assert [stage.loss for stage in a.stages] == ["softmax", "softmax"]
    assert a.stages == (
        b.stages[0],
        dataclasses.replace(b.stages[1], name="softmax_on", loss="softmax"),
    )
    assert b.stages == c.stages == d.stages[:2]
    assert d.stages == e.stages
    assert [row.stages[-1].train_list for row in (c, d)] == ["clean", "cluster"]
    assert f.stages[:2] == e.stages[:2]
    assert f.stages[2] == dataclasses.replace(e.stages[2], name="cutmix", cutmix="paper")
    assert not any(stage.cutmix for row in (a, b, c, d, e) for stage in row.stages)


def test_table_1_takes_the_profiles_model_for_a_trunk_without_an_entry():
    profile = dataclasses.replace(PROFILE, trunks={"ResNet152": TRUNKS["ResNet152"]})
    trunks = [row.model.trunk for row in table_1(profile)]
    assert trunks == [*["own"] * 2, *["ResNet152"] * 2, *["own"] * 2]


@pytest.mark.parametrize(
    ("trunks", "stages"),
    # One trunk: softmax, softmax_on, arcface, cluster, cutmix. Three: 3 + 3 + 4 stages.
    [({}, 5), (TRUNKS, 10)],
)
def test_run_trains_what_rows_share_once(bench, trainer, trunks, stages):
    rows = table_1(dataclasses.replace(PROFILE, trunks=trunks))
    ablation.run(rows, bench, seeds=(0, 1))
    assert len(trainer.trained) == len(set(trainer.trained)) == 2 * stages
    assert len(list(bench.folder.glob("*/manifest.json"))) == 2 * stages


def test_run_a_second_time_only_reads(bench, trainer, ranked):
    rows = table_1(PROFILE)
    first = ablation.run(rows, bench)
    trainer.trained.clear()
    ranked.clear()
    second = ablation.run(rows, bench)
    assert trainer.trained == ranked == []
    for row in rows:
        pd.testing.assert_frame_equal(first[row.name], second[row.name])


def test_run_scores_every_row_with_every_seed(bench, ranked):
    rows = table_1(PROFILE)[:2]
    results = ablation.run(rows, bench, seeds=(3, 5))
    assert list(results) == [row.name for row in rows]
    for row in rows:
        parts = []
        for seed in (3, 5):
            ranking = random_ranking(ablation.train_chain(row, bench, seed))
            parts.append(scoring.score(ranking, EVALUATION).assign(seed=seed))
        expected = pd.concat(parts, ignore_index=True)
        assert "NA" in set(results[row.name]["country"])
        pd.testing.assert_frame_equal(results[row.name], expected)


def test_run_goes_on_where_it_was_killed(bench, trainer, ranked):
    rows = table_1(PROFILE)
    trainer.dies_at = 3  # in the fourth row; the third shares all its stages
    with pytest.raises(KeyboardInterrupt):
        ablation.run(rows, bench, seeds=(0, 1))
    assert len(ranked) == 2
    trainer.dies_at = None
    results = ablation.run(rows, bench, seeds=(0, 1))
    assert len(trainer.trained) == len(set(trainer.trained)) == 10
    assert len(ranked) == len(set(ranked))
    assert all(by_seed(scores, "Private").shape == (2, 3) for scores in results.values())


def test_train_chain_reuses_what_was_trained_elsewhere(bench, trainer, tmp_path):
    rows = table_1(PROFILE)
    elsewhere = dataclasses.replace(bench, folder=tmp_path / "elsewhere")
    other_seed = ablation.train_chain(rows[3], elsewhere, 1).parent
    cluster = ablation.train_chain(rows[3], elsewhere, 0).parent
    arcface = ablation.train_chain(rows[2], elsewhere, 0).parent
    trainer.trained.clear()
    bench = dataclasses.replace(bench, known=[other_seed, arcface, cluster, tmp_path / "missing"])
    assert ablation.train_chain(rows[3], bench, 0).parent == cluster
    assert [name for name, _, _ in trainer.trained] == ["softmax"]  # the one not offered
    assert ablation.train_chain(rows[5], bench, 0).parent.parent == bench.folder


def test_train_chain_does_not_reuse_a_folder_without_a_signature(bench, trainer, tmp_path):
    row = table_1(PROFILE)[1]
    elsewhere = dataclasses.replace(bench, folder=tmp_path / "elsewhere")
    killed = ablation.train_chain(row, elsewhere, 0).parent
    (killed / "manifest.json").unlink()
    found = ablation.train_chain(row, dataclasses.replace(bench, known=[killed]), 0)
    assert found.parent.parent == bench.folder


@pytest.mark.parametrize("changes", [{"size": 96}, {"flip": True}])
def test_run_keeps_scores_of_another_inference_apart(bench, ranked, changes):
    rows = table_1(PROFILE)[:1]
    for _ in range(2):
        ablation.run(rows, bench)
        ablation.run(rows, dataclasses.replace(bench, **changes))
    assert len(ranked) == 2
    assert len(list((bench.folder / "scores").iterdir())) == 2


def test_run_trains_for_real(stripes, evaluation, images, tiny_stage, tiny_model, tmp_path):
    more = dataclasses.replace(tiny_stage, name="more", loss="arcface", epochs=1)
    start = dataclasses.replace(tiny_stage, name="start", epochs=0)
    rows = [
        AblationRow("untrained", tiny_model, (start,)),
        AblationRow("trained", tiny_model, (tiny_stage, more), against="untrained"),
    ]
    bench = Bench(lambda name: images, stripes, tmp_path, evaluation, size=32)
    results = ablation.run(rows, bench)
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == [
        "more",
        "scores",
        "start",
        "tiny",
    ]
    found = table(rows, results)
    assert found["private"].between(0, 1).all()
    ours = results["trained"]
    assert found["private"][1] == pytest.approx(scoring.mean_of(ours))
    assert found["public"][1] == pytest.approx(scoring.mean_of(ours, "Public"))
    assert ours["id"].tolist() == evaluation.queries["id"].tolist()


def scores_of(private, public=((0.5,),)):
    """Scores with the given average precisions (seeds, queries), their rows in disorder."""
    parts = [
        pd.DataFrame(
            {
                "id": [f"{usage}{query}" for query in range(len(values))],
                "usage": usage,
                "average_precision": values,
                "seed": seed,
            }
        )
        for usage, matrix in (("Private", private), ("Public", public))
        for seed, values in enumerate(matrix)
    ]
    return pd.concat(parts).sample(frac=1, random_state=0)


def row_of(name, against="", paper=np.nan):
    return AblationRow(name, ModelConfig(), (), against, paper_private=paper)


def test_by_seed_puts_queries_in_order_whatever_the_order_of_rows():
    private = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    scores = scores_of(private, public=[[0.9], [0.7]])
    np.testing.assert_array_equal(by_seed(scores, "Private"), private)
    np.testing.assert_array_equal(by_seed(scores, "Public"), [[0.9], [0.7]])


def test_table_pairs_queries_before_it_takes_the_mean():
    before, after = [[0.1, 0.5], [0.3, 0.3]], [[0.2, 0.6], [0.4, 0.4]]
    rows = [row_of("before", paper=0.5), row_of("after", "before", paper=0.6)]
    found = table(rows, {"before": scores_of(before), "after": scores_of(after)})
    first, second = found.to_dict("records")
    assert first["private"] == pytest.approx(0.3)
    assert second["private"] == pytest.approx(0.4)
    assert first["low"] < 0.3 < first["high"]
    assert first["seeds"] == second["seeds"] == 2
    assert first["public"] == second["public"] == 0.5
    # Every query gains 0.1 under every seed, so nothing is uncertain about the gain.
    gain = [second[name] for name in ("difference", "difference_low", "difference_high")]
    assert gain == pytest.approx([0.1] * 3)
    assert second["paper"] == pytest.approx(0.1)
    assert second["verdict"] == "agrees with the paper"
    assert np.isnan([first["paper"], first["difference"]]).all()
    assert first["verdict"] == ""


def test_table_judges_by_the_paired_interval():
    before, generator = np.full((1, 200), 0.5), np.random.default_rng(0)
    noise = generator.normal(0, 0.05, (1, 200))
    rows = [
        row_of("before", paper=0.5),
        *(row_of(name, "before", paper=0.6) for name in ("worse", "same", "better")),
        row_of("unknown", "before"),
    ]
    gains = {"before": 0.0, "worse": -0.1, "same": 0.0, "better": 0.1, "unknown": 0.1}
    results = {name: scores_of(before + gain + noise * (gain != 0)) for name, gain in gains.items()}
    assert table(rows, results)["verdict"].tolist() == [
        "",
        "contradicts it",
        "not separable",
        "agrees with the paper",
        "helps",
    ]


def test_table_says_what_was_not_run():
    rows = [row_of("a", paper=0.1), row_of("b", "a", paper=0.2), row_of("c", "b", paper=0.4)]
    found = table(rows, {"a": scores_of([[0.5]]), "c": scores_of([[0.5]])})
    assert found["verdict"].tolist() == ["", "not run", ""]
    assert found[["private", "difference"]].isna().to_numpy().tolist() == [
        [False, True],
        [True, True],
        [False, True],
    ]
    np.testing.assert_allclose(found["paper"], [np.nan, 0.1, 0.2])
    nothing = table(rows, {})
    assert nothing.columns.tolist() == found.columns.tolist()
    assert nothing["verdict"].eq("not run").all()


def test_table_reads_public_where_it_is_asked_to():
    scores = scores_of([[0.1, 0.3]], public=[[0.6, 0.8]])
    found = table([row_of("a")], {"a": scores}, usage="Public")
    assert found["private"][0] == found["public"][0] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("paper", "low", "high", "expected"),
    [
        (0.01, 0.002, 0.03, "agrees with the paper"),
        (-0.01, -0.03, -0.002, "agrees with the paper"),
        (0.01, -0.03, -0.002, "contradicts it"),
        (-0.01, 0.002, 0.03, "contradicts it"),
        (0.01, -0.001, 0.03, "not separable"),
        (0.01, 0.0, 0.03, "not separable"),
        (np.nan, -0.01, 0.01, "not separable"),
        (np.nan, 0.01, 0.02, "helps"),
        (np.nan, -0.02, -0.01, "harms"),
    ],
)
def test_verdict_compares_signs(paper, low, high, expected):
    assert verdict(paper, low, high) == expected


def naive_means(values, generator, resamples):
    """The bootstrap over seeds and queries, one draw at a time."""
    seeds, queries = values.shape
    means = []
    for _ in range(resamples):
        chosen_seeds = [generator.integers(seeds) for _ in range(seeds)]
        chosen_queries = [generator.integers(queries) for _ in range(queries)]
        cells = [values[seed, query] for seed in chosen_seeds for query in chosen_queries]
        means.append(sum(cells) / len(cells))
    return means


@pytest.mark.parametrize(("seeds", "queries"), [(1, 30), (3, 12), (4, 1)])
def test_two_way_interval_agrees_with_drawing_one_by_one(seeds, queries):
    generator = np.random.default_rng(seeds)
    values = generator.normal(0.4, 0.2, (seeds, queries)) + generator.normal(0, 0.1, (seeds, 1))
    mean, low, high = two_way_interval(values, np.random.default_rng(0))
    means = naive_means(values, generator, 2000)
    assert mean == pytest.approx(values.mean())
    spread = np.std(means)
    assert [low, high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.25 * spread)
    assert low < mean < high


def test_two_way_interval_of_equal_values_has_no_width():
    found = two_way_interval(np.full((3, 7), 0.3), np.random.default_rng(0))
    assert found == pytest.approx((0.3, 0.3, 0.3), abs=1e-12)


def test_two_way_interval_counts_seeds_as_uncertain():
    spread = np.linspace(0.2, 0.6, 50)
    alike = np.tile(spread, (3, 1))
    apart = alike + np.array([[-0.1], [0.0], [0.1]])
    widths = [
        high - low
        for _, low, high in (
            two_way_interval(values, np.random.default_rng(0)) for values in (alike, apart)
        )
    ]
    assert widths[1] > 1.5 * widths[0]


def test_two_way_interval_repeats_with_its_generator():
    values = np.random.default_rng(0).random((2, 9))
    first, second, other = (
        two_way_interval(values, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == second != other
