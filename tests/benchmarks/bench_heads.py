"""What the head of a training step costs: all classes in its softmax, or a share (partial FC).

    python -m tests.benchmarks.bench_heads [--classes 1000 ...] [--share 0.1] [--seconds 5]

Forward, backward and SGD step with momentum of ArcFace on random embeddings, without a network, as
`lib.training.stage` does it; each in a process of its own, with its peak memory. `of a core` is
processor time, which other work on the machine hardly changes. The largest head takes 14 GiB.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import torch
from torch import nn

from lib.config import StageConfig
from lib.environment import cores
from lib.training.losses import LOSSES, sample_classes

DIM, BATCH = 512, 64
COPIES = 7.5  # of the weights in memory at the peak of a step with all classes


def measure(classes: int, share: float, seconds: float) -> dict[str, float]:
    """Classes in the softmax, median times of a step, and MiB above the empty process."""
    empty = peak_mib()
    stage = StageConfig(class_share=share, batch_size=BATCH)
    network = nn.Module()
    network.head = LOSSES[stage.loss](stage, torch.ones(classes), DIM)
    sample = sample_classes(stage, network)
    head = network.head
    optimizer = torch.optim.SGD(
        head.parameters(), lr=0.01, momentum=stage.momentum, weight_decay=stage.weight_decay
    )
    generator = torch.Generator().manual_seed(0)
    embeddings = nn.Parameter(torch.randn(BATCH, DIM, generator=generator))
    spent: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(spent) < 4 or time.perf_counter() - began < seconds:
        labels = torch.randint(0, classes, (BATCH,), generator=generator)
        started = time.perf_counter(), time.process_time()
        if sample:
            sample.draw(labels, generator, optimizer)
            labels = sample.places(labels)
        head(embeddings, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if sample:
            sample.keep(optimizer)
        ended = time.perf_counter(), time.process_time()
        spent.append(tuple(1000 * (b - a) for a, b in zip(started, ended, strict=True)))
    taken, processor = np.median(spent[1:], axis=0).tolist()  # the first makes the momentum
    times = {"ms a step": taken, "of a core": processor}
    return {"in softmax": len(head.weight), **times, "peak MiB": peak_mib() - empty}


def peak_mib() -> float:
    """The largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process(classes: int, share: float, seconds: float) -> dict[str, float]:
    """`measure`, whose memory nothing before it has used."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_heads", "--seconds", str(seconds)]
    command += ["--share", str(share), "--classes", str(classes), "--measure"]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Measure every size with all classes and with the share, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sizes = [1_000, 10_000, 100_000, 1_000_000]
    parser.add_argument("--classes", type=int, nargs="+", default=sizes)
    parser.add_argument("--share", type=float, default=0.1, help="of the classes in the softmax")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.classes[0], args.share, args.seconds)))
        return
    rows = []
    load = os.getloadavg()[0]
    for classes in args.classes:
        few, every = in_a_process(classes, args.share, args.seconds), {}
        if psutil.virtual_memory().available > COPIES * 4 * classes * DIM:
            every = in_a_process(classes, 1.0, args.seconds)
        else:
            print(f"too little memory is free for all of {classes:,} classes")
        ratio = {f"{name} ÷": every[name] / few[name] for name in list(every)[1:]}
        rows += [{"classes": classes, **every}, {"classes": classes, **few, **ratio}]
    table = pd.DataFrame(rows)
    print(f"{DIM} dimensions, batch {BATCH}, SGD with momentum, {torch.get_num_threads()} threads")
    print(f"load of the machine before: {load:.1f} on {cores()} cores")
    for name in table:
        text = "{:.1f}" if name.endswith("÷") else "{:,.0f}"
        table[name] = ["" if np.isnan(value) else text.format(value) for value in table[name]]
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
