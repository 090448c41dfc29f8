"""The state of a training: losses that are not finite, and its history."""

from contextlib import nullcontext as nothing

import numpy as np
import pytest
import torch

from lib.training.checkpoint import TrainingState


def test_fetch_lets_float16_leave_out_steps_that_overflow(tiny_stage, tmp_path):
    for losses, is_wrong in (([1.0, float("inf"), 2.0], False), ([1.0, float("nan")], True)):
        state = TrainingState(tiny_stage, 4, "key", tmp_path / "state.pt", precision="fp16")
        for loss in losses:
            state.add_step(torch.tensor(loss), 0.1)
        kept = state.pending
        for is_underway in (True, False):
            state.losses, state.pending = [], list(kept)
            is_told = is_wrong and not is_underway
            with pytest.raises(ValueError, match="loss is nan") if is_told else nothing():
                state.fetch(is_underway=is_underway)


def test_history_has_about_fifty_pieces_an_epoch(tiny_stage, tmp_path):
    state = TrainingState(tiny_stage, 130, "key", tmp_path / "state.pt")
    for step in range(260):
        state.add_step(torch.tensor(float(step)), 1.0 / (step + 1))
    table = state.history()
    assert len(table) == 87  # of three steps each, the last of two
    assert table["step"].iloc[-1] == 260
    assert table["loss"].iloc[0] == 1.0
    assert table["learning_rate"].iloc[0] == pytest.approx(1 / 3)
    assert (table["epoch"] == (table["step"] - 1) // 130 + 1).all()


def test_restore_brings_scores_weights_and_the_scaler_back(tiny_stage, tmp_path):
    def state():
        found = TrainingState(tiny_stage, 2, "key", tmp_path / "state.pt", precision="fp16")
        found.parts = {"classifier": network, "optimizer": optimizer}
        found.parts |= {"scaler": torch.amp.GradScaler("cpu")}
        return found

    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    before = state()
    before.parts["scaler"].load_state_dict(
        before.parts["scaler"].state_dict() | {"scale": 128.0, "_growth_tracker": 7}
    )
    before.add_score(0.5, network.state_dict())
    best = network.weight.detach().clone()
    torch.nn.init.zeros_(network.weight)
    before.add_score(0.4, network.state_dict())
    before.save()
    after = state()
    after.restore()
    assert after.parts["scaler"].state_dict() == before.parts["scaler"].state_dict()
    assert after.parts["scaler"].state_dict()["scale"] == 128.0
    assert after.scores == [0.5, 0.4]
    assert torch.equal(after.best["weight"], best)


def test_history_has_the_scores_of_whole_epochs(tiny_stage, tmp_path):
    state = TrainingState(tiny_stage, 130, "key", tmp_path / "state.pt")
    state.add_score(0.1, {})
    for step in range(130):
        state.add_step(torch.tensor(float(step)), 0.1)
    state.add_score(0.2, {})
    table = state.history()
    scores = table.dropna(subset="held_out_map")
    assert scores[["epoch", "step", "held_out_map"]].to_numpy().tolist() == [
        [0, 0, 0.1],
        [1, 130, 0.2],
    ]
    assert table["step"].is_monotonic_increasing
    assert np.isnan(table["loss"].iloc[0])
