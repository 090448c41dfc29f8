"""The state of a training: losses that are not finite, and its history."""

from contextlib import nullcontext as nothing

import pytest
import torch

from lib.training.checkpoint import TrainingState


def test_fetch_lets_float16_leave_out_steps_that_overflow(tiny_stage, tmp_path):
    for losses, is_wrong in (([1.0, float("inf"), 2.0], False), ([1.0, float("nan")], True)):
        state = TrainingState(tiny_stage, 4, "key", tmp_path / "state.pt", precision="fp16")
        for loss in losses:
            state.add_step(torch.tensor(loss), 0.1, 12)
        with pytest.raises(ValueError, match="loss is nan") if is_wrong else nothing():
            state.fetch()


def test_history_has_about_fifty_pieces_an_epoch(tiny_stage, tmp_path):
    state = TrainingState(tiny_stage, 130, "key", tmp_path / "state.pt")
    for step in range(260):
        state.add_step(torch.tensor(float(step)), 1.0 / (step + 1), 12)
    table = state.history()
    assert len(table) == 87  # of three steps each, the last of two
    assert table["step"].iloc[-1] == 260
    assert table["loss"].iloc[0] == 1.0
    assert table["learning_rate"].iloc[0] == pytest.approx(1 / 3)
    assert (table["epoch"] == (table["step"] - 1) // 130 + 1).all()
