"""Start a stage's processes from wherever we are, a notebook, a script, a test; and end with them.

`accelerate launch` starts them on a cluster; then there is nothing left to do here. Otherwise they
are spawned, not forked as by accelerate's own launchers: by then this process may have used the GPU
or OpenMP threads to embed, and neither survives a fork (the children raise or hang).
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate.utils import DistributedType, PrepareForLaunch, patch_environment
from torch.multiprocessing import start_processes

J = TypeVar("J")


def launch(work: Callable[[J], None], job: J, processes: int | None = None) -> None:
    """Call `work(job)` here, or once in each of several processes that `accelerate` finds.

    Args:
        work: a function of a module, so that a fresh process can import it.
        job: what it works on; travels by pickle.
        processes: how many; one per GPU by default. More than there are GPUs run on the CPU.
    """
    gpus = torch.cuda.device_count()
    wanted = processes or max(1, gpus)
    if wanted == 1 or "WORLD_SIZE" in os.environ:
        work(job)
        return
    place = {
        "world_size": wanted,
        "node_rank": 0,
        "master_addr": "127.0.0.1",
        "master_port": _free_port(),
    }
    if wanted > gpus:
        place["accelerate_use_cpu"] = "yes"
        place["gloo_socket_ifname"] = "lo0" if sys.platform == "darwin" else "lo"
        place["omp_num_threads"] = max(1, (os.cpu_count() or 1) // wanted)
    kind = DistributedType.MULTI_GPU if wanted <= gpus else DistributedType.MULTI_CPU
    with patch_environment(**place):
        start_processes(PrepareForLaunch(work, kind), (job,), wanted, start_method="spawn")


def end_with(parent: int) -> None:
    """From now on, end this process within a second after the process `parent`, which started it.

    A worker otherwise goes on for hours after its notebook was killed, and writes what the next
    run writes too. Does nothing in the process `parent` itself.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    if os.getpid() != parent:
        threading.Thread(target=watch, daemon=True).start()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
