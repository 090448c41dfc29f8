"""Ablation rows: what is trained, shared and read again, and how long one image takes."""

import dataclasses
import gc
import multiprocessing
import weakref
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.utils.memory import clear_device_cache

from lib.ablation import runner as ablation
from lib.ablation.runner import WARM_UP, AblationRunner, milliseconds_per_image
from lib.ablation.tables import AblationRow, AblationTable, paper_tables
from lib.artifacts import is_done, mark_complete, read_fingerprint, rng
from lib.config import InferenceConfig, ModelConfig, Profile, StageConfig
from lib.models import network as models
from lib.retrieval import scoring
from lib.retrieval.ranking import Ranking
from lib.training.stage import CHECKPOINT, stage_key
from tests.made_up import numbered_evaluation

EVALUATION = numbered_evaluation()
STAGES = (
    StageConfig("softmax", loss="softmax", epochs=2),
    StageConfig("arcface", epochs=3),
    StageConfig("cluster", train_list="cluster", epochs=1, cutmix="code"),
)
PROFILE = Profile(name="test", recipe="own", model=ModelConfig(backbone="own"), stages=STAGES)
TABLES = paper_tables(PROFILE)
TABLE_1 = TABLES["glr20_table_1"]


class Trainer:
    """Stands in for `train`: signs folders, remembers which stages it trained, dies on request."""

    def __init__(self):
        self.trained = []
        self.dies_at = None

    def __call__(self, stage, model, table, root, folder, *, start=None, seed=0):
        key = stage_key(stage, model, table, start=start, seed=seed, root=root)
        if not is_done(folder, key):
            if len(self.trained) == self.dies_at:
                raise KeyboardInterrupt
            self.trained.append((stage.name, model.backbone, stage.epoch_images, seed))
            mark_complete(folder, key)
        return folder / CHECKPOINT


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(ablation, "train", trainer)
    return trainer


@pytest.fixture
def ranked(monkeypatch):
    """The folders whose checkpoints were ranked; every checkpoint has an order of its own."""
    groups = []

    def rank(self, checkpoints, inference):
        groups.append([path.parent for path in checkpoints])
        return random_ranking(checkpoints)

    monkeypatch.setattr(AblationRunner, "_rank", rank)
    return groups


def random_ranking(checkpoints):
    generator = rng(0, *(read_fingerprint(path.parent) for path in checkpoints))
    queries, gallery = EVALUATION.queries["id"], EVALUATION.gallery["id"]
    positions = np.array([generator.permutation(len(gallery)) for _ in queries])
    return Ranking(-np.sort(generator.random(positions.shape)), positions, queries, gallery)


def training_list(self, name, seed, cleaning=""):
    """Lists of one to three images, others for every name; the cluster list also for every seed."""
    mark = f"{name}{seed}{cleaning}" if name == "cluster" else name
    count = {"clean": 1, "full": 3}.get(name, 2)
    paths = [f"train/{mark}{i}.jpg" for i in range(count)]
    ids = [f"{mark}{i}" for i in range(count)]
    columns = {"id": ids, "path": paths, "label": 0, "is_clean": True, "continent": "Asia"}
    return pd.DataFrame(columns)


@pytest.fixture
def runner(tmp_path, trainer, ranked, monkeypatch):
    monkeypatch.setattr(AblationRunner, "training_list", training_list)
    monkeypatch.setattr(ablation, "clear_device_cache", lambda **_: None)  # slow, and nothing to do
    dataset = SimpleNamespace(root=tmp_path / "data")
    return AblationRunner(PROFILE, dataset, EVALUATION, tmp_path / "ablation")


def test_run_trains_what_rows_share_once(runner, trainer):
    ablation.run([TABLE_1, TABLE_1], runner, seeds=(0, 1), processes=1)
    names = [name for name, *_ in trainer.trained]
    assert len(trainer.trained) == len(set(trainer.trained)) == 2 * 5
    assert sorted(set(names)) == ["arcface", "cluster", "cutmix_paper", "softmax", "softmax_on"]
    assert len(list(runner.folder.glob("*/manifest.json"))) == 2 * 5


def test_run_a_second_time_only_reads(runner, trainer, ranked):
    first = ablation.run([TABLE_1], runner)
    trainer.trained.clear()
    ranked.clear()
    second = ablation.run([TABLE_1], runner)
    assert trainer.trained == ranked == []
    for name, scores in first.items():
        pd.testing.assert_frame_equal(scores, second[name])


@pytest.fixture
def forked(monkeypatch):
    """Processes side by side start at once; `test_run_trains_for_real` spawns one."""
    fork = multiprocessing.get_context("fork")
    for name in ("spawn", "forkserver"):
        monkeypatch.setitem(multiprocessing.context._concrete_contexts, name, fork)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("processes", [1, 2])
def test_run_scores_every_row_with_every_seed(runner, processes):
    table = dataclasses.replace(TABLE_1, rows=TABLE_1.rows[:2])
    results = ablation.run([table], runner, seeds=(3, 5), processes=processes)
    assert list(results) == [row.name for row in table.rows]
    for row in table.rows:
        parts = []
        for seed in (3, 5):
            ranking = random_ranking([runner.train(row, seed)])
            parts.append(scoring.score_queries(ranking, EVALUATION).assign(seed=seed))
        expected = pd.concat(parts, ignore_index=True)
        assert "NA" in set(results[row.name]["country"])
        pd.testing.assert_frame_equal(results[row.name], expected)


def test_run_releases_memory_between_rows(runner, monkeypatch):
    class Network:
        def __init__(self):
            self.trainer = self  # a circle, which only the garbage collector breaks

    left = []
    monkeypatch.setattr(ablation, "clear_device_cache", clear_device_cache)

    def score(self, row, rows, seed):
        assert all(network() is None for network in left)
        left.append(weakref.ref(Network()))
        return pd.DataFrame({"id": [row.name]})

    monkeypatch.setattr(AblationRunner, "score", score)
    gc.disable()  # it must be asked for
    try:
        ablation.run([dataclasses.replace(TABLE_1, rows=TABLE_1.rows[:2])], runner, seeds=(0,))
    finally:
        gc.enable()
    assert len(left) == 2


def test_run_goes_on_where_it_was_killed(runner, trainer, ranked):
    trainer.dies_at = 3  # in the third row
    with pytest.raises(KeyboardInterrupt):
        ablation.run([TABLE_1], runner, seeds=(0, 1), processes=1)
    assert len(ranked) == 2
    trainer.dies_at = None
    results = ablation.run([TABLE_1], runner, seeds=(0, 1), processes=1)
    assert len(trainer.trained) == len(set(trainer.trained)) == 10
    assert all(set(scores["seed"]) == {0, 1} for scores in results.values())


def test_run_tells_how_far_it_is_and_how_long_the_rest_takes(runner, capsys, monkeypatch):
    monkeypatch.setattr(ablation, "FINISHED", 0.0)
    ablation.run([TABLE_1], runner, seeds=(0, 4), processes=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"seed {seed}, row {place} of 4, {row.name}"
        for seed in (0, 4)
        for place, row in enumerate(TABLE_1.rows, start=1)
    ]
    assert lines[3].endswith("about 0 s left")
    monkeypatch.setattr(ablation, "FINISHED", 1e9)
    ablation.run([TABLE_1], runner)
    assert capsys.readouterr().out.splitlines()[0].endswith(": done before")


def test_train_reuses_what_was_trained_elsewhere(runner, trainer, tmp_path):
    cluster, mixed = TABLE_1.rows[2:]
    elsewhere = dataclasses.replace(runner, folder=tmp_path / "elsewhere")
    other_seed = elsewhere.train(cluster, 1).parent
    known = elsewhere.train(cluster, 0).parent
    arcface = elsewhere.train(TABLE_1.rows[1], 0).parent
    trainer.trained.clear()
    runner = dataclasses.replace(runner, known=[other_seed, arcface, known, tmp_path / "missing"])
    assert runner.train(cluster, 0).parent == known
    assert [name for name, *_ in trainer.trained] == ["softmax"]  # the one not offered
    assert runner.train(mixed, 0).parent.parent == runner.folder


def test_train_gives_rows_on_different_lists_one_budget(runner, trainer):
    for row in TABLES["cleaning"].rows[:3]:
        runner.train(row, 0)
    budgets = {name: images for name, _, images, _ in trainer.trained}
    assert budgets == {"softmax": 0, "arcface": 0, "on_full": 3, "on_clean": 3, "on_cluster": 3}


def test_score_ranks_an_ensemble_by_all_its_members(runner, trainer, ranked):
    first, second = TABLE_1.rows[:2]
    both = AblationRow("both", members=(first.name, second.name))
    rows = {row.name: row for row in (first, second, both)}
    runner.score(both, rows, 0)
    assert ranked == [[runner.train(first, 0).parent, runner.train(second, 0).parent]]
    assert len(trainer.trained) == 3


def test_score_keeps_another_inference_and_other_queries_apart(runner, ranked):
    row = TABLE_1.rows[0]
    larger = dataclasses.replace(PROFILE.inference, size=96)
    fewer = dataclasses.replace(
        EVALUATION, queries=EVALUATION.queries.iloc[:3], solution=dict(EVALUATION.solution)
    )
    for _ in range(2):
        runner.score(row, {}, 0)
        runner.score(dataclasses.replace(row, inference=larger), {}, 0)
    assert len(ranked) == 2
    fewer.solution["Private"] = {}
    few = dataclasses.replace(runner, evaluation=fewer)
    with pytest.raises(ValueError, match="queries of the solution"):
        few.score(row, {}, 0)  # ranked again, by the stand-in for all queries
    assert len(ranked) == 3


@pytest.mark.usefixtures("forked")
def test_run_side_by_side_ends_with_the_first_error(runner):
    table = AblationTable("t", "T", TABLE_1.rows[:1])
    broken = dataclasses.replace(runner, dataset=None)
    with pytest.raises(AttributeError, match="NoneType"):
        ablation.run([table], broken, seeds=(0, 1), processes=2)
    assert not multiprocessing.active_children()


def test_run_trains_for_real(stripes, dataset, evaluation, tiny_stage, tiny_model, tmp_path):
    start = dataclasses.replace(tiny_stage, name="start", epochs=0)
    more = dataclasses.replace(tiny_stage, name="more", loss="arcface", epochs=1)
    rows = (
        AblationRow("untrained", tiny_model, (start,), paper_milliseconds=26.3),
        AblationRow("trained", tiny_model, (tiny_stage, more), "untrained"),
        AblationRow("both", members=("untrained", "trained"), against="trained"),
    )
    profile = Profile("test", "own", tiny_model, (tiny_stage,))
    profile = dataclasses.replace(
        profile, inference=dataclasses.replace(profile.inference, size=32)
    )
    runner = AblationRunner(profile, dataset, evaluation, tmp_path)
    table = AblationTable("t", "T", rows)
    results = ablation.run([table], runner, processes=2)  # in another process
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {
        "more", "scores", "start", "tiny",
    }  # fmt: skip
    for scores in results.values():
        assert scores["id"].tolist() == evaluation.queries["id"].tolist()
        assert scores["average_precision"].between(0, 1).all()
    # The same as in this process.
    alone = dataclasses.replace(runner, folder=tmp_path / "alone")
    for name, scores in ablation.run([table], alone, processes=1).items():
        pd.testing.assert_frame_equal(scores, results[name])
    times = runner.test_times(table, 0)
    assert list(times) == ["untrained"]
    assert 0 < times["untrained"] < 1000
    assert runner.test_times(dataclasses.replace(table, rows=rows[1:]), 0) == {}


def test_milliseconds_per_image_times_single_images_in_turn_after_a_warm_up(
    tiny_model, tmp_path, monkeypatch
):
    checkpoint = models.save(tmp_path / "model.safetensors", models.build_model(tiny_model))
    sides, clock = [], [10.0]

    def extract_embeddings(model, pixels, inference):
        assert pixels.shape[:2] == (1, 3)
        sides.append(pixels.shape[-1])
        clock[0] += 0.02 if pixels.shape[-1] == 64 else 0.005
        return torch.zeros(1, 32)

    monkeypatch.setattr(ablation, "extract_embeddings", extract_embeddings)
    monkeypatch.setattr(ablation.time, "perf_counter", lambda: clock[0])
    networks = {
        "large": (checkpoint, InferenceConfig(32, scales=(1.0, 2.0))),
        "small": (checkpoint, InferenceConfig(32)),
    }
    found = milliseconds_per_image(networks, images=25)
    assert {name: round(value, 6) for name, value in found.items()} == {"large": 20, "small": 5}
    warm_up = [64] * WARM_UP + [32] * WARM_UP
    assert sides == warm_up + ([64] * 10 + [32] * 10) * 2 + [64] * 5 + [32] * 5
