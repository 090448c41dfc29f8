"""Test time per image: every image counted, one by one."""

import torch

from lib import latency, models
from lib.config import InferenceConfig
from lib.latency import WARM_UP, milliseconds_per_image


def test_milliseconds_per_image_times_single_images_after_a_warm_up(
    tiny_model, tmp_path, monkeypatch
):
    checkpoint = models.save(tmp_path / "model.safetensors", models.build_model(tiny_model))
    shapes, ticks = [], iter([10.0, 10.5])

    def describe(model, pixels, inference):
        shapes.append(tuple(pixels.shape))
        return torch.zeros(1, 32)

    monkeypatch.setattr(latency, "describe", describe)
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(ticks))
    inference = InferenceConfig(32, scales=(1.0, 2.0))
    assert milliseconds_per_image(checkpoint, inference, images=25) == 20.0
    assert shapes == [(1, 3, 64, 64)] * (WARM_UP + 25)
