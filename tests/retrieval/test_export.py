"""Exported descriptors: the library's embeddings from raw pixels, files that are whole, cards."""

import dataclasses
import importlib.util
import json
import re

import numpy as np
import pytest
import torch

from lib import artifacts, models, retrieval
from lib.config import InferenceConfig
from lib.data import stretch
from lib.retrieval import export
from lib.retrieval.__main__ import main
from lib.retrieval.export import Descriptor, export_descriptor, read_descriptor, square

PLAIN = InferenceConfig(size=32)
VIEWS = InferenceConfig(size=32, flip=True, scales=(0.7, 1.0, 1.4))
SHAPES = ((60, 80), (20, 30), (32, 32), (90, 20), (2, 2))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, tiny_model):
    """Two networks that tell their test size and recipe."""
    paths = []
    for number, inference in enumerate((PLAIN, VIEWS)):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            model = models.build_model(tiny_model).train()
            for _ in range(5):  # for BatchNorm, so that rows differ
                model(torch.randn(16, 3, 32, 32))
        folder = tmp_path_factory.mktemp("run") / f"stage{number}"
        facts = {"inference": dataclasses.asdict(inference), "recipe": f"recipe-{number}"}
        path = models.save(folder / "model.safetensors", model, train_list="clean", **facts)
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def photos():
    """Smooth pixels of several shapes."""
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (6, 6, 3), dtype=np.uint8) for _ in SHAPES]
    return [
        np.ascontiguousarray(stretch(one, 90)[:height, :width])
        for one, (height, width) in zip(noise, SHAPES, strict=True)
    ]


def expected_rows(checkpoints, photos):
    """What the library computes, of all networks side by side."""
    rows = [
        retrieval.Retriever(path, retrieval.Gallery([]), inference).embed(photos)
        for path, inference in zip(checkpoints, (PLAIN, VIEWS), strict=False)
    ]
    rows = np.hstack(rows)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("size", [8, 31, 64])
def test_square_resizes_as_the_library_does(size):
    generator, wrong, count = np.random.default_rng(size), 0, 0
    for height, width in [
        (2 * size, 2 * size),
        (size, 4 * size),
        *generator.integers(1, 150, (30, 2)),
    ]:
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        found = square(torch.from_numpy(pixels), size).permute(1, 2, 0).numpy()
        difference = np.abs(found - stretch(pixels, size))
        assert difference.max() <= 1  # where a sum lies between two integers
        wrong, count = wrong + np.count_nonzero(difference), count + difference.size
    assert wrong < 0.005 * count


@pytest.mark.parametrize("count", [1, 2])
def test_descriptor_gives_the_embeddings_of_the_library(checkpoints, photos, count):
    descriptor = read_descriptor(checkpoints[:count])
    assert descriptor.inference == [PLAIN, VIEWS][:count]
    for photo, row in zip(photos, expected_rows(checkpoints[:count], photos), strict=True):
        found = descriptor(torch.from_numpy(photo)).detach().numpy()
        assert found.shape == (32 * count,)
        assert found @ row > 0.9999


def test_export_to_torch_is_read_with_and_without_the_library(checkpoints, photos, tmp_path):
    first = checkpoints[:1]
    folder = export_descriptor(first, tmp_path / "out", to="torch", photos=photos[:2])
    names = ["README.md", "config.json", "descriptor.pt2", "model.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    alone = torch.export.load(folder / "descriptor.pt2").module()
    again = Descriptor.from_pretrained(folder)
    for photo, row in zip(photos, expected_rows(first, photos), strict=True):
        for model in (alone, again):
            assert model(torch.from_numpy(photo)).detach().numpy() @ row > 0.9999


def test_from_pretrained_reads_what_push_to_hub_uploads(checkpoints, photos, tmp_path):
    descriptor = read_descriptor(checkpoints)
    descriptor.save_pretrained(tmp_path / "hub")  # as push_to_hub does before it uploads
    again = Descriptor.from_pretrained(tmp_path / "hub")
    pixels = torch.from_numpy(photos[0])
    assert torch.equal(again(pixels), descriptor(pixels))
    assert not again.training
    told = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert told["members"] == again.members
    assert "from_pretrained" in (tmp_path / "hub" / "README.md").read_text()
    again.save_pretrained(tmp_path / "again")
    card = (tmp_path / "again" / "README.md").read_text()
    assert "Landmark descriptor: recipe-0 + recipe-1" in card


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, export.NEEDED)), reason="onnx is optional"
)
def test_export_to_onnx_takes_pixels_of_any_size(checkpoints, photos, tmp_path):
    import onnxruntime

    folder = export_descriptor(checkpoints, tmp_path / "out", photos=photos[:2])
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "descriptor.onnx"]
    session = onnxruntime.InferenceSession(folder / "descriptor.onnx")
    for photo, row in zip(photos, expected_rows(checkpoints, photos), strict=True):
        (found,) = session.run(["global_descriptor"], {"input_image": photo})
        assert found @ row > 0.9999


def test_export_to_onnx_names_the_packages_that_are_missing(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ValueError, match=r"found no onnxscript; run pip install onnxscript"):
        export_descriptor(checkpoints, tmp_path / "out")


def eager(descriptor, path):
    """Stands in for an exporter: computes as the module itself."""
    path.write_text("")
    return lambda pixels: descriptor(torch.from_numpy(pixels)).detach().numpy()


def test_export_writes_nothing_that_differs_from_the_library(checkpoints, tmp_path, monkeypatch):
    def wrong(descriptor, path):
        return lambda pixels: -eager(descriptor, path)(pixels)

    monkeypatch.setattr(export, "_write_torch", wrong)
    with pytest.raises(SystemExit, match=r"found a cosine of .*nothing is written"):
        main(["export", str(checkpoints[0]), "--to", "torch", "--out", str(tmp_path / "out")])
    assert list(tmp_path.iterdir()) == []


def test_export_card_has_the_numbers_of_the_networks_queries(
    checkpoints, stripes, evaluation, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, "_write_torch", eager)
    embeddings = checkpoints[0].parent / "embeddings"
    ranking = retrieval.embed_and_search(checkpoints[0], evaluation, stripes, embeddings, PLAIN)
    scores = retrieval.score_queries(ranking, evaluation)
    folder = export_descriptor(checkpoints[:1], tmp_path / "out", to="torch")
    card = (folder / "README.md").read_text()
    for usage in ("Public", "Private"):
        mean = retrieval.map_of_usage(scores, usage)
        assert re.search(rf"\| {usage} \| \d+ \| {mean:.3f} \(\d\.\d+ to \d\.\d+\) \|", card)
    for fact in ("recipe-0", "resnet10t", "| clean |", "32 px", "4 photographs", "CC BY"):
        assert fact in card
    both = export_descriptor(checkpoints, tmp_path / "both", to="torch")
    assert "Not measured" in (both / "README.md").read_text()


def test_read_descriptor_wants_a_size_where_none_is_told(tiny_model, tmp_path):
    path = models.save(tmp_path / "stage" / "model.safetensors", models.build_model(tiny_model))
    with pytest.raises(ValueError, match=r"expected .* to tell its test size"):
        read_descriptor([path])
    assert read_descriptor([path], VIEWS).inference == [VIEWS]
    assert artifacts.read_manifest(path.parent) is None
