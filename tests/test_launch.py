"""Several processes: each gets its place and finds the others, and an error comes back."""

import os

import pytest
import torch
from accelerate import Accelerator, PartialState

from lib.launch import launch

COUNT = torch.cuda.device_count() + 2  # more than there are GPUs, so on the CPU


def gather(folder):
    """Write what a process sees of the others; fails where it sees none."""
    accelerator = Accelerator()
    ranks = accelerator.gather(torch.tensor([accelerator.process_index]))
    seen = f"{accelerator.num_processes} {ranks.tolist()} {accelerator.device.type}"
    (folder / str(accelerator.process_index)).write_text(seen)
    accelerator.wait_for_everyone()
    if accelerator.process_index == 1 and (folder / "fail").exists():
        raise RuntimeError("the second process broke")


def test_launch_runs_here_when_one_process_is_enough(tmp_path):
    places = []
    launch(places.append, tmp_path, 1)
    assert places == [tmp_path]


def test_launch_starts_nothing_where_accelerate_launch_did(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "8")
    places = []
    launch(places.append, tmp_path, 8)
    assert places == [tmp_path]


def test_launch_gives_processes_their_places_and_hands_errors_back(tmp_path):
    # What hangs or misleads a forked child: threads, and what accelerate knows of this process.
    PartialState()
    torch.randn(400, 400) @ torch.randn(400, 400)
    before = dict(os.environ)
    (tmp_path / "fail").touch()
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="second process broke"):
        launch(gather, tmp_path, COUNT)
    assert dict(os.environ) == before
    places = [(tmp_path / str(rank)).read_text() for rank in range(COUNT)]
    assert set(places) == {f"{COUNT} {list(range(COUNT))} cpu"}
