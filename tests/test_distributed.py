"""Several processes: each gets its place and finds the others, and an error comes back."""

import hashlib
import io
import os
import pickle
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator, PartialState

from lib import distributed
from lib.artifacts import ROOT, read_json
from lib.data import training_list
from lib.distributed import ThreadChoice, check_gpus, launch, side_by_side, work_alone
from lib.environment import VARIABLES, cores
from lib.kernel import imported_early
from lib.retrieval import embedding
from lib.time_limit import TimeUp
from lib.training import train
from tests.made_up import wait_for
from tests.retrieval.test_embedding import embed_job, rows_of, save_network

COUNT = torch.cuda.device_count() + 2  # more than there are GPUs, so on the CPU


def gather(folder):
    """Write what a process sees of the others; fails where it sees none."""
    accelerator = Accelerator()
    ranks = accelerator.gather(torch.tensor([accelerator.process_index]))
    seen = f"{accelerator.num_processes} {ranks.tolist()} {accelerator.device.type}"
    (folder / str(accelerator.process_index)).write_text(seen)
    assert {name: os.environ[name] for name in VARIABLES} == VARIABLES | {"MALLOC_ARENA_MAX": "3"}


def ask(folder):
    """Work in `folder` as one of several processes, whose own answers differ."""
    rank = os.environ["RANK"]
    with work_alone(folder / "stage", lambda: "main" if rank == "0" else "other") as answer:
        (folder / f"answer of {rank}").write_text(answer)


def work_together(job):
    """All that several processes do here, because to start them takes seconds; the second fails."""
    folder, embedded, trained = job
    with redirect_stdout(io.StringIO()) as said:
        written = train(*trained).stat().st_mtime_ns
        assert train(*trained).stat().st_mtime_ns == written  # nothing to do
    (folder / f"said by {os.environ['RANK']}").write_text(said.getvalue())
    embed_job(embedded)
    gather(folder)
    ask(folder)
    if os.environ["RANK"] == "1":
        raise RuntimeError("the second process broke")


@pytest.fixture(scope="module")
def together(tmp_path_factory, tiny_stage, tiny_model, dataset, stripes):
    """The folder in which processes worked, and what they embedded and trained."""
    folder = tmp_path_factory.mktemp("together")
    checkpoint = save_network(tiny_model, folder / "network" / "model.safetensors")
    images = training_list(dataset, "clean")
    embedded = checkpoint, images, stripes, folder / "pair"
    stage = replace(tiny_stage, batch_size=6 * COUNT, epochs=8)
    trained = stage, tiny_model, images, stripes, folder / "trained"
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.setenv("MALLOC_ARENA_MAX", "3")  # what the user set is kept
        # What hangs or misleads a forked child: threads, and what accelerate knows of this process.
        PartialState()
        torch.randn(400, 400) @ torch.randn(400, 400)
        before = dict(os.environ)
        with imported_early(), pytest.raises(RuntimeError, match=r"^the second process broke$"):
            launch(work_together, (folder, embedded, trained), COUNT)
        assert dict(os.environ) == before
    return folder, embedded, trained


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


def test_launch_gives_processes_their_places_and_hands_errors_back(together):
    places = [(together[0] / str(rank)).read_text() for rank in range(COUNT)]
    assert set(places) == {f"{COUNT} {list(range(COUNT))} cpu"}


def test_embed_in_two_processes_gives_the_same_rows(together, tmp_path, monkeypatch):
    *job, folder = together[1]
    monkeypatch.setattr(embedding, "BLOCK", 10)
    embed_job((*job, tmp_path))
    assert np.array_equal(rows_of(tmp_path), rows_of(folder))


@pytest.mark.parametrize("error", [TimeUp("it is over"), PermissionError(13, "denied", "/x")])
def test_errors_of_ours_come_back_from_a_process_as_they_are(error):
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found)) == (type(error), str(error))


def test_side_by_side_waits_for_no_process_when_it_is_interrupted(monkeypatch):
    def interrupted(calls):
        raise KeyboardInterrupt

    monkeypatch.setattr(distributed, "as_completed", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        side_by_side(time.sleep, [(99,), (99,)], 2)
    assert time.monotonic() - began < 60


def test_train_in_two_processes_trains_one_network(together):
    folder, _, (stage, _, images, _, trained) = together
    steps = len(images) // stage.batch_size
    history = pd.read_csv(trained / "history.csv")
    assert history["step"].tolist() == list(range(1, 8 * steps + 1))
    assert read_json(trained / "manifest.json")["images_seen"] == 8 * steps * stage.batch_size
    said = [(folder / f"said by {rank}").read_text() for rank in range(COUNT)]
    assert len([line for line in "".join(said).splitlines() if line.startswith("tiny ")]) == 8
    losses = history.groupby("epoch")["loss"].mean()
    assert losses.iloc[-1] < 0.75 * losses.iloc[0]


def test_work_alone_lets_the_main_process_decide_for_all(together):
    folder = together[0]
    assert {(folder / f"answer of {rank}").read_text() for rank in range(COUNT)} == {"main"}
    with work_alone(folder / "stage", lambda: "") as answer:
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
        wait_for(lambda: not _is_alive(pid), 30)


def _is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, but nobody has asked yet


class Machine:
    """Steps take seconds by the number of threads; `wait`, `used`: cores waited for and got."""

    def __init__(self, monkeypatch, threads):
        self.now = self.got = self.waited = 0.0
        self.threads = threads
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.threads)
        monkeypatch.setattr(torch, "set_num_threads", lambda count: setattr(self, "threads", count))
        clock = SimpleNamespace(perf_counter=lambda: self.now, process_time=lambda: self.got)
        monkeypatch.setattr(distributed, "time", clock)
        monkeypatch.setattr(distributed, "_waited_for_cores", lambda: self.waited)

    def train(self, choice, seconds, took, *, used, wait):
        """Threads of every step of so many seconds."""
        end, seen = self.now + seconds, []
        while self.now < end:
            seen.append(self.threads)
            passed = took[self.threads]
            self.now += passed
            self.got += passed * used[self.threads]
            self.waited += passed * wait
            choice.after_step()
        return seen


def test_thread_choice_takes_fewer_beside_other_work_and_all_again_after_it(monkeypatch):
    machine = Machine(monkeypatch, 2)
    choice = ThreadChoice()
    alone = {"took": {1: 0.014, 2: 0.010}, "used": {1: 1.0, 2: 1.9}, "wait": 0.01}
    busy = {"took": {1: 0.015, 2: 0.1}, "used": {1: 1.0, 2: 0.9}, "wait": 0.8}
    assert set(machine.train(choice, 30, **alone)) == {2}
    seen = machine.train(choice, 120, **busy)
    assert seen[-1] == 1
    images = len(seen) / 120 * busy["took"][1]
    assert images > 0.9  # of what a thread alone trains, trials included
    seen = machine.train(choice, 120, **alone)
    assert seen[-1] == 2
    assert np.mean(np.array(seen) == 2) > 0.4
    assert set(machine.train(choice, 60, **alone)) == {2}


@pytest.mark.parametrize(
    ("used", "wait"),
    [
        (1.9, 0.5),  # its own threads want the same cores, all of which it gets
        (0.9, 0.0),  # it waits for something else
    ],
)
def test_thread_choice_tries_nothing_where_other_processes_take_no_core(monkeypatch, used, wait):
    machine = Machine(monkeypatch, 2)
    figures = {"took": {1: 0.01, 2: 0.01}, "used": {2: used}, "wait": wait}
    assert set(machine.train(ThreadChoice(), 30, **figures)) == {2}


def test_thread_choice_keeps_all_where_fewer_are_no_faster(monkeypatch):
    machine = Machine(monkeypatch, 8)
    took = {count: 0.08 / count for count in range(1, 9)}
    used = {count: 0.8 * count for count in range(1, 9)}
    seen = machine.train(ThreadChoice(), 300, took, used=used, wait=0.4)
    assert np.mean(np.array(seen) == 8) > 0.9
    assert set(seen) == {8, 6}


def test_waited_for_cores_counts_threads_that_want_more_cores_than_there_are():
    if not Path("/proc/self/schedstat").is_file():
        pytest.skip("this system does not tell")
    before = distributed._waited_for_cores()
    threads = 4 * cores()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: hashlib.sha256(bytes(2**24)).digest(), range(threads)))
        assert distributed._waited_for_cores() > before  # of threads that still live
