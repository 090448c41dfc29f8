"""Embedding: views of one image, and unit float16 rows that are resumable block by block."""

import dataclasses
import errno
import itertools
import os
import pickle
import shutil
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from lib import artifacts, data
from lib.artifacts import read_fingerprint, read_manifest
from lib.config import InferenceConfig
from lib.data.images import ImageSource, SquareImages, load_batches
from lib.data.training_lists import training_list
from lib.models import network as models
from lib.models.network import build_model, normalise
from lib.retrieval import embedding
from lib.retrieval.embedding import embed, embed_and_search, extract_embeddings, largest_size, sizes
from lib.retrieval.embedding_table import read_embeddings
from lib.retrieval.scoring import map_of_usage, score_queries
from lib.training.stage import train

SMALL = InferenceConfig(size=32)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """48 images are five blocks, the last one short."""
    monkeypatch.setattr(embedding, "BLOCK", 10)


@pytest.fixture(scope="module")
def network(tiny_model, tmp_path_factory):
    return save_network(tiny_model, tmp_path_factory.mktemp("network") / "model.safetensors")


@pytest.fixture
def checkpoint(network, tmp_path):
    """A file of this test's own."""
    (tmp_path / "network").mkdir()
    return shutil.copy(network, tmp_path / "network" / "model.safetensors")


def save_network(config, path, seed=0):
    """A network whose BatchNorm layers have seen some images, so that rows differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = models.build_model(config).train()
        for _ in range(5):
            model(torch.randn(16, 3, 32, 32))
    return models.save(path, model)


@pytest.fixture
def run(checkpoint, images, stripes, tmp_path):
    """Embed into a folder called `name`."""

    def call(name="run", *, table=images, start=checkpoint, processes=None, **options):
        folder, given = tmp_path / name, {"batch_size": 4, "processes": processes}
        inference = InferenceConfig(**{"size": 32} | options)
        return embed(start, table, stripes, folder, inference, **given)

    return call


def rows_of(folder):
    return np.array(read_embeddings(folder).rows)


@pytest.fixture
def counted(monkeypatch):
    """The number of images of every forward pass."""
    counts, original = [], embedding.extract_embeddings

    def counting(model, pixels, inference):
        counts.append(len(pixels))
        return original(model, pixels, inference)

    monkeypatch.setattr(embedding, "extract_embeddings", counting)
    return counts


def naive(checkpoint, images, root, flip=False):
    """Rows in float32, all images at once."""
    model = models.load(checkpoint).model
    source, paths = ImageSource(root), images["path"].tolist()
    ((pixels, _),) = load_batches(SquareImages(source, paths, 32), [range(len(paths))])
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.mean, model.std))
    inputs = (pixels / 255 - mean) / std
    with torch.inference_mode():
        rows = model(inputs)
        rows = rows / rows.norm(dim=1, keepdim=True)
        if flip:
            other = model(inputs.flip(3))
            rows = rows + other / other.norm(dim=1, keepdim=True)
            rows = rows / rows.norm(dim=1, keepdim=True)
    return rows.numpy()


@pytest.mark.parametrize("flip", [False, True])
def test_embed_agrees_with_one_plain_forward_pass(run, checkpoint, images, stripes, flip):
    found = read_embeddings(run(flip=flip))
    expected = naive(checkpoint, images, stripes, flip)
    assert found.rows.dtype == np.float16
    assert found.rows.shape == (48, 32)
    np.testing.assert_allclose(np.linalg.norm(found.rows.astype(float), axis=1), 1.0, atol=2e-3)
    cosines = (found.rows * expected).sum(axis=1)
    assert cosines.min() > 0.995  # bfloat16 where the processor multiplies in it
    assert (found.rows.astype(float) @ expected.T).argmax(axis=1).tolist() == list(range(48))


def test_embed_keeps_the_order_and_spelling_of_ids(run, images):
    for name, table in (("as given", images), ("shuffled", images.sample(frac=1, random_state=1))):
        found = read_embeddings(run(name, table=table))
        assert found.ids.tolist() == table["id"].tolist()
        assert len(found) == 48
    first, second = read_embeddings(run("as given")), read_embeddings(run("shuffled"))
    place = pd.Index(first.ids).get_indexer(second.ids)
    cosines = (first.rows[place].astype(float) * second.rows).sum(axis=1)
    np.testing.assert_allclose(cosines, 1.0, atol=3e-3)


def test_embed_reads_ids_that_look_like_numbers_or_nothing(run, images):
    table = images.iloc[:4].assign(id=["0000000000000012", "NA", "1e5", "null"])
    assert read_embeddings(run(table=table)).ids.tolist() == table["id"].tolist()


def test_embed_does_nothing_the_second_time(run, counted):
    folder = run()
    assert sum(counted) == 48
    files = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert sorted(files) == ["embeddings.npy", "ids.csv", "manifest.json"]
    assert run() == folder
    assert sum(counted) == 48
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == files


@pytest.mark.parametrize("change", ["flip", "size", "images", "order", "checkpoint"])
def test_embed_embeds_again_when_anything_changes(
    run, images, tiny_model, tmp_path, counted, change
):
    before = rows_of(run())
    other = {
        "flip": lambda: {"flip": True},
        "size": lambda: {"size": 24},
        "images": lambda: {"table": images.iloc[:20]},
        "order": lambda: {"table": images.iloc[::-1]},
        "checkpoint": lambda: {"start": save_network(tiny_model, tmp_path / "b.safetensors", 1)},
    }[change]()
    counted.clear()
    again = rows_of(run(**other))
    assert sum(counted) == len(again)
    assert again.shape != before.shape or not np.array_equal(again, before)


def test_embed_embeds_again_when_the_checkpoint_was_replaced(run, tiny_model, checkpoint):
    before = rows_of(run())
    save_network(tiny_model, checkpoint, seed=2)
    os.utime(checkpoint, ns=(1, 1))
    assert not np.array_equal(rows_of(run()), before)


def test_embed_follows_a_stage_that_was_trained_again(
    tiny_stage, tiny_model, images, stripes, tmp_path, run, counted
):
    for epochs, is_new in ((1, True), (1, False), (0, True)):
        stage = dataclasses.replace(tiny_stage, epochs=epochs)
        counted.clear()
        run(start=train(stage, tiny_model, images, stripes, tmp_path / "stage"))
        assert sum(counted) == 48 * is_new


def test_embed_does_nothing_after_a_run_folder_was_moved(
    tiny_stage, tiny_model, images, stripes, tmp_path, counted
):
    stage = dataclasses.replace(tiny_stage, epochs=0)
    here, there = tmp_path / "here", tmp_path / "there"
    checkpoint = train(stage, tiny_model, images, stripes, here / "stage")
    embed(checkpoint, images, stripes, here / "rows", SMALL)
    here.rename(there)
    counted.clear()
    embed(there / "stage" / checkpoint.name, images, stripes, there / "rows", SMALL)
    assert counted == []


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library catches it."""


def killed_at(monkeypatch, run, name, call, owner=embedding):
    """Embed, and die in the given call of a function of `owner`."""
    original, calls = getattr(owner, name), []

    def dying(*values, **facts):
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return original(*values, **facts)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with pytest.raises(Killed):
            run()


@pytest.mark.parametrize(("call", "left"), [(1, 48), (6, 38), (8, 28), (14, 8)])
def test_embed_goes_on_with_the_missing_blocks(run, monkeypatch, counted, call, left):
    # Three forward passes a block: 4, 4 and 2 images.
    whole = rows_of(run("whole"))
    killed_at(monkeypatch, run, "extract_embeddings", call)
    with pytest.raises(ValueError, match=r"finished embeddings in .*run, found none"):
        read_embeddings(run("whole").parent / "run")
    counted.clear()
    np.testing.assert_array_equal(rows_of(run()), whole)
    assert sum(counted) == left
    assert sorted(path.name for path in (run()).iterdir()) == [
        "embeddings.npy",
        "ids.csv",
        "manifest.json",
    ]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (artifacts, "mark_complete"),
        (artifacts, "write_csv"),
        (data, "mark_stage_complete"),
        (data, "report_unreadable"),
    ],
)
def test_embed_survives_a_kill_before_and_after_its_blocks(run, monkeypatch, owner, name):
    whole = rows_of(run("whole"))
    killed_at(monkeypatch, run, name, 1, owner)
    np.testing.assert_array_equal(rows_of(run()), whole)


@pytest.mark.parametrize("method", ["replace", "unlink"])
def test_embed_survives_a_kill_between_its_last_files(run, monkeypatch, method):
    whole = rows_of(run("whole"))
    kind = type(run("whole"))  # of paths
    original = getattr(kind, method)

    def dying(self, *values, **facts):
        original(self, *values, **facts)
        if self.parent.name == embedding.PARTIAL:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(kind, method, dying)
        with pytest.raises(Killed):
            run()
    np.testing.assert_array_equal(rows_of(run()), whole)


def test_embed_does_not_mix_blocks_of_two_checkpoints(run, monkeypatch, tiny_model, tmp_path):
    other = save_network(tiny_model, tmp_path / "other.safetensors", seed=1)
    killed_at(monkeypatch, run, "extract_embeddings", 8)
    expected = rows_of(run("expected", start=other))
    np.testing.assert_array_equal(rows_of(run(start=other)), expected)


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_embed_reports_unreadable_images_once(run, images, capsys):
    paths = ["train/0/0/0/none.jpg", *images["path"][1:]]
    found = rows_of(run(table=images.assign(path=paths)))
    assert np.isfinite(found).all()
    out = capsys.readouterr().out
    assert out.count("1 images could not be read and were replaced by grey") == 1


@pytest.mark.filterwarnings("ignore:.*cannot be read")
@pytest.mark.parametrize(("broken", "is_refused"), [(10, False), (11, True)])
def test_embed_refuses_to_sign_when_too_many_cannot_be_read(
    run, images, stripes, tmp_path, broken, is_refused
):
    paths = images["path"].tolist()
    for number in range(broken):
        paths[number] = f"train/e/e/e/eee{number}.jpg"
        (stripes / paths[number]).parent.mkdir(parents=True, exist_ok=True)
        (stripes / paths[number]).write_bytes(b"no photograph")
    if is_refused:
        with pytest.raises(ValueError, match=r"images of embedding 'run' in .*, found at least 11"):
            run(table=images.assign(path=paths))
        assert read_fingerprint(tmp_path / "run") is None
    else:
        manifest = read_manifest(run(table=images.assign(path=paths)))
        assert manifest["unreadable"] == broken
        assert sorted(manifest["unreadable_images"]) == paths[:broken]


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_embed_remembers_unreadable_images_over_a_kill(run, images, monkeypatch):
    table = images.assign(path=["train/0/0/0/none.jpg", *images["path"][1:]])
    killed_at(monkeypatch, lambda: run(table=table), "extract_embeddings", 8)
    manifest = read_manifest(run(table=table))
    assert manifest["unreadable_images"] == ["train/0/0/0/none.jpg"]


def test_embed_refuses_embeddings_that_are_not_finite(run, images, monkeypatch, tmp_path):
    original = embedding.extract_embeddings

    def broken(model, pixels, inference):
        rows = original(model, pixels, inference)
        rows[-1] = float("nan")
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(embedding, "extract_embeddings", broken)
        first = images["id"].iloc[3]
        with pytest.raises(ValueError, match=f"NaN or infinity for 3 of 10 images, .* {first}; "):
            run()
    assert read_fingerprint(tmp_path / "run") is None
    assert np.isfinite(rows_of(run())).all()


@pytest.mark.parametrize("at", ["start", "middle"])
def test_embed_names_a_full_disk_and_goes_on_when_there_is_room(run, monkeypatch, counted, at):
    whole, calls = rows_of(run("whole")), []

    def full(*_):
        calls.append(at)
        if at == "start" or len(calls) == 12:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(embedding.os, "posix_fallocate" if at == "start" else "fsync", full)
        with pytest.raises(
            OSError, match=r"cannot write .*run/partial.*: No space left on device;"
        ):
            run()
    counted.clear()
    np.testing.assert_array_equal(rows_of(run()), whole)
    assert (sum(counted) < 48) == (at == "middle")


@pytest.mark.parametrize("name", ["embeddings.npy", "ids.csv", "manifest.json"])
def test_embed_embeds_again_when_a_file_was_cut(run, name):
    folder = run()
    whole = rows_of(folder)
    (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match="expected finished embeddings"):
        read_embeddings(folder)
    np.testing.assert_array_equal(rows_of(run()), whole)


def test_embed_of_no_images_is_an_empty_matrix(run, images):
    found = read_embeddings(run(table=images.iloc[:0]))
    assert found.rows.shape == (0, 32)
    assert found.ids.tolist() == []


def embed_job(job):
    """What each of several processes does (tests/test_distributed)."""
    embedding.BLOCK = 10
    embed(*job, SMALL, batch_size=4)
    embed(*job, dataclasses.replace(SMALL, flip=True), batch_size=4)


@pytest.mark.parametrize(("processes", "started"), [(2, 2), (9, 5), (None, 1)])
def test_embed_starts_a_process_per_gpu_and_no_more_than_blocks(
    run, monkeypatch, processes, started
):
    expected, asked = rows_of(run("one")), []

    def launched(work, job, count):
        asked.append(count)
        assert len(pickle.dumps(job)) < 10_000  # the table stays here
        work(job)

    monkeypatch.setattr(embedding, "launch", launched)
    monkeypatch.setattr(embedding, "BLOCK", 10)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert np.array_equal(rows_of(run("several", processes=processes)), expected)
    assert asked == [started]


def test_embed_in_threads_gives_the_same_rows(run, monkeypatch):
    one, before = rows_of(run("one")), torch.get_num_threads()
    names, original = set(), embedding.extract_embeddings

    def slow(model, pixels, inference):
        names.add(threading.current_thread().name)
        assert (len(pixels), torch.get_num_threads()) in {(2, 1), (1, 1)}  # a batch of 4, shared
        time.sleep(0.01)
        return original(model, pixels, inference)

    monkeypatch.setattr(embedding, "extract_embeddings", slow)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)  # by affinity and quota
    try:
        several = rows_of(run("several"))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(one, several)
    assert {name[-2:] for name in names} == {"_0", "_1", "_2"}


def test_embed_reads_while_it_computes(run, monkeypatch):
    computing, ahead, calls = threading.Event(), threading.Event(), itertools.count()
    compute, read = embedding.extract_embeddings, ImageSource.read_resized

    def computes(*arguments):
        if next(calls) == 0:
            computing.set()
            assert ahead.wait(timeout=20)
        return compute(*arguments)

    def reads(*arguments):
        if computing.is_set():
            ahead.set()
        return read(*arguments)

    monkeypatch.setattr(embedding, "extract_embeddings", computes)
    monkeypatch.setattr(ImageSource, "read_resized", reads)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # else later tests have two
    run()
    assert ahead.is_set()


@pytest.fixture
def model(tiny_model):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(tiny_model).eval()


def squares(side, count=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (InferenceConfig(100), (100,)),
        (InferenceConfig(64, scales=(0.5, 1.0, 2.0)), (32, 64, 128)),
        (InferenceConfig(70, scales=(0.01, 1.0)), (16, 70)),
    ],
)
def test_sizes_are_multiples_of_sixteen_but_for_the_size_itself(config, expected):
    assert sizes(config) == expected
    assert largest_size(config) == max(expected)


def test_largest_size_refuses_what_is_no_view():
    with pytest.raises(ValueError, match="one or more positive scales, found"):
        largest_size(InferenceConfig(64, scales=()))


def test_extract_embeddings_of_one_view_is_the_networks_own_row(model):
    pixels = squares(64)
    with torch.no_grad():
        expected = model.embed(normalise(pixels, model.mean, model.std))
        torch.testing.assert_close(extract_embeddings(model, pixels, InferenceConfig(64)), expected)


def test_extract_embeddings_averages_mirrored_and_rescaled_views(model):
    config = InferenceConfig(64, flip=True, scales=(0.5, 1.0))
    pixels = squares(64)
    images = normalise(pixels, model.mean, model.std)
    smaller = F.interpolate(images, size=(32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        rows = [model.embed(v) for view in (images, smaller) for v in (view, view.flip(3))]
        found = extract_embeddings(model, pixels, config)
    torch.testing.assert_close(found, F.normalize(torch.stack(rows).mean(0), dim=1))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_extract_embeddings_with_flip_is_the_same_for_the_mirror_image(model):
    config = InferenceConfig(64, flip=True)
    pixels = squares(64)
    with torch.no_grad():
        found, mirrored = (
            extract_embeddings(model, pixels, config),
            extract_embeddings(model, pixels.flip(3), config),
        )
        plain = extract_embeddings(model, pixels.flip(3), dataclasses.replace(config, flip=False))
    torch.testing.assert_close(found, mirrored)
    assert not torch.allclose(found, plain, atol=1e-3)


@pytest.fixture(scope="module")
def trained(tiny_stage, tiny_model, dataset, stripes, tmp_path_factory):
    images, folder = training_list(dataset, "clean"), tmp_path_factory.mktemp("stage")
    return train(tiny_stage, tiny_model, images, stripes, folder)


def test_embed_and_search_finds_each_query_its_landmark(trained, evaluation, stripes, tmp_path):
    ranking = embed_and_search(trained, evaluation, stripes, tmp_path, SMALL, k=5)
    assert ranking.positions.shape == (12, 5)
    scores = score_queries(ranking, evaluation)
    landmark = evaluation.gallery.set_index("id")["landmark_id"]
    first = [landmark[ids[0]] for ids in ranking.predictions().values()]
    truth = {q: landmark[next(iter(a))] for s in evaluation.solution.values() for q, a in s.items()}
    hits = [
        truth[query] == found for query, found in zip(ranking.predictions(), first, strict=True)
    ]
    assert np.mean(hits) > 0.6
    assert (scores.set_index("id")["first_hit"] == 1).sum() == sum(hits)
    assert map_of_usage(scores) > 0.5
    assert map_of_usage(scores, "Public") > 0.5


def test_embed_and_search_embeds_only_what_is_missing(
    trained, evaluation, stripes, tmp_path, monkeypatch
):
    first = embed_and_search(trained, evaluation, stripes, tmp_path, SMALL, k=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gallery", "query"]
    monkeypatch.setattr(embedding, "_embed", None)
    second = embed_and_search(trained, evaluation, stripes, tmp_path, SMALL, k=5)
    np.testing.assert_array_equal(first.positions, second.positions)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_embed_reads_the_next_block_while_one_is_written(run, monkeypatch):
    read, seen = [], []
    original = SquareImages.__getitem__

    def reading(self, positions):
        read.append(len(positions))
        return original(self, positions)

    def noted(job, source):
        time.sleep(0.2)  # the pool has one thread
        seen.append(sum(read))

    monkeypatch.setattr(embedding, "BLOCK", 20)
    monkeypatch.setattr(SquareImages, "__getitem__", reading)
    monkeypatch.setattr(embedding, "_note_unreadable", noted)
    run()
    assert seen[0] > 20
    assert (seen[-1], len(seen)) == (48, 3)
    assert not [one for one in threading.enumerate() if "ThreadPoolExecutor" in one.name]
