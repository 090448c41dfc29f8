"""Wrong inputs to every command: one sentence, code 1 or 2, and that before any useful work.

Most run in a fork that has everything imported, some as a person starts them.
"""

import contextlib
import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np

from lib.artifacts import ROOT
from tests.torture.harness import (
    Ended,
    Outcome,
    Say,
    alive_below,
    apart,
    command,
    environment,
    kill,
    refusal_fault,
)
from tests.torture.samples import write_samples

SECONDS = 30
EVERY = 4  # one of so many runs as a process of its own
ID = "0" * 16


def write_inputs(root: Path) -> Path:
    """Sound samples and, beside them, wrong files; commands run in this folder."""
    write_samples(root)
    files = {
        "page.safetensors": "<!DOCTYPE html><html>", "pointer.pth": "version https://git-lfs\n",
        "empty.csv": "", "no_column.csv": "id,url\na1b2,x\n", "note.txt": "hello\n",
        "usage.csv": f"id,images,Usage\n{ID},{ID},Secret\n", "header.csv": "query,answer\n",
        "twice.csv": f"id,images\n{ID},{ID}\n{ID},{ID}\n", "empty.npy": "", "empty.npz": "",
        "unknown.csv": f"id,images\n{ID},{ID}\n",
        "no_answer.csv": f"id,images,Usage\n{ID},,Public\n",
        "commas.csv": (root / "submission.csv").read_text().replace(" ", ","),
    }  # fmt: skip
    for name, text in files.items():
        (root / name).write_text(text)
    (root / "photo.csv").write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)))
    rows = np.load(root / "raw" / "embeddings.npy").astype(np.float32)
    flawed = rows.copy()
    flawed[3, 3] = np.nan
    arrays = {"flat": rows[0], "cube": rows[None], "short": rows[:5], "nan": flawed}
    arrays |= {"text": np.array(["a"] * 48), "complex": rows.astype(np.complex64)}
    for name, values in arrays.items():
        np.save(root / f"{name}.npy", values)
    np.save(root / "pickled.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    (root / "cut.npy").write_bytes((root / "nan.npy").read_bytes()[:900])
    (root / "cut.npz").write_bytes((root / "ranking.npz").read_bytes()[:300])
    for name in ("nothing", "only_text/Louvre"):
        (root / name).mkdir(parents=True)
    (root / "only_text/Louvre/note.txt").write_text("hello")
    _spoilt(root, "repeated", "train.csv", lambda text: text + text.splitlines()[-1] + "\n")
    _spoilt(root, "headless", "train.csv", lambda text: text.partition("\n")[2])
    _spoilt(
        root,
        "quoted",
        "train.csv",
        lambda text: text.replace("id,url,landmark_id", '"id","url","landmark_id"', 1),
    )
    (root / "quoted/train_clean.csv").unlink()
    _spoilt(root, "stranger", "train_clean.csv", lambda text: text + f"99,{ID}\n")
    _spoilt(root, "codes", "country_codes.json", lambda _: '[["FR"]]')
    _spoilt(root, "imageless", "test.csv", str)
    shutil.rmtree(root / "imageless/train")
    return root


def _spoilt(root: Path, name: str, file: str, change: Callable[[str], str]) -> None:
    """A copy of the data folder with one of its files changed."""
    shutil.copytree(root / "data", root / name)
    path = root / name / file
    path.write_text(change(path.read_text()))


PIPELINE = (  # arguments after the profile `smoke`, unless one is named
    "maxi", "--only 09", "--only 2", "--from x", "--data-dir nowhere", "--data-dir note.txt",
    "--recipe nope", "-p EPSS 0.3", "-p PROFILE mini", "-p DATA_DIR data", "-p EPS abc",
    "-p EPS -1", "-p EPS nan", "-p RELAXED_EPS -0.5", "-p MIN_SAMPLES -2", "-p MIN_SAMPLES 2.5",
    "-p WEIGHTS none.safetensors", "-p WEIGHTS page.safetensors", "-p WEIGHTS pointer.pth",
    "-p WEIGHTS note.txt", "-p BACKBONE nope", "-p BACKBONE vit_tiny_patch16_224", "-p COLUMNS 0",
    "-p COLUMNS -3", "-p ARCFACE_EPOCHS -1", "-p SOFTMAX_EPOCHS 1.5", "-p CLUSTER_EPOCHS -2",
    "-p SEEDS []", "-p SEEDS 3", "-p TABLES nope", "-p SHARE -1", "-p VOTES -1", "-p BETA nan",
    "-p LANDMARKS -1", "-p QUERIES -5", "-p RAW_IMAGES 1e3x", "-p COMPARE maybe", "-p LEAKED 2",
    "-p EPS", "--bogus", "smoke mini", "full", "photos", "--data-dir nothing",
    "--data-dir repeated --only 01", "--data-dir headless --only 01", "--data-dir quoted --only 01",
    "--data-dir stranger --only 01", "--data-dir codes --only 01", "--data-dir data --only 04",
    "--data-dir data --only 03", "--data-dir data --only 06", "--data-dir imageless --only 02",
)  # fmt: skip
PACKAGES = {
    "data.own_photos": "data",
    "cleaning.__main__": "cleaning",
    "retrieval.__main__": "retrieval",
}
COMMANDS = {
    "data.own_photos": (
        "", "loose", "nowhere new", "note.txt new", "loose data", "loose note.txt/new",
        "only_text new", "nothing new", "loose loose/new", "loose /proc/new",
    ),
    "cleaning.__main__": (
        "raw", "nowhere.npy data/train.csv", "note.txt data/train.csv", "empty.npy data/train.csv",
        "pickled.npy data/train.csv", "cut.npy data/train.csv", "flat.npy data/train.csv",
        "cube.npy data/train.csv", "short.npy data/train.csv", "nan.npy data/train.csv",
        "text.npy data/train.csv", "complex.npy data/train.csv", "query data/train.csv",
        "nothing data/train.csv", "raw nowhere.csv", "raw no_column.csv", "raw photo.csv",
        "raw data/train.csv --eps -1", "raw data/train.csv --eps abc",
        "raw data/train.csv --eps nan", "raw data/train.csv --min-samples 0",
        "raw data/train.csv --min-cluster-size -1", "raw data/train.csv --jobs 0",
    ),
    "retrieval.__main__": (
        "", "score", "score submission.csv", "score nowhere.csv SOLUTION",
        "score submission.csv nowhere.csv", "score photo.csv SOLUTION",
        "score submission.csv photo.csv", "score empty.csv SOLUTION", "score header.csv SOLUTION",
        "score twice.csv SOLUTION", "score unknown.csv SOLUTION", "score commas.csv SOLUTION",
        "score submission.csv usage.csv", "score submission.csv no_answer.csv",
        "score SOLUTION submission.csv", "score submission.csv SOLUTION --groups header.csv",
        "score data SOLUTION", "score submission.csv SOLUTION --queries note.txt/out.csv",
        "check", "check nowhere.csv data", "check submission.csv nowhere",
        "check submission.csv data", "check twice.csv data -k 1", "check photo.csv data",
        "check submission.csv data -k 0", "check submission.csv data -k x", "write out.csv",
    ),
}  # fmt: skip


def all_inputs() -> list[tuple[str, list[str]]]:
    """Module and arguments of every call."""
    calls = []
    for text in PIPELINE:
        words = text.split()
        has_profile = words[0] in ("maxi", "full", "photos", "smoke")
        calls.append(("pipeline", words if has_profile else ["smoke", *words]))
    for module, texts in COMMANDS.items():
        for text in texts:
            words = text.replace("SOLUTION", "data/retrieval_solution_v2.1.csv").split()
            out = ["--out", "cleaned"] if module == "cleaning.__main__" else []
            calls.append((module, words + out))
    return calls


def call_main(
    module: str, arguments: Sequence[str], root: Path, variables: dict[str, str]
) -> Ended:
    """A command's `main` in a fork, with what it writes."""
    out, errors, began = root / ".out", root / ".err", time.monotonic()

    def work(say: Say) -> None:
        for number, path in ((1, out), (2, errors)):
            os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.chdir(root)
        with patch.dict(os.environ, variables, clear=True):
            code = _code_of(importlib.import_module(f"lib.{module}").main, list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
        say(str(code))

    said = next(apart(work, seconds=SECONDS, guarded=False), "")
    code = int(said) if said.isdigit() else None
    return Ended(code, _read(out), _read(errors), time.monotonic() - began)


def _code_of(main: Callable, arguments: list[str]) -> int:
    """What Python would exit with, and write."""
    try:
        return main(arguments) or 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return stop.code or 0
    except BaseException as error:
        print(f"Traceback\n{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def unclear_fault(ended: Ended, arguments: list[str]) -> str:
    """Why a sentence does not tell what it is about: no argument, and not what was expected."""
    words = [*arguments, "expected", "required"]
    return "" if any(word in ended.errors for word in words) else f"unclear: {ended.errors[-150:]}"


def reference_calls(folder: Path) -> Iterator[tuple[str, list[str], dict[str, str], Path]]:
    """`lib.reports` in a copy of the repository, as it writes into it."""
    copy = folder / "copy"
    for name in ("lib", "notebooks", "outputs/reference"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", copy)
    for case in ("no run", "a cut record", "an argument", "README without its marks"):
        variables = environment(folder / case.replace(" ", "_"), PYTHONPATH=str(copy))
        run = Path(variables["LANDMARK_OUTPUTS"]) / "mini" / "recorded"
        if case == "a cut record":
            run.mkdir(parents=True)
            (run / "06_submission_reranking.json").write_text('{"a": ')
        if case.startswith("README"):
            (copy / "README.md").write_text("# nothing\n")
        yield case, (["nope"] if case == "an argument" else []), variables, copy


def run(generator: np.random.Generator, folder: Path, share: float) -> Iterator[Outcome]:
    """Every wrong input, in an order and by a way drawn."""
    root = folder / "inputs"
    list(apart(lambda _: write_inputs(root), seconds=300, guarded=False))
    variables = environment(folder, LANDMARK_CALLER=str(root))
    calls = all_inputs()
    chosen = generator.permutation(len(calls))[: max(5, round(share * len(calls)))]
    is_process = generator.random(len(calls)) < 1 / EVERY
    for module in ("pipeline", *COMMANDS):  # so that forks have it
        importlib.import_module(f"lib.{module}")
    for place in sorted(chosen):
        module, arguments = calls[place]
        if is_process[place]:
            words = [sys.executable, "-m", f"lib.{PACKAGES.get(module, module)}", *arguments]
            ended = command(words, variables, seconds=SECONDS, cwd=root)
        else:
            ended = call_main(module, arguments, root, variables)
        kill(alive_below(folder))
        fault = refusal_fault(ended) or unclear_fault(ended, arguments)
        yield Outcome(module, f"{' '.join(arguments)}: {fault}" if fault else "")
        for made in ("new", "cleaned"):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(root / made)
    for case, arguments, variables, copy in reference_calls(folder):
        words = [sys.executable, "-m", "lib.reports", *arguments]
        fault = refusal_fault(command(words, variables, seconds=SECONDS, cwd=copy))
        yield Outcome("reference", f"{case}: {fault}" if fault else "")
