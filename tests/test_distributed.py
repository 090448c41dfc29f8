"""Several processes: each gets its place and finds the others, and an error comes back."""

import os
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator, PartialState
from torch.multiprocessing import ProcessRaisedException

from lib.artifacts import ROOT
from lib.distributed import check_gpus, launch, work_alone
from lib.environment import VARIABLES
from lib.time_limit import TimeUp

COUNT = torch.cuda.device_count() + 2  # more than there are GPUs, so on the CPU


def gather(folder):
    """Write what a process sees of the others; fails where it sees none."""
    accelerator = Accelerator()
    ranks = accelerator.gather(torch.tensor([accelerator.process_index]))
    seen = f"{accelerator.num_processes} {ranks.tolist()} {accelerator.device.type}"
    (folder / str(accelerator.process_index)).write_text(seen)
    assert {name: os.environ[name] for name in VARIABLES} == VARIABLES | {"MALLOC_ARENA_MAX": "3"}
    accelerator.wait_for_everyone()
    if accelerator.process_index == 1 and (folder / "fail").exists():
        raise RuntimeError("the second process broke")


BUILT = ["sm_75", "sm_80", "sm_90a", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "is_supported"),
    [
        *[((6, 0), False), ((7, 0), False), ((7, 5), True), ((8, 9), True), ((9, 0), True)],
        *[((10, 0), False), ((12, 0), True), ((12, 1), True), ((13, 0), True)],
    ],
)
def test_check_gpus_names_a_gpu_without_code(monkeypatch, capability, is_supported):
    found = {
        "is_available": lambda: True,
        "get_arch_list": lambda: BUILT,
        "device_count": lambda: 2,
        "get_device_capability": lambda place: capability if place else (8, 0),
        "get_device_name": lambda place: "Tesla X",
    }
    for name, value in found.items():
        monkeypatch.setattr(torch.cuda, name, value)
    told = f"GPU 1, Tesla X, of compute capability {capability[0]}.{capability[1]}, only 7.5, 8.0"
    refused = pytest.raises(ValueError, match=re.escape(told))
    with nullcontext() if is_supported else refused:
        check_gpus()


def test_launch_runs_here_when_one_process_is_enough(tmp_path):
    places = []
    launch(places.append, tmp_path, 1)
    assert places == [tmp_path]


def test_launch_starts_nothing_where_accelerate_launch_did(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "8")
    places = []
    launch(places.append, tmp_path, 8)
    assert places == [tmp_path]


def test_launch_gives_processes_their_places_and_hands_errors_back(tmp_path, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")  # what the user set is kept
    # What hangs or misleads a forked child: threads, and what accelerate knows of this process.
    PartialState()
    torch.randn(400, 400) @ torch.randn(400, 400)
    before = dict(os.environ)
    (tmp_path / "fail").touch()
    with pytest.raises(ProcessRaisedException, match="second process broke"):
        launch(gather, tmp_path, COUNT)
    assert dict(os.environ) == before
    places = [(tmp_path / str(rank)).read_text() for rank in range(COUNT)]
    assert set(places) == {f"{COUNT} {list(range(COUNT))} cpu"}


@pytest.mark.parametrize(
    ("last", "kind", "sentence"),
    [
        ("ValueError: expected this: found that", ValueError, "expected this: found that"),
        ("PermissionError: [Errno 13] denied: '/x'", OSError, "[Errno 13] denied: '/x'"),
        ("lib.time_limit.TimeUp: embedding: it is over", TimeUp, "embedding: it is over"),
        ("KeyError: 3", ProcessRaisedException, "Traceback"),
        ("lib.x.OwnError: 3", ProcessRaisedException, "Traceback"),
    ],
)
def test_launch_raises_the_sentence_of_a_process_that_refuses(monkeypatch, last, kind, sentence):
    def refuse(*_, **__):
        raise ProcessRaisedException(f"Process 1 ...\nTraceback\n  File x\n{last}\n", 1, 7)

    monkeypatch.setattr("lib.distributed.start_processes", refuse)
    with pytest.raises(kind) as raised:
        launch(print, "job", 2)
    assert type(raised.value) is kind
    assert sentence in str(raised.value)


def ask(folder):
    """Work in `folder` as one of several processes, whose own answers differ."""
    rank = os.environ["RANK"]
    with work_alone(folder / "stage", lambda: "main" if rank == "0" else "other") as answer:
        (folder / rank).write_text(answer)


def test_work_alone_lets_the_main_process_decide_for_all(tmp_path):
    launch(ask, tmp_path, COUNT)
    assert {(tmp_path / str(rank)).read_text() for rank in range(COUNT)} == {"main"}
    with work_alone(tmp_path / "stage", lambda: "") as answer:
        assert answer == ""


def test_end_with_ends_a_worker_after_the_process_that_started_it_was_killed():
    worker = "import os, time; from lib.artifacts import end_with; end_with(os.getppid()); "
    worker += "print(os.getpid(), flush=True); time.sleep(60)"
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", starter], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        pid = int(process.stdout.readline())
        process.kill()
        give_up = time.monotonic() + 30
        while _is_alive(pid) and time.monotonic() < give_up:
            time.sleep(0.1)
    assert not _is_alive(pid)


def _is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, but nobody has asked yet
