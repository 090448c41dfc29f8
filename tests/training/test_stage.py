"""Training a stage: it learns, repeats itself, goes on after a kill and refuses what cannot be."""

import dataclasses
import itertools
import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import albumentations as A
import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from lib import data as gldv2
from lib import time_limit
from lib.artifacts import progress, read_fingerprint, read_json
from lib.config import AugmentConfig, ModelConfig, StageConfig
from lib.data.images import ImageSource, SquareImages, load_batches
from lib.models import network as models
from lib.models.network import normalise
from lib.training import checkpoint as training_state
from lib.training import stage as training
from lib.training.augmentation import AUGMENTATIONS
from lib.training.checkpoint import TrainingState
from lib.training.losses import LOSSES, MarginHead, batch_hard_triplet
from lib.training.samplers import SAMPLERS, ShuffledSampler
from lib.training.schedules import SCHEDULES
from lib.training.stage import ClassificationModel, build_classification_model, stage_key, train
from tests.made_up import left_by_a_kill


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These steps are so small that threads only wait for each other; and sums keep their order."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def setting(tiny_stage, tiny_model, dataset, stripes):
    """Train the tiny stage into a folder, with changes to the stage and options of `train`."""

    def call(folder, *, model=tiny_model, table=None, **changes):
        options = {
            k: changes.pop(k)
            for k in ("start", "seed", "own", "processes", "until")
            if k in changes
        }
        stage = dataclasses.replace(tiny_stage, **changes)
        table = gldv2.training_list(dataset, "clean") if table is None else table
        options["augment"] = options.pop("own", None)  # `augment` is the stage's setting here
        return train(stage, model, table, stripes, folder, **options)

    return call


@pytest.fixture(scope="module")
def whole(setting, tmp_path_factory):
    """The checkpoint of the tiny stage, never interrupted."""
    return setting(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def run(setting, tmp_path):
    """Train into a folder of this test's own."""
    return lambda name="run", **changes: setting(tmp_path / name, **changes)


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of the finished stage, in the folder that `run` uses."""
    shutil.copytree(whole.parent, tmp_path / "run")
    return tmp_path / "run" / whole.name


def tensors(checkpoint):
    """All tensors of a checkpoint, and the head's under `head.`."""
    found = models.load(checkpoint)
    state = dict(found.model.state_dict())
    return state | {f"head.{name}": value for name, value in found.head.items()}


def is_same(first, second):
    """Whether two checkpoints agree to the last bit."""
    a, b = tensors(first), tensors(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def history(checkpoint):
    return pd.read_csv(checkpoint.parent / "history.csv")


def accuracy(checkpoint, root, table):
    """Share of images to whose class the head gives the largest score."""
    found = models.load(checkpoint)
    source, paths = ImageSource(root), table["path"].tolist()
    ((pixels, _),) = load_batches(SquareImages(source, paths, 32), [range(len(paths))])
    images = normalise(pixels, found.model.mean, found.model.std)
    with torch.inference_mode():
        scores = found.model(images) @ found.head["weight"].T + found.head.get("bias", 0.0)
    return float((scores.argmax(dim=1).numpy() == table["label"]).mean())


def test_train_learns(run, stripes, images):
    trained = run("trained", epochs=8)
    untrained = run("untrained", epochs=0)
    table = history(trained)
    first, last = table.loc[table["epoch"] == 1, "loss"], table.loc[table["epoch"] == 8, "loss"]
    assert last.mean() < 0.75 * first.mean()
    assert accuracy(trained, stripes, images) > 0.75
    assert accuracy(untrained, stripes, images) < 0.5


def test_train_writes_checkpoint_history_and_manifest(whole):
    assert sorted(path.name for path in whole.parent.iterdir()) == [
        "history.csv",
        "manifest.json",
        "model.safetensors",
    ]
    table = history(whole)
    assert table.columns.tolist() == ["epoch", "step", "learning_rate", "loss"]
    assert table["step"].tolist() == list(range(1, 9))
    assert table["epoch"].tolist() == [1] * 4 + [2] * 4
    np.testing.assert_allclose(
        table["learning_rate"], [0.1 * (1 - step / 8) ** 0.9 for step in range(8)]
    )
    assert read_json(whole.parent / "manifest.json")["images_seen"] == 96
    found = models.load(whole)
    assert found.facts == {"train_list": "clean", "stage": "tiny"}
    assert found.head["weight"].shape == (6, 32)


def test_train_does_nothing_the_second_time(run, finished, monkeypatch):
    before = finished.stat().st_mtime_ns
    monkeypatch.setattr(training, "_train", None)
    assert run() == finished
    assert finished.stat().st_mtime_ns == before


def test_train_repeats_itself_and_differs_by_seed(run, whole):
    assert is_same(whole, run("again"))
    assert not is_same(whole, run("other", seed=6))


def test_train_leaves_the_global_generators_alone(run):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run()
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 3},
        {"learning_rate": 0.05},
        {"augment": AugmentConfig()},
        {"seed": 1},
        {"model": ModelConfig(backbone="test_efficientnet", embedding_dim=16)},
    ],
    ids=str,
)
def test_train_trains_again_when_a_setting_changes(run, finished, changes):
    key, before = read_fingerprint(finished.parent), tensors(finished)
    checkpoint = run(**changes)
    assert checkpoint == finished
    assert read_fingerprint(finished.parent) != key
    after = tensors(finished)
    assert before.keys() != after.keys() or not torch.equal(
        before["norm.weight"], after["norm.weight"]
    )


def test_train_trains_again_on_other_images(run, finished, images):
    before = tensors(finished)
    assert run(table=images.iloc[:36]) == finished
    assert not torch.equal(before["norm.weight"], tensors(finished)["norm.weight"])


def test_train_trains_again_when_its_start_did(run, whole, finished):
    second = run("second", start=finished, loss="arcface")
    before = second.stat().st_mtime_ns
    assert run("second", start=whole, loss="arcface").stat().st_mtime_ns == before
    run(epochs=1)
    assert run("second", start=finished, loss="arcface").stat().st_mtime_ns > before


def weights_only(state):
    """Without counters, whose averages are not defined."""
    return {name: value for name, value in state.items() if value.is_floating_point()}


def test_ema_is_the_average_by_hand(run, monkeypatch):
    seen = []

    class Spy(training.ModelEmaV3):
        def __init__(self, model, **options):
            super().__init__(model, **options)
            seen.append({k: v.clone() for k, v in model.state_dict().items()})

        def update(self, model, step=None):
            super().update(model, step)
            seen.append({k: v.clone() for k, v in model.state_dict().items()})

    monkeypatch.setattr(training, "ModelEmaV3", Spy)
    found = tensors(run(ema=0.8))
    assert len(seen) == 9
    average = weights_only(seen[0])
    for state in seen[1:]:
        average = {name: 0.8 * value + 0.2 * state[name] for name, value in average.items()}
    for name, value in average.items():
        torch.testing.assert_close(found[name.removeprefix("model.")], value, msg=name)
    assert "norm.running_mean" in found


def test_average_start_is_a_weighted_sum_of_start_and_end(run, whole):
    start, end = tensors(whole), tensors(run("end", start=whole))
    found = tensors(run("mixed", start=whole, average_start=0.3))
    for name, value in weights_only(end).items():
        is_head = name.startswith("head.")
        expected = value if is_head else 0.7 * value + 0.3 * start[name]
        torch.testing.assert_close(found[name], expected, msg=name)
    assert not torch.equal(start["norm.running_mean"], end["norm.running_mean"])


def without_batch_statistics(monkeypatch):
    """Let BatchNorm use its running statistics, in float32, so that images are independent."""

    def fixed(*values, **options):
        classifier = build_classification_model(*values, **options)
        for module in classifier.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        return classifier

    monkeypatch.setattr(training, "build_classification_model", fixed)
    monkeypatch.setattr(training, "is_slow_in_half", lambda backbone: True)


@pytest.mark.parametrize("settings", [{}, {"cutmix": "paper"}, {"clip_grad": 0.1}], ids=str)
def test_accumulate_trains_as_the_whole_batch_does(run, monkeypatch, settings):
    without_batch_statistics(monkeypatch)
    whole = run("whole", learning_rate=0.01, **settings)
    parts = run("parts", learning_rate=0.01, accumulate=4, **settings)
    np.testing.assert_allclose(history(parts)["loss"], history(whole)["loss"], rtol=1e-4)
    a, b = tensors(whole), tensors(parts)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5, msg=name)


def test_images_per_gpu_keeps_the_batch_by_accumulation(run):
    assert is_same(run("few", images_per_gpu=4), run("parts", accumulate=3))


@pytest.mark.parametrize(
    ("settings", "processes", "expected"),
    [
        ({"images_per_gpu": 24}, 8, 1),
        ({"images_per_gpu": 24}, 3, 4),  # 64 images, of which 24 make no equal parts
        ({"images_per_gpu": 24, "accumulate": 16}, 1, 16),
        ({"images_per_gpu": 1}, 1, 192),
        ({"images_per_gpu": 500}, 2, 1),
        ({"accumulate": 3}, 4, 3),
    ],
)
def test_parts_of_batch_are_equal_and_small_enough(settings, processes, expected):
    stage = StageConfig(batch_size=192, **settings)
    assert training.parts_of_batch(stage, processes) == expected


@pytest.mark.parametrize("is_launched", [False, True])
def test_train_refuses_a_batch_that_processes_cannot_share(run, tmp_path, monkeypatch, is_launched):
    if is_launched:
        monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(ValueError, match=r"into 5 processes of 1 parts .*, found 12;"):
        run(processes=5)
    assert not (tmp_path / "run").exists()


def test_clip_grad_bounds_the_length_of_a_step(run, whole):
    plain = {"momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "epochs": 1}
    once = {"start": whole, "epoch_images": 12, "learning_rate": 0.1, **plain}
    before = tensors(run("before", start=whole, epochs=0))
    lengths = []
    for name, clip in (("free", 0.0), ("clipped", 0.1)):
        after = tensors(run(name, clip_grad=clip, **once))
        moves = [
            (after[n] - before[n]).norm() for n in moved(whole, run(name, clip_grad=clip, **once))
        ]
        lengths.append(torch.stack(moves).norm().item())
    assert lengths[0] > 0.02
    assert lengths[1] == pytest.approx(0.1 * 0.1, rel=0.01)


def test_class_share_changes_nothing_where_a_batch_may_show_all_classes(run, whole):
    assert is_same(whole, run(class_share=0.1))


def test_class_share_trains_rows_of_drawn_classes(run, images):
    few = {"batch_size": 2, "epoch_images": 2, "epochs": 1, "class_share": 0.5}
    before, after = run("before", **few | {"epochs": 0}), run("after", **few)
    shown = ShuffledSampler(StageConfig(epoch_images=2), images).rows_of(0)
    changed = tensors(after)["head.weight"] != tensors(before)["head.weight"]
    assert changed.any(dim=1).sum() == 3
    assert changed.any(dim=1)[images["label"].iloc[shown].tolist()].all()


@pytest.fixture
def held_out(run):
    """Settings that hold out two of the six landmarks, and leave 32 images to train on."""
    return {"hold_out": 0.34, "epochs": 3, "batch_size": 8, "learning_rate": 0.02}


def test_hold_out_keeps_the_best_epoch(run, stripes, images, held_out, tiny_stage, capsys):
    checkpoint = run(**held_out)
    stage = dataclasses.replace(tiny_stage, **held_out)
    rows = training.held_out_rows(stage, images, 0)
    kept = images[rows]
    assert kept["landmark_id"].nunique() == 2
    assert not set(kept["landmark_id"]) & set(images["landmark_id"][~rows])
    assert read_json(checkpoint.parent / "manifest.json")["images_seen"] == 3 * 32
    scores = history(checkpoint).dropna(subset="held_out_map").set_index("epoch")["held_out_map"]
    assert scores.index.tolist() == [0, 1, 2, 3]
    found = models.load(checkpoint)
    source = SquareImages(ImageSource(stripes), kept["path"].tolist(), 32)
    ((pixels, _),) = load_batches(source, [range(len(kept))])
    with torch.inference_mode():
        rows = found.model.embed(normalise(pixels, found.model.mean, found.model.std)).numpy()
    landmarks = kept["landmark_id"].to_numpy()
    assert naive_map(rows, landmarks) == pytest.approx(scores.max(), abs=1e-5)
    assert found.head["weight"].shape == (6, 32)
    assert f"mAP held out {scores[3]:.4f}" in capsys.readouterr().out


def naive_map(rows, landmarks):
    """mAP of each row against all others by loops, without ties."""
    precisions = []
    for query in range(len(rows)):
        others = [i for i in range(len(rows)) if i != query]
        others.sort(key=lambda i: -float(rows[query] @ rows[i]))
        hits = [rank for rank, i in enumerate(others, 1) if landmarks[i] == landmarks[query]]
        precisions += [np.mean([n / rank for n, rank in enumerate(hits, 1)])] if hits else []
    return np.mean(precisions)


def test_held_out_map_is_the_naive_one(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = torch.nn.functional.normalize(torch.tensor(rng.normal(size=(23, 4))), dim=1)
    landmarks = np.array([*[0] * 9, *[1] * 8, *[2] * 5, 3])  # the last is alone

    class Rows(torch.nn.Linear):
        mean = std = (0.5, 0.5, 0.5)

        def forward(self, images):
            return vectors[images[:, 0, 0, 0].mul(0.5).add(0.5).mul(255).round().long()]

    def numbered(images, batches):
        for batch in batches:
            numbers = torch.tensor(list(batch))
            yield numbers[:, None, None, None].expand(-1, 3, 2, 2).to(torch.uint8), numbers

    monkeypatch.setattr(training.data, "load_batches", numbered)
    found = training.held_out_map(Rows(1, 1), range(23), landmarks, 5)
    assert found == pytest.approx(naive_map(vectors.numpy(), landmarks))


@pytest.mark.parametrize(("scores", "best"), [([0.9, 0.3, 0.4, 0.9], 0), ([0.1, 0.3, 0.8, 0.2], 2)])
def test_hold_out_hands_on_the_network_of_the_largest_score(
    run, held_out, monkeypatch, scores, best
):
    states, draws = [], iter(scores)

    def judge(model, images, landmarks, batch):
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(draws)

    monkeypatch.setattr(training, "held_out_map", judge)
    found = models.load(run(**held_out)).model.state_dict()
    assert all(torch.equal(found[name], states[best][name]) for name in found)
    assert not torch.equal(states[0]["norm.weight"], states[2]["norm.weight"])


def test_held_out_rows_are_the_same_landmarks_in_every_stage(images, tiny_stage):
    stage = dataclasses.replace(tiny_stage, hold_out=0.5)
    first = training.held_out_rows(stage, images, 3)
    other = dataclasses.replace(stage, name="other", epochs=9)
    shuffled = images.sample(frac=1.0, random_state=0)
    again = training.held_out_rows(other, shuffled, 3)
    assert set(images["landmark_id"][first]) == set(shuffled["landmark_id"][again])
    assert not training.held_out_rows(tiny_stage, images, 3).any()


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_train_refuses_to_hold_out_one_landmark_or_all(run, tmp_path, share):
    with pytest.raises(ValueError, match=r"at least two landmarks to hold out .*, found 6 in all"):
        run(hold_out=share)
    assert not (tmp_path / "run").exists()


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library catches it."""


def killed(monkeypatch, run, owner, name, step=0, **changes):
    """Train, and die when a function of `owner` has been called `step` times."""
    original, calls = getattr(owner, name), itertools.count(1)

    def dying(*values, **facts):
        if step:
            original(*values, **facts)
        if next(calls) >= step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with pytest.raises(Killed):
            run(**changes)


@pytest.mark.parametrize(
    ("save_seconds", "step", "saved"),
    [(600, 3, 0), (600, 4, 0), (600, 5, 4), (-1, 3, 2), (-1, 7, 6)],
)
def test_train_goes_on_after_a_kill_as_if_nothing_had_happened(
    run, whole, monkeypatch, capsys, save_seconds, step, saved
):
    monkeypatch.setattr(training_state, "SAVE_SECONDS", save_seconds)
    killed(monkeypatch, run, TrainingState, "add_step", step)
    capsys.readouterr()
    resumed = run()
    assert (f"tiny: going on from step {saved}\n" in capsys.readouterr().out) == (saved > 0)
    assert is_same(whole, resumed)
    pd.testing.assert_frame_equal(history(whole), history(resumed))
    assert sorted(resumed.parent.iterdir()) == sorted(
        resumed.parent / path.name for path in whole.parent.iterdir()
    )


@pytest.mark.parametrize("changes", [{}, {"hold_out": 0.34, "batch_size": 8}], ids=str)
def test_train_stops_in_time_with_a_checkpoint_and_goes_on_from_there(run, capsys, changes):
    stopped = run(until=0.0, **changes)  # long past: after one step
    assert "tiny: stopped in time, " in capsys.readouterr().out
    manifest = read_json(stopped.parent / "manifest.json")
    assert manifest["stopped"] == 1
    assert len(models.load(stopped).model.state_dict())
    assert len(history(stopped)) == 1 + ("hold_out" in changes)
    resumed = run(**changes)
    assert "tiny: going on from step 1\n" in capsys.readouterr().out
    assert is_same(run("whole", **changes), resumed)
    assert read_fingerprint(resumed.parent) != manifest["key"]
    assert not (resumed.parent / "state.pt").exists()


def test_train_saves_its_state_at_the_deadline_of_the_run(run, whole, monkeypatch):
    monkeypatch.setenv(time_limit.VARIABLE, "1.0")
    monkeypatch.setattr("lib.artifacts.check_time", lambda what: None)  # of its first step
    with pytest.raises(time_limit.TimeUp, match="stage 'tiny': its share"):
        run()
    monkeypatch.setenv(time_limit.VARIABLE, "")
    assert is_same(whole, run())


NEW_SETTINGS = [
    {"optimizer": "lamb", "learning_rate": 0.001, "ema": 0.7},
    {"optimizer": "nadamw", "learning_rate": 0.001, "layer_decay": 0.5, "average_start": 0.4},
    {"schedule": "one_cycle", "clip_grad": 0.5, "accumulate": 3}
    | {"loss": "subcenter_arcface", "dynamic_margin": True},
    {"hold_out": 0.34, "batch_size": 8, "ema": 0.7, "average_start": 0.4}
    | {"optimizer": "adamw", "learning_rate": 0.001, "decay_bias": False},
    {"augment": AugmentConfig(crop_area=(0.4, 1.0), rotate=10.0), "decode_size": 48},
    {"class_share": 0.5, "batch_size": 2, "epoch_images": 6, "loss": "softmax"},
    {"class_share": 0.5, "batch_size": 4, "epoch_images": 12, "hold_out": 0.34, "ema": 0.7}
    | {"loss": "arcface", "optimizer": "adamw", "accumulate": 2},
]


@pytest.mark.parametrize("settings", NEW_SETTINGS, ids=str)
def test_train_goes_on_after_a_kill_with_every_setting(run, monkeypatch, settings):
    expected = run("expected", **settings)
    killed(monkeypatch, run, TrainingState, "add_step", 3, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(training_state, "SAVE_SECONDS", -1)
        killed(monkeypatch, run, TrainingState, "add_step", 6, **settings)
    resumed = run(**settings)
    assert is_same(expected, resumed)
    pd.testing.assert_frame_equal(history(expected), history(resumed))
    assert not list(resumed.parent.glob("state*"))


def test_train_scores_an_epoch_that_was_killed_before_its_score(run, monkeypatch, held_out):
    expected = run("expected", **held_out)
    monkeypatch.setattr(training_state, "SAVE_SECONDS", -1)
    for calls in (1, 2):
        killed(monkeypatch, run, TrainingState, "add_score", calls, **held_out)
    resumed = run(**held_out)
    assert is_same(expected, resumed)
    pd.testing.assert_frame_equal(history(expected), history(resumed))


def test_train_writes_history_after_every_epoch(run, whole, monkeypatch, tmp_path):
    killed(monkeypatch, run, TrainingState, "add_step", 6)
    written = pd.read_csv(tmp_path / "run" / "history.csv")
    pd.testing.assert_frame_equal(written, history(whole).head(4))


def test_train_goes_on_with_both_heads_of_the_mixed_stream(run, monkeypatch):
    settings = {"cutmix": "code", "sampler": "continent", "schedule": "cosine", "epochs": 3}
    expected = run("expected", **settings)
    for steps in (5, 6):
        killed(monkeypatch, run, TrainingState, "add_step", steps, **settings)
    assert is_same(expected, run(**settings))


def test_train_goes_on_after_a_kill_before_the_signature(run, whole, monkeypatch):
    killed(monkeypatch, run, training.data, "mark_stage_complete")
    monkeypatch.setattr(TrainingState, "add_step", None)  # no step may be taken again
    assert is_same(whole, run())


def test_train_ignores_the_state_of_other_settings(run, whole, monkeypatch, capsys):
    killed(monkeypatch, run, TrainingState, "add_step", 6, epochs=3)
    assert is_same(whole, run())
    assert "going on" not in capsys.readouterr().out


def test_train_with_no_epochs_saves_the_network_it_starts_with(run, whole):
    first = run("first", epochs=0)
    assert history(first).empty
    assert read_fingerprint(first.parent) is not None
    assert is_same(whole, run("second", start=whole, epochs=0))


def test_train_carries_the_head_over_between_nested_lists(run, images):
    start = run("softmax", table=images[images["label"] < 4])
    old = models.load(start).head["weight"]
    grown = run("grown", start=start, loss="arcface", train_list="c2x", epochs=0)
    new = models.load(grown).head["weight"]
    assert new.shape == (6, 32)
    assert torch.equal(new[:4], old)
    assert new[4:].any()


@pytest.mark.parametrize(("before", "after"), [("clean", "cluster"), ("cluster", "clean")])
def test_train_starts_a_new_head_where_classes_are_others(run, before, after):
    start = run("first", train_list=before, epochs=0)
    second = run("second", start=start, train_list=after, epochs=0, seed=1)
    old, new = tensors(start), tensors(second)
    assert old["head.weight"].shape == new["head.weight"].shape
    assert {name for name in old if not torch.equal(old[name], new[name])} == {"head.weight"}


def moved(before, after):
    """Names of the weights that differ between two checkpoints, without BatchNorm's statistics."""
    a, b = tensors(before), tensors(after)
    is_weight = [name for name in a if not name.split(".")[-1].startswith(("running", "num_"))]
    return {name for name in is_weight if not torch.equal(a[name], b[name])}


def test_freeze_backbone_keeps_its_weights_during_its_share(run, whole):
    frozen = moved(whole, run("frozen", start=whole, freeze_backbone=1.0))
    assert {"reduce.weight", "norm.weight", "head.weight"} <= frozen
    assert not any(name.startswith("backbone.") for name in frozen)
    half = moved(whole, run("half", start=whole, freeze_backbone=0.5))
    assert any(name.startswith("backbone.") for name in half)


@pytest.mark.parametrize("cutmix", ["paper", "code"])
def test_train_with_corner_cutmix_learns(run, stripes, images, cutmix):
    checkpoint = run(cutmix=cutmix, epochs=8)
    table = history(checkpoint)
    assert np.isfinite(table["loss"]).all()
    assert table["loss"].iloc[-4:].mean() < 0.8 * table["loss"].iloc[:4].mean()
    assert accuracy(checkpoint, stripes, images) > 0.5
    assert models.load(checkpoint).head["weight"].shape == (6, 32)


def test_corner_cutmix_takes_partners_from_a_second_order_of_the_epoch(run, images, monkeypatch):
    batches = []

    def keep(base, partners, *, generator):
        batches.append((base.clone(), partners.clone()))
        return partners

    monkeypatch.setattr(training, "corner_cutmix", keep)
    run(cutmix="paper", augment=AugmentConfig(flip=0.0))
    streams = [torch.cat(part).flatten(1) for part in zip(*batches, strict=True)]
    for stream in streams:  # each shows every image once per epoch
        for epoch in stream.chunk(2):
            assert len(epoch.unique(dim=0)) == len(images) == 48
    is_itself = (streams[0] == streams[1]).all(dim=1)
    assert is_itself.float().mean() < 0.15  # by chance 1 in 48, of a batch's permutation 1 in 12
    shared = [len(torch.cat(pair).flatten(1).unique(dim=0)) for pair in batches]
    assert min(shared) > 12  # of 12 base images; a permutation of the batch has no others


def test_batches_puts_positions_of_all_samplers_side_by_side(images):
    samplers = [ShuffledSampler(StageConfig(), images[:7], seed=seed) for seed in (0, 1)]
    batches = training._batches(samplers, 3, 0, 2, 3, skip=1)
    orders = [sampler.rows_of(3) for sampler in samplers]
    assert batches == [orders[0][i : i + 2] + orders[1][i : i + 2] for i in (2, 4)]
    assert training._batches(samplers[:1], 3, 0, 2, 3, skip=2) == [orders[0][4:6]]


def test_corner_cutmix_reads_two_losses_off_the_mixed_stream(tiny_stage, tiny_model):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 32, 32, generator=generator)
    mixed = torch.randn(6, 3, 32, 32, generator=generator)
    labels, partners = torch.arange(6), torch.arange(6).flip(0)
    for cutmix, weight in (("paper", 0.5), ("code", 1.0)):
        stage = dataclasses.replace(tiny_stage, cutmix=cutmix)
        classifier = ClassificationModel(stage, models.build_model(tiny_model), torch.ones(6))
        rows = classifier.model(torch.cat([images, mixed]))
        head = classifier.head if cutmix == "paper" else classifier.mixed_head
        expected = classifier.head(rows[:6], labels)
        expected = expected + weight * (head(rows[6:], labels) + head(rows[6:], partners))
        found = classifier(images, labels, mixed, partners)
        torch.testing.assert_close(found, expected)
        assert (classifier.mixed_head is None) == (cutmix == "paper")


@pytest.mark.parametrize("cutmix", ["", "paper"])
def test_classification_model_sums_losses_by_their_weights(tiny_stage, tiny_model, cutmix):
    generator = torch.Generator().manual_seed(0)
    images, mixed = (torch.randn(6, 3, 32, 32, generator=generator) for _ in range(2))
    labels, partners = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([1, 2, 2, 0, 0, 1])
    inputs = (images, labels, mixed, partners) if cutmix else (images, labels)
    stage = dataclasses.replace(tiny_stage, loss="arcface", cutmix=cutmix)
    classifier = ClassificationModel(stage, models.build_model(tiny_model), torch.ones(6))
    head = classifier(*inputs)
    rows = classifier.model(torch.cat([images, mixed]) if cutmix else images)[:6]
    triplet = batch_hard_triplet(rows, labels, margin=0.2)
    weights = {"loss_weight": 0.7, "triplet_weight": 0.4, "triplet_margin": 0.2}
    classifier.stage = dataclasses.replace(stage, **weights)
    assert triplet.item() > 0
    torch.testing.assert_close(classifier(*inputs), 0.7 * head + 0.4 * triplet)


def test_train_with_triplets_and_subcenters_learns(run, stripes, images):
    checkpoint = run(
        loss="subcenter_arcface",
        sampler="class_uniform",
        triplet_weight=1.0,
        dynamic_margin=True,
        epochs=8,
    )
    table = history(checkpoint)
    assert np.isfinite(table["loss"]).all()
    assert table["loss"].iloc[-4:].mean() < 0.9 * table["loss"].iloc[:4].mean()
    assert models.load(checkpoint).head["weight"].shape == (6, 3, 32)


def test_train_tells_what_a_weight_file_gave(run, tiny_model, tmp_path, capsys):
    weights = models.build_model(tiny_model).backbone.state_dict()
    weights.pop("bn1.weight")
    torch.save(weights, tmp_path / "net.pth")
    model = dataclasses.replace(tiny_model, weights=str(tmp_path / "net.pth"))
    run(model=model, epochs=0)
    printed = capsys.readouterr().out
    assert f"tiny: weights from {tmp_path / 'net.pth'}: " in printed
    assert "1 missing (bn1.weight), 0 unexpected, 0 wrong shape" in printed


def test_a_weight_file_counts_by_its_content(tiny_stage, tiny_model, dataset, tmp_path):
    def key(name, content):
        (tmp_path / name).write_bytes(content)
        model = dataclasses.replace(tiny_model, weights=str(tmp_path / name))
        return stage_key(tiny_stage, model, gldv2.training_list(dataset, "clean"))

    first = key("one.pth", b"one")
    assert key("moved.pth", b"one") == first
    assert key("one.pth", b"other") != first


def test_build_classification_model_draws_weights_from_the_seed_alone(tiny_stage, tiny_model):
    torch.manual_seed(0)
    first = build_classification_model(
        tiny_stage, tiny_model, torch.ones(6), start=None, seed=4
    ).state_dict()
    torch.manual_seed(1)
    again = build_classification_model(
        tiny_stage, tiny_model, torch.ones(6), start=None, seed=4
    ).state_dict()
    other = build_classification_model(
        tiny_stage, tiny_model, torch.ones(6), start=None, seed=5
    ).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("sampler", ["shuffle", "continent", "at_least", "class_uniform"])
def test_train_draws_epochs_of_the_asked_length(run, sampler):
    checkpoint = run(sampler=sampler, epoch_images=24, at_least=2)
    assert history(checkpoint)["step"].tolist() == [1, 2, 3, 4]
    assert read_json(checkpoint.parent / "manifest.json")["images_seen"] == 48


@pytest.mark.parametrize(("count", "drawn", "found"), [(11, 0, 11), (0, 0, 0), (48, 10, 10)])
def test_train_refuses_less_than_a_batch(run, images, tmp_path, count, drawn, found):
    with pytest.raises(
        ValueError, match=f"one batch of 12 images for stage 'tiny', found {found};"
    ):
        run(table=images.iloc[:count], epoch_images=drawn)
    assert not (tmp_path / "run").exists()


def test_train_refuses_a_table_that_is_no_training_list(run, images, tmp_path):
    with pytest.raises(ValueError, match="with a label and a landmark_id for each image, found no"):
        run(table=images[["id", "path"]])
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_train_reports_unreadable_images_and_goes_on(run, images, stripes, capsys):
    folder = stripes / "train" / "f" / "f" / "f"
    folder.mkdir(parents=True, exist_ok=True)
    broken = images.iloc[:10].copy()
    for number in range(10):
        name = f"fff{number:013x}"
        (folder / f"{name}.jpg").write_bytes(b"\xff\xd8 no photograph"[:number])
        broken.iloc[number, broken.columns.get_loc("path")] = f"train/f/f/f/{name}.jpg"
    checkpoint = run(table=pd.concat([images, broken], ignore_index=True))
    assert np.isfinite(history(checkpoint)["loss"]).all()
    out = capsys.readouterr().out
    assert "10 images could not be read and were replaced by grey, first train/f/f/f/" in out


@pytest.mark.filterwarnings("ignore:.*cannot be read")
@pytest.mark.parametrize("allowance", [2**31, 0])
def test_train_refuses_to_sign_when_too_many_cannot_be_read(
    run, images, stripes, tmp_path, monkeypatch, allowance
):
    monkeypatch.setattr("lib.data.images.IN_MEMORY", allowance)
    paths = images["path"].tolist()
    for number in range(11):
        paths[number] = f"train/e/e/e/eee{number}.jpg"
        (stripes / paths[number]).parent.mkdir(parents=True, exist_ok=True)
        (stripes / paths[number]).write_bytes(b"no photograph")
    with pytest.raises(
        ValueError, match=r"48 images of stage 'tiny' in .*, found at least 11 that"
    ):
        run(table=images.assign(path=paths))
    assert list((tmp_path / "run").iterdir()) == []


def test_train_refuses_a_folder_without_its_images(run, images, tmp_path):
    gone = images.assign(path="elsewhere/" + images["path"])
    with pytest.raises(ValueError, match="found 48 of 48 looked for missing, the first elsewhere/"):
        run(table=gone)
    assert not (tmp_path / "run").exists()


def test_train_trains_again_when_its_images_changed(run, images, stripes, finished, capsys):
    assert run() == finished
    assert capsys.readouterr().out == ""
    path = stripes / images["path"][0]
    before = path.read_bytes()
    shutil.copy(stripes / images["path"][40], path)
    try:
        run()
    finally:
        path.write_bytes(before)
    assert capsys.readouterr().out.startswith("stage 'tiny': images changed since 2")


@pytest.mark.parametrize("changes", [{"learning_rate": 1e9}, {"learning_rate": 1e9, "epochs": 1}])
def test_train_stops_when_the_loss_is_not_finite(run, tmp_path, changes):
    with pytest.raises(
        ValueError, match=r"'tiny' stopped: its (loss|weight) .* lower learning_rate"
    ):
        run(**changes)
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"state.pt"}


STOPPED = (
    r"loss is nan at epoch 2 of 2, step 6 \(images train/.*; lower learning_rate \(.*, "
    r"raise warmup, set clip_grad, .* the precision"
)


def test_train_keeps_the_last_state_before_a_loss_that_is_not_finite(
    run, whole, monkeypatch, images, tiny_stage, capsys
):
    original, calls = TrainingState.add_step, itertools.count(1)

    def add_step(self, loss, rate):
        original(self, loss * float("nan") if next(calls) == 6 else loss, rate)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "add_step", add_step)
        with pytest.raises(ValueError, match=STOPPED) as stopped:
            run()
    rows = ShuffledSampler(tiny_stage, images).rows_of(1)[12:24]
    paths = images["path"].iloc[rows].tolist()
    assert f"images of step 6: {', '.join(paths)}\n" in capsys.readouterr().out
    assert f"{paths[2]} and 9 more)" in str(stopped.value)
    assert is_same(whole, run())  # from the state after the first epoch


@pytest.mark.parametrize("epochs", [0, 2])
def test_train_does_not_write_weights_that_are_not_finite(run, monkeypatch, tmp_path, epochs):
    def broken(*values, **options):
        classifier = build_classification_model(*values, **options)
        classifier.model.norm.running_mean[3] = float("nan")
        return classifier

    monkeypatch.setattr(training, "build_classification_model", broken)
    with pytest.raises(ValueError, match=r"weight model\.norm\.running_mean is not finite"):
        run(epochs=epochs)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"PK cut", b"\0" * 100])
def test_train_starts_again_from_a_damaged_state(run, whole, tmp_path, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.pt").write_bytes(content)
    assert is_same(whole, run())


def test_train_clears_what_kills_left_in_its_folder(run, finished):
    (finished.parent / "state.pt").write_bytes(b"between the signature and its removal")
    run()
    assert not (finished.parent / "state.pt").exists()
    (finished.parent / left_by_a_kill("state.pt")).write_bytes(b"no process has this number")
    finished.write_bytes(b"cut")
    run()
    assert sorted(path.name for path in finished.parent.iterdir()) == [
        "history.csv",
        "manifest.json",
        "model.safetensors",
    ]


def test_train_augments_every_step_with_draws_of_its_own(run, monkeypatch):
    drawn = []

    class Spy(training.Augment):
        def __call__(self, images, generator, **options):
            drawn.append(generator.initial_seed())
            return super().__call__(images, generator, **options)

    monkeypatch.setattr(training, "Augment", Spy)
    run("first")
    run("other", seed=1)
    assert len(drawn) == len(set(drawn)) == 16
    run("again")
    assert drawn[16:] == drawn[:8]


def test_train_shows_its_curves_to_the_tracker(run, monkeypatch):
    class Kept(GeneralTracker):
        name, requires_logging_directory, tracker, rows = "kept", False, None, []

        def log(self, values, step=None, **_):
            self.rows.append({"step": step, **values})

        def store_init_configuration(self, values):
            pass

    def with_tracker(**options):
        return Accelerator(**options | {"log_with": [Kept()]})

    monkeypatch.setattr(training, "Accelerator", with_tracker)
    table = history(run())
    np.testing.assert_allclose(pd.DataFrame(Kept.rows)[table.columns], table, rtol=1e-5)


@pytest.mark.parametrize(("has_gpu", "expected"), [(False, [False, True]), (True, [False, False])])
def test_is_slow_in_half_means_depthwise_convolutions_on_a_cpu(monkeypatch, has_gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    grouped = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 8, 3, groups=4))
    depthwise = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 16, 3, groups=8))
    assert [training.is_slow_in_half(backbone) for backbone in (grouped, depthwise)] == expected


@pytest.mark.skipif(training.precision() == "no", reason="this machine has float32 alone")
@pytest.mark.parametrize("is_slow", [False, True])
def test_train_leaves_half_precision_out_for_backbones_that_are_slow_in_it(
    run, monkeypatch, is_slow
):
    seen = []

    def watch(classifier, *inputs):
        seen.append(classifier.model(inputs[0]).dtype)
        return forward(classifier, *inputs)

    forward = ClassificationModel.forward
    monkeypatch.setattr(training, "is_slow_in_half", lambda backbone: is_slow)
    monkeypatch.setattr(ClassificationModel, "forward", watch)
    run(epochs=1)
    assert (set(seen) == {torch.float32}) == is_slow


def test_train_prints_a_line_per_epoch(run, capsys):
    run()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["tiny 1/2", "tiny 2/2"]
    assert all("loss" in line and "images/s" in line and "s left" in line for line in lines)


def test_train_prints_lines_within_an_epoch(run, capsys, monkeypatch):
    monkeypatch.setattr(training, "progress", partial(progress, seconds=0))
    run(epochs=1)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"tiny 1/1: 1 of 4 \(25%\), loss [\d.]+, \d+ images/s", first)
    assert last.startswith("tiny 1/1: loss")


def test_train_gives_processes_the_table_as_one_file(run, whole, images, monkeypatch):
    """What several processes make of it: tests/test_distributed."""

    def launched(work, job, processes):
        assert processes == 2
        work, job = pickle.loads(pickle.dumps((work, job)))  # as for another process
        assert job.rows.parent == job.folder
        rows = np.load(job.rows, mmap_mode="r")
        assert gldv2.unpack_list(rows, job.words)["label"].tolist() == images["label"].tolist()
        work(job)

    monkeypatch.setattr(training, "launch", launched)
    found = run(processes=2)
    assert is_same(whole, found)
    assert len(list(found.parent.iterdir())) == len(list(whole.parent.iterdir()))


@pytest.mark.parametrize(("chosen", "expected"), [({}, [1]), ({"OMP_NUM_THREADS": "3"}, [])])
def test_train_takes_as_many_threads_as_cores_are_allowed(run, monkeypatch, chosen, expected):
    counts = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)  # by affinity and quota
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    run(epochs=0)
    assert counts == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"loss": "arcfase"},
            "'loss' expects .*'cosface'.* found 'arcfase'; did you mean 'arcface'",
        ),
        ({"sampler": "continents"}, "'sampler' expects .*; did you mean 'continent'"),
        ({"schedule": "step"}, "'schedule' expects one of 'constant', .* found 'step'"),
        (
            {"augment": AugmentConfig(steps=("flap", "normalise"))},
            "'augment.steps' expects .*'crop', .* found 'flap'; did you mean 'flip'",
        ),
        ({"augment": AugmentConfig(steps=("flip",))}, "the step 'normalise' once"),
        ({"optimizer": "adamv"}, "'optimizer' expects .* found 'adamv'; did you mean adamw?"),
        ({"accumulate": 5}, "into 1 processes of 5 parts .*, found 12;"),
        (
            {"class_share": 0.5, "optimizer": "lamb"},
            "among sgd, adam, adamw, lion for class_share below 1, found 'lamb'",
        ),
        ({"decode_size": 16}, "decode_size 0, or at least size 32 .* found 16"),
        (
            {"decode_size": 64, "augment": AugmentConfig(steps=("normalise",))},
            "with the step 'affine', found 64",
        ),
    ],
)
def test_train_refuses_names_that_are_not_registered(run, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        run(**changes)
    assert "stage 'tiny'" in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_train_takes_what_is_registered_with_one_line_each(run, monkeypatch):
    class HalvedHead(MarginHead):
        def with_margin(self, cosine, margin):
            return cosine / 2

    class SameSampler(ShuffledSampler):
        def draw_epoch(self, generator):
            return self.rows

    augmented = []

    def grey(images, config, generator):
        augmented.append(len(images))
        return images.float().mean(dim=1, keepdim=True).expand_as(images)

    monkeypatch.setitem(LOSSES, "halved", HalvedHead)
    monkeypatch.setitem(SAMPLERS, "same", SameSampler)
    monkeypatch.setitem(SCHEDULES, "linear", lambda t: 1.0 - t)
    monkeypatch.setitem(AUGMENTATIONS, "grey", grey)
    augment = AugmentConfig(steps=("flip", "grey", "normalise"))
    table = history(
        run(loss="halved", sampler="same", schedule="linear", augment=augment, epochs=1)
    )
    np.testing.assert_allclose(table["learning_rate"], [0.1, 0.075, 0.05, 0.025])
    assert augmented == [12] * 4


@pytest.mark.parametrize("loss", ["arcface", "cosface", "subcenter_arcface"])
def test_train_learns_with_a_margin_from_a_softmax_stage(run, whole, loss):
    table = history(run(start=whole, loss=loss, epochs=6, learning_rate=0.05))
    losses = table.groupby("epoch")["loss"].mean()
    assert losses.iloc[-1] < 0.8 * losses.iloc[0]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_train_takes_an_own_pipeline_as_its_augmentation(run, whole, monkeypatch):
    def pipeline(limit=0.2):
        return A.Compose([A.HorizontalFlip(p=0.5), A.RandomBrightnessContrast(limit, p=1.0)])

    own = pipeline()
    first = run("own", own=own)
    assert not is_same(whole, first)
    before = first.stat().st_mtime_ns
    assert run("own", own=own).stat().st_mtime_ns == before  # the same object, used by now
    assert run("own", own=pipeline()).stat().st_mtime_ns == before
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)  # with other numbers of workers
    assert is_same(first, run("again", own=pipeline()))
    assert run("own", own=pipeline(0.3)).stat().st_mtime_ns > before


def test_train_refuses_a_pipeline_that_cannot_tell_what_it_does(run, tmp_path):
    for own in (A.Compose([A.Lambda(image=np.asarray)]), "flip"):
        with pytest.raises(ValueError, match=r"an albumentations\.Compose whose to_dict tells"):
            run(own=own)
    assert not (tmp_path / "run").exists()


def test_freeze_norm_keeps_the_statistics_of_the_backbone(run):
    start, plain, frozen = (
        models.load(run(str(i), **changes)).model
        for i, changes in enumerate(({"epochs": 0}, {}, {"freeze_norm": True}))
    )

    def is_kept(model):
        names = [n for n, _ in start.named_buffers() if n.endswith(("mean", "var"))]
        pairs = ((model.get_buffer(n), start.get_buffer(n)) for n in names if "backbone" in n)
        return all(torch.equal(*pair) for pair in pairs)

    assert is_kept(frozen)
    assert not is_kept(plain)
    weights = (next(model.backbone.parameters()) for model in (start, frozen))
    assert not torch.equal(*weights)


def test_the_neck_pca_is_fitted_to_the_images_of_the_stage(run, tiny_model, dataset, stripes):
    model = dataclasses.replace(tiny_model, neck="pca", whitening=0.5, embedding_dim=8)
    found = models.load(run(model=model)).model
    assert found.config.embedding_dim == 8
    images = SquareImages(
        ImageSource(stripes), gldv2.training_list(dataset, "clean")["path"].tolist(), 32
    )
    pixels = torch.from_numpy(images[range(len(images))][0])
    with torch.inference_mode():
        features = found.pooled(normalise(pixels, found.mean, found.std))
    projected = found.reduce(features[:, :, None, None]).flatten(1)
    torch.testing.assert_close(projected.mean(0), torch.zeros(8), atol=1e-3, rtol=0)
    covariance = torch.cov(projected.T)
    off_diagonal = covariance - torch.diag(covariance.diag())
    assert off_diagonal.abs().max() < 0.05 * covariance.diag().max()


def test_halves_side_by_side_give_the_gradients_of_the_whole_batch(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    stage = StageConfig(freeze_norm=True, batch_size=8, cutmix="paper", augment=AugmentConfig())
    config = ModelConfig(backbone="test_resnet", embedding_dim=16, neck="linear")

    def build(stage, **changes):
        own = dataclasses.replace(config, **changes)
        return build_classification_model(stage, own, torch.ones(5), start=None, seed=0)

    model = build(stage).double()
    assert training._can_be_halved(stage, model)
    assert not training._can_be_halved(dataclasses.replace(stage, triplet_weight=1.0), model)
    assert not training._can_be_halved(stage, build(stage, neck="linear_bn"))
    assert not training._can_be_halved(stage, build(stage, drop_path=0.1))
    assert not training._can_be_halved(stage, build(dataclasses.replace(stage, freeze_norm=False)))
    inputs = [torch.randn(8, 3, 32, 32).double(), torch.arange(8) % 5]
    inputs += [torch.randn(8, 3, 32, 32).double(), (torch.arange(8) + 1) % 5]
    loss = 0.25 * model(*inputs)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    with ThreadPoolExecutor(2) as pool:
        found = training._backward_in_halves(model, inputs, 0.25, nullcontext, pool)
    torch.testing.assert_close(found, loss.detach())
    for value, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(value.grad, gradient)


def test_halves_side_by_side_share_no_rounded_weights():
    class Sum(torch.nn.Linear):
        def forward(self, rows):
            kept.append(torch.is_autocast_cache_enabled())
            return super().forward(rows).float().sum()

    kept, autocast = [], partial(torch.autocast, "cpu", torch.bfloat16)
    with ThreadPoolExecutor(2) as pool:
        training._backward_in_halves(Sum(4, 4), [torch.ones(2, 4)], 1.0, autocast, pool)
    assert kept == [False, False]
    assert torch.is_autocast_cache_enabled()
