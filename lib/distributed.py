"""Start the processes of a stage, or take those of `accelerate launch`; precision; locks.

Processes are not forked from this one as by accelerate's own launchers: GPU and OpenMP threads,
which it may have used, do not survive a fork.
"""

import contextlib
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState, utils
from threadpoolctl import threadpool_limits

from lib.artifacts import end_with, locked, peak_memory, start_as
from lib.environment import cores, forks, unset_variables

J = TypeVar("J")
T = TypeVar("T")
# Of `ThreadChoice`, in seconds: over which steps are counted; for which threads have waited before
# fewer are tried; between two trials, longer after one that changed nothing.
COUNTED, PATIENCE, TRIAL_EVERY, TRIAL_EVERY_AT_MOST = 0.5, 1.0, 10.0, 60.0
GAIN = 1.15  # how much faster another number has to be
WAITING, GETTING = 0.2, 0.85  # cores that threads wait for; the share of all that they get at most


def precision() -> str:
    """bfloat16 where the hardware multiplies in it, float16 on older GPUs, float32 elsewhere."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def limit_threads() -> None:
    """Let torch use the cores that this process may use, unless OMP_NUM_THREADS is set."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores())


class ThreadChoice:
    """How many threads torch computes with: fewer while other processes keep the cores busy.

    OpenMP's threads wait for each other in every layer, so one that shares its core holds up all.
    A thread alone waits for none: beside one busy process on two cores it trains a small network
    several times as fast as two. Fewer are tried only where threads have waited a second for
    cores that the process does not get (known on Linux alone), all of them again from time to
    time, and what trains faster stays. A machine at rest computes with all, so with the same sums.
    """

    def __init__(self) -> None:
        self.all = self.usual = torch.get_num_threads()
        self.rates: dict[int, float] = {}  # steps/s of what is compared, by the number of threads
        self.pause, self.next_trial, self.patience = TRIAL_EVERY, 0.0, PATIENCE
        self.start()

    def start(self) -> None:
        """Begin to measure, as after other work than steps."""
        self.steps, self.began = 0, time.perf_counter()
        self.used, self.waited = time.process_time(), _waited_for_cores()

    def stop(self) -> None:
        """Let what follows compute with all again."""
        if torch.get_num_threads() != self.all:
            torch.set_num_threads(self.all)

    def after_step(self) -> None:
        """Count a step, and change the number of threads where another may be faster."""
        self.steps += 1
        now, threads = time.perf_counter(), torch.get_num_threads()
        seconds = now - self.began
        if seconds < COUNTED:
            return
        used = (time.process_time() - self.used) / seconds
        waited = (_waited_for_cores() - self.waited) / seconds
        is_held_up = waited > WAITING and used < GETTING * self.all
        self.patience = self.patience - seconds if is_held_up else PATIENCE
        fewer = max(1, min(threads - 1, round(used))) if self.patience < 0 else threads
        tried = self.all if threads < self.all else fewer
        self.rates[threads] = self.steps / seconds
        if len(self.rates) == 2:  # a trial is over
            best = max(self.rates, key=self.rates.__getitem__)
            wins = best != self.usual and self.rates[best] > GAIN * self.rates[self.usual]
            self.usual = best if wins else self.usual
            self.pause = TRIAL_EVERY if wins else min(2 * self.pause, TRIAL_EVERY_AT_MOST)
            self.next_trial, self.rates = now + self.pause, {}
            torch.set_num_threads(self.usual)
        elif now >= self.next_trial and tried != threads:
            torch.set_num_threads(tried)
        else:
            self.rates = {}
        self.start()


def _waited_for_cores() -> float:
    """Seconds that threads of this process were ready but had no core; 0 where nobody tells."""
    total = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has ended
            total += int(path.read_text().split()[1])
    return total / 1e9


def processes_to_start(processes: int | None = None) -> int:
    """How many `launch` starts: one per GPU by default, and 1, this one, under accelerate."""
    return 1 if is_launched() else processes or max(1, torch.cuda.device_count())


def check_gpus() -> None:
    """Raise ValueError if there is a GPU that this build of torch has no code for.

    Its code for X.Y runs on a compute capability of the same X and at least Y, and what it has as
    PTX on every later one.
    """
    if not torch.cuda.is_available():
        return
    built = [
        re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", one) for one in torch.cuda.get_arch_list()
    ]
    built = [(found[1], (int(found[2]), int(found[3]))) for found in built if found]
    for place in range(torch.cuda.device_count()):
        own = torch.cuda.get_device_capability(place)
        if built and not any(
            version <= own and (kind == "compute" or version[0] == own[0])
            for kind, version in built
        ):
            known = ", ".join(sorted({f"{high}.{low}" for _, (high, low) in built}, key=float))
            raise ValueError(
                f"torch {torch.__version__} does not support GPU {place}, "
                f"{torch.cuda.get_device_name(place)}, of compute capability {own[0]}.{own[1]}, "
                f"only {known}; choose another GPU, install a torch that supports it (any that "
                "pyproject.toml allows), or hide it with CUDA_VISIBLE_DEVICES"
            )


def is_main_process() -> bool:
    """Whether this process is the only one of its job or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def total_processes(processes: int | None = None) -> int:
    """How many work on one job: those of `accelerate launch`, or those that `launch` starts."""
    return int(os.environ["WORLD_SIZE"]) if is_launched() else processes_to_start(processes)


def launch(work: Callable[[J], None], job: J, processes: int | None = None) -> None:
    """Call `work(job)` here, or once in each of several processes that `accelerate` finds.

    A process imports `work`, a function of a module. By default there is one process per GPU; more
    than there are GPUs run on the CPU. The first error of a process is raised here.
    """
    gpus, wanted = torch.cuda.device_count(), processes_to_start(processes)
    if wanted == 1:
        work(job)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # a free one
    place = {"world_size": wanted, "node_rank": 0, "master_addr": "127.0.0.1", "master_port": port}
    place |= unset_variables()
    if wanted > gpus:
        place["accelerate_use_cpu"] = "yes"
        place["gloo_socket_ifname"] = "lo0" if sys.platform == "darwin" else "lo"
    kind = utils.DistributedType.MULTI_GPU if wanted <= gpus else utils.DistributedType.MULTI_CPU
    prepared, jobs = utils.PrepareForLaunch(work, kind), [(rank, job) for rank in range(wanted)]
    with utils.patch_environment(**place):
        if wanted > gpus:
            side_by_side(prepared, jobs, wanted)
        else:
            _in_processes(prepared, jobs, wanted, "spawn", partial(end_with, os.getpid()))


def side_by_side(
    work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], processes: int
) -> list[T]:
    """What `work(*job)` returns for each job: one by one here, or in so many processes at once.

    They share the cores, unless OMP_NUM_THREADS is set. The first error is raised here and ends the
    others, which also end with this process.
    """
    if processes == 1:
        return [work(*job) for job in jobs]
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, cores() // processes))
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    begin = partial(_begin, environment, os.getpid(), threads)
    return _in_processes(work, jobs, processes, "forkserver" if forks() else "spawn", begin)


def _begin(environment: Mapping[str, str], parent: int, threads: int) -> None:
    """Let a new process compute with so many threads."""
    start_as(environment, parent)
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _in_processes(
    work: Callable[..., T],
    jobs: Sequence[tuple[Any, ...]],
    processes: int,
    method: str,
    begin: Callable[[], None],
) -> list[T]:
    """What `work(*job)` returns for each job, in processes that do as `begin` does first."""
    context = get_context(method)
    with ProcessPoolExecutor(processes, mp_context=context, initializer=begin) as pool:
        calls = [pool.submit(work, *job) for job in jobs]
        try:
            for call in as_completed(calls):
                call.result()
            return [call.result() for call in calls]
        except BaseException:  # the first error, or ^C, to which they are deaf
            for process in active_children():
                process.terminate()
            raise
        finally:
            peak_memory(*(one.pid for one in active_children()))  # kept for the run's timings


def is_launched() -> bool:
    """Whether this process is one of several that `accelerate launch` started for one job."""
    return "WORLD_SIZE" in os.environ


@contextlib.contextmanager
def work_alone(folder: str | Path, work_left: Callable[[], str]) -> Iterator[str]:
    """Lock `folder`, a stage's result, and yield what `work_left` returns, "" for nothing to do.

    Of several processes of one job the main one calls it for all, and does not wait for the lock.
    """
    if not is_launched():
        with locked(folder):
            yield work_left()
        return
    state = PartialState(cpu=utils.parse_flag_from_env("ACCELERATE_USE_CPU"))
    with contextlib.ExitStack() as held:
        answer = [""]
        if state.is_main_process:
            held.enter_context(locked(folder, waits=False))  # the others would give up waiting
            answer = [work_left()]
        utils.broadcast_object_list(answer)
        yield answer[0]
        state.wait_for_everyone()
