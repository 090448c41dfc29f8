"""How reliable the project is: `python -m tests.torture [PART ...] [--seed N] [--out FILE]`.

Kills, broken images, damaged files, hostile archives, wrong inputs, full disks, neighbours and
long runs, drawn from a seed. Every part runs in a process of its own, and whatever may hang or
crash runs apart from that. The table is printed and kept in `outputs/reference/reliability.csv`;
a run of some parts replaces only their rows. All parts take about 45 minutes on two quiet cores.
"""

import argparse
import os
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # forks of a process with OpenMP's threads hang

import pandas as pd

from lib.artifacts import ROOT, write_csv
from tests.torture.harness import Outcome, family, kill, work_on

PARTS = ("kills", "images", "readers", "tars", "inputs", "disk", "together", "memory")
KEPT = ROOT / "outputs" / "reference" / "reliability.csv"
SILENCE = 1200  # seconds after which a part counts as hanging


def run_part(name: str, seed: int, share: float, folder: Path) -> pd.DataFrame:
    """The rows of one part: a row per case, with its tries and how many held."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work_on, args=(name, seed, share, folder, sender))
    process.start()
    sender.close()
    tries: list[tuple[Outcome, float]] = []
    began = shown = time.monotonic()
    try:
        while receiver.poll(SILENCE):
            outcome, seconds = receiver.recv()
            seen = sum(known.case == outcome.case and bool(known.failure) for known, _ in tries)
            if outcome.failure and seen < 3:
                print(f"{name}: {outcome.case}: {outcome.failure}", flush=True)
            tries.append((outcome, seconds))
            if time.monotonic() - shown > 20:
                shown = time.monotonic()
                print(f"{name}: {len(tries):,} tries, {shown - began:.0f} s", flush=True)
        tries.append((Outcome("the part", f"silent for {SILENCE} s"), SILENCE))
    except EOFError:
        process.join()
        if process.exitcode:
            tries.append((Outcome("the part", f"ended with code {process.exitcode}"), 0))
    finally:
        kill(family(process.pid))
    return _table(name, tries)


def _table(part: str, tries: list[tuple[Outcome, float]]) -> pd.DataFrame:
    rows = []
    for case in dict.fromkeys(outcome.case for outcome, _ in tries):
        own = [(outcome, seconds) for outcome, seconds in tries if outcome.case == case]
        failures = [outcome.failure for outcome, _ in own if outcome.failure]
        notes = [outcome.note for outcome, _ in own if outcome.note]
        note = " | ".join(dict.fromkeys([*failures[:3], *notes[:3]]))
        seconds = round(sum(seconds for _, seconds in own), 1)
        held = len(own) - len(failures)
        rows.append((part, case, len(own), held, len(failures), seconds, " ".join(note.split())))
    columns = ["part", "case", "tries", "held", "failed", "seconds", "note"]
    return pd.DataFrame(rows, columns=columns)


def _keep(rows: pd.DataFrame, path: Path) -> None:
    """Put the rows of a part into the table, in place of its earlier ones."""
    known = pd.read_csv(path) if path.is_file() else rows.iloc[:0]
    table = pd.concat([known[~known["part"].isin(rows["part"])], rows])
    write_csv(
        table.sort_values("part", key=lambda part: part.map(PARTS.index), kind="stable"), path
    )


def main() -> int:
    """Run the chosen parts; 1 if something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="table to keep the rows in")
    parser.add_argument("--share", type=float, default=1.0, help="of the tries; kept with --out")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"expected parts among {', '.join(PARTS)}, found {', '.join(unknown)}")
    out = given.out or (KEPT if given.share >= 1 else None)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="torture_") as name:
        for part in given.parts or PARTS:
            rows = run_part(part, given.seed, given.share, Path(name) / part)
            print(f"\n{rows.to_string(index=False, max_colwidth=70)}\n", flush=True)
            print(f"{part}: {rows['tries'].sum():,} tries, {rows['failed'].sum():,} failed")
            failed += rows["failed"].sum()
            if out is not None:
                _keep(rows, out)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
