"""Test time per image: every image counted, one by one, networks in turn."""

import torch

from lib.ablation import runner as latency
from lib.ablation.runner import WARM_UP, milliseconds_per_image
from lib.config import InferenceConfig
from lib.models import network as models


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

    monkeypatch.setattr(latency, "extract_embeddings", extract_embeddings)
    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock[0])
    networks = {
        "large": (checkpoint, InferenceConfig(32, scales=(1.0, 2.0))),
        "small": (checkpoint, InferenceConfig(32)),
    }
    found = milliseconds_per_image(networks, images=25)
    assert {name: round(value, 6) for name, value in found.items()} == {"large": 20, "small": 5}
    warm_up = [64] * WARM_UP + [32] * WARM_UP
    assert sides == warm_up + ([64] * 10 + [32] * 10) * 2 + [64] * 5 + [32] * 5
