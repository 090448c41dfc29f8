"""Files of a run: their places, whole-or-nothing writes, fingerprints, records, progress, seeds."""

import copy
import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from lib import artifacts
from lib.artifacts import (
    ROOT,
    atomic_path,
    existing_folder,
    fingerprint,
    is_done,
    mark_complete,
    outputs_root,
    progress,
    read_fingerprint,
    read_json,
    read_records,
    record,
    repository,
    rng,
    run_folder,
    start_over,
    stream_seed,
    world_root,
    write_csv,
    write_json,
)
from lib.config import AugmentConfig, StageConfig
from lib.recipes import profile


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_repository_is_around_the_package_or_the_working_folder(tmp_path):
    for name in ("checkout/notebooks", "checkout/lib", "installed/lib", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "checkout/notebooks/01_eda.ipynb").touch()
    checkout, elsewhere, installed = (
        tmp_path / name for name in ("checkout", "elsewhere", "installed/lib")
    )
    assert repository(checkout / "lib", elsewhere) == checkout
    assert repository(installed, checkout / "notebooks") == checkout
    assert repository(installed, elsewhere) == elsewhere


def test_atomic_path_shows_a_file_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
    assert path.read_text() == "half"
    assert contents(tmp_path) == ["new", "new/a.txt"]


def test_atomic_path_replaces_a_folder_with_what_is_in_it(tmp_path):
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert contents(tmp_path) == ["folder", "folder/new"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_atomic_path_keeps_the_old_when_the_block_fails(tmp_path, is_folder):
    path = tmp_path / "kept"
    write = (lambda p: (p.mkdir(), (p / "x").touch())) if is_folder else Path.touch
    with atomic_path(path) as temporary:
        write(temporary)
    before = contents(tmp_path)

    def interrupted():
        with atomic_path(path) as temporary:
            write(temporary)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(tmp_path) == before


def test_atomic_path_writes_the_same_file_twice_at_once(tmp_path):
    path = tmp_path / "a"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert contents(tmp_path) == ["a"]


def test_atomic_path_keeps_a_whole_folder_when_killed_while_replacing_it(tmp_path, monkeypatch):
    def write(name):
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / name).touch()

    write("old")
    monkeypatch.setattr(artifacts.shutil, "rmtree", None)  # killed before the old one is removed
    with pytest.raises(TypeError):
        write("new")
    assert contents(tmp_path / "folder") == ["new"]


@pytest.fixture
def file_limit():
    """No file may get longer than 20,000 bytes, as under `ulimit -f`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS = {
    "torch": lambda path: torch.save(torch.zeros(50_000), path),
    "safetensors": lambda path: save_file({"a": torch.zeros(50_000)}, path),
    "numpy": lambda path: np.save(path, np.zeros(50_000)),
    "npz": lambda path: np.savez(path, a=np.zeros(50_000)),
    "pandas": lambda path: pd.DataFrame({"a": range(50_000)}).to_csv(path),
    "python": lambda path: path.write_bytes(bytes(50_000)),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.usefixtures("file_limit")
def test_atomic_path_names_a_full_disk_whatever_the_writer_raises(tmp_path, writer):
    path = tmp_path / ("a.npz" if writer == "npz" else "a.npy")
    path.write_text("old")
    reasons = "File too large|No space left on device"  # which one, some libraries do not tell
    sentence = rf"^cannot write .*/a\.np[yz]: ({reasons}); .* start again"
    with pytest.raises(OSError, match=sentence), atomic_path(path) as temporary:
        WRITERS[writer](temporary)
    assert path.read_text() == "old"
    assert contents(tmp_path) == [path.name]


def test_full_disk_named_leaves_other_errors_alone(tmp_path):
    for error in (RuntimeError("weights differ"), PermissionError(13, "denied")):
        with pytest.raises(type(error)) as raised, artifacts.full_disk_named(tmp_path):
            raise error
        assert raised.value is error


def killed(tmp_path, *names):
    """Leave the temporary files of a process that died; its number."""
    code = "import os, lib.artifacts; paths = [lib.artifacts.atomic_path(name) for name in {}];"
    code += "[path.__enter__().touch() for path in paths]; print(os.getpid(), flush=True)"
    code += "; os._exit(9)"
    command = [sys.executable, "-c", code.format([str(tmp_path / name) for name in names])]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def test_remove_leftovers_takes_what_killed_processes_left(tmp_path):
    number = killed(tmp_path, "rows.npy", "folder", "a.b.csv")
    left = sorted(tmp_path.iterdir())
    kept = ["rows.npy", f"rows.{number}.part", ".lock", f".rows.{os.getpid()}.part.npy"]
    for name in kept:
        (tmp_path / name).touch()
    with atomic_path(tmp_path / "being written") as temporary:
        temporary.mkdir()
        removed = artifacts.remove_leftovers(tmp_path.iterdir())
        assert len(left) == 3
        assert sorted(removed) == left
        assert contents(tmp_path) == sorted([*kept, temporary.name])


@pytest.mark.parametrize(("days", "is_left"), [(1, False), (3, True)])
def test_remove_leftovers_of_other_computers_waits_for_days(tmp_path, monkeypatch, days, is_left):
    killed(tmp_path, "rows.npy")
    (path,) = tmp_path.iterdir()
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))
    monkeypatch.setattr(artifacts, "_HOST", "0" * 6)
    assert bool(artifacts.remove_leftovers([path])) == is_left
    assert path.exists() != is_left


def test_remove_leftovers_knows_an_earlier_process_of_its_own_number(tmp_path, monkeypatch):
    with atomic_path(tmp_path / "a") as temporary:
        temporary.touch()
        monkeypatch.setattr(artifacts, "_TOKEN", "0" * 6)  # as in a container that was restarted
        assert artifacts.remove_leftovers(tmp_path.iterdir()) == [temporary]
        temporary.touch()


def test_locked_lets_one_run_in_at_a_time(tmp_path, capsys):
    seen = []

    def second():
        with artifacts.locked(tmp_path / "stage"):
            seen.append("second")

    with artifacts.locked(tmp_path / "stage"):
        other = threading.Thread(target=second)
        other.start()
        while "waiting" not in (told := capsys.readouterr().out):
            time.sleep(0.01)
        seen.append("first")
    other.join()
    assert seen == ["first", "second"]
    where = tmp_path / "stage"
    assert told == f"waiting for another run (pid {os.getpid()}) at work in {where}\n"
    assert contents(tmp_path) == []


def test_locked_refuses_where_it_may_not_wait(tmp_path):
    with artifacts.locked(tmp_path / "stage"), ThreadPoolExecutor(1) as pool:
        refused = pool.submit(artifacts.locked(tmp_path / "stage", waits=False).__enter__)
        with pytest.raises(
            ValueError, match=r"another run \(pid \d+\) is at work in .*stage; wait"
        ):
            refused.result()


def test_locked_does_without_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with artifacts.locked(tmp_path / "file" / "stage"):
        assert contents(tmp_path) == ["file"]


def test_locked_is_free_again_when_its_run_was_killed(tmp_path, capsys):
    code = "import os, sys, lib.artifacts\nwith lib.artifacts.locked(sys.argv[1]): os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "stage")], cwd=ROOT)
    assert contents(tmp_path) == [".stage.lock"]
    with artifacts.locked(tmp_path / "stage"):
        assert capsys.readouterr().out == ""


def test_atomic_path_complains_when_nothing_was_written(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_text() == "old"


def test_write_json_writes_what_configs_and_arrays_hold(tmp_path):
    value = {
        "config": AugmentConfig(scale=(0.5, 1.0)),
        "numpy": [np.int64(3), np.float32(0.5), np.bool_(True)],
        "set": {"b", "a"},
        "path": Path("x/y"),
    }
    found = read_json(write_json(value, tmp_path / "a.json"))
    assert found["config"] == {"scale": [0.5, 1.0]}  # what is not the default
    assert found["numpy"] == [3, 0.5, True]
    assert found["set"] == ["a", "b"]
    assert found["path"] == "x/y"


def test_write_json_keeps_the_old_file_when_a_value_has_no_form(tmp_path):
    write_json({"a": 1}, tmp_path / "a.json")
    with pytest.raises(TypeError, match="no JSON form for object"):
        write_json({"a": object()}, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert contents(tmp_path) == ["a.json"]


def test_write_csv_leaves_the_index_out(tmp_path):
    table = pd.DataFrame({"id": ["007"], "x": [0.1]}, index=[9])
    found = pd.read_csv(write_csv(table, tmp_path / "a.csv"), dtype={"id": str})
    pd.testing.assert_frame_equal(found, table.reset_index(drop=True))


def test_fingerprint_ignores_the_order_of_dicts_and_sets_only():
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )
    assert fingerprint({"x", "y", "z"}) == fingerprint({"z", "x", "y"})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    assert fingerprint(1, 2) != fingerprint(2, 1) != fingerprint([2, 1])


def changed(config, name):
    """A copy with another value of the same kind, whether it is in range or not."""
    value = getattr(config, name)
    if isinstance(value, bool):
        value = not value
    elif isinstance(value, tuple):
        value = (*value[:-1], value[-1] + ("x" if isinstance(value[-1], str) else 1))
    else:
        value = value + ("x" if isinstance(value, str) else 1)
    copied = copy.copy(config)
    object.__setattr__(copied, name, value)
    return copied


def test_fingerprint_changes_with_every_field():
    stage = StageConfig()
    fields = [field.name for field in dataclasses.fields(stage) if field.name != "augment"]
    variants = [changed(stage, name) for name in fields]
    for field in dataclasses.fields(stage.augment):
        augment = changed(stage.augment, field.name)
        variants.append(dataclasses.replace(stage, augment=augment))
    keys = {fingerprint(variant) for variant in [stage, *variants]}
    assert len(keys) == 1 + len(variants)
    assert fingerprint(StageConfig()) == fingerprint(stage)


@dataclasses.dataclass(frozen=True)
class LaterStage(StageConfig):
    """`StageConfig` after somebody added settings that change nothing by default."""

    new: float = 0.0
    parts: tuple[AugmentConfig, ...] = (AugmentConfig(),)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    array: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))
    unknown: float = np.nan


def test_fingerprint_leaves_out_what_equals_its_default():
    settings = {"margin": 0.2, "augment": AugmentConfig(erasing=1.0)}
    before, later = StageConfig(**settings), LaterStage(**settings)
    assert fingerprint((before,), {"a": before}) == fingerprint((later,), {"a": later})
    changes = [
        {"new": 0.5},
        {"parts": (AugmentConfig(flip=0.0),)},
        {"parts": ()},
        {"array": np.ones(2)},
        {"unknown": 0.0},
        {"augment": AugmentConfig()},
        {"margin": 0.3},
    ]
    keys = {fingerprint(dataclasses.replace(later, **change)) for change in changes}
    assert len(keys | {fingerprint(later)}) == 1 + len(changes)


def test_stream_seed_never_changes_so_recorded_numbers_do_not():
    assert stream_seed(0, "augment", 3) == 3510512661407846465
    assert stream_seed(7, "weights", "softmax") == 3741348231429457415


def test_fingerprint_sees_the_content_of_tables():
    table = pd.DataFrame(
        {"id": ["a", "b", "c"], "label": [0, 1, 1], "is_clean": [True, False, True]}
    )
    same = table.copy().set_axis([5, 6, 7])
    others = [
        table.iloc[::-1],
        table.iloc[:2],
        table.rename(columns={"id": "image"}),
        table[["label", "id", "is_clean"]],
        table.assign(label=[0, 1, 2]),
        table.assign(id=["a", "b", "d"]),
        table.assign(is_clean=True),
        table.iloc[:0],
    ]
    assert fingerprint(same) == fingerprint(table)
    assert len({fingerprint(other) for other in [table, *others]}) == 1 + len(others)


def test_fingerprint_sees_content_type_and_shape_of_arrays():
    array = np.arange(6, dtype=np.float32)
    others = [array.astype(np.float64), array.reshape(2, 3), array[::-1], array + 1]
    assert fingerprint(array[::1].copy()) == fingerprint(array)
    assert len({fingerprint(other) for other in [array, *others]}) == 5


def test_fingerprint_is_the_same_in_another_process():
    table = "pd.DataFrame({'id': ['a', 'b'], 'label': [0, 1]})"
    code = (
        "import pandas as pd; from lib.recipes import profile; "
        "from lib.artifacts import fingerprint; "
        f"print(fingerprint(profile('mini'), {table}, {{'x', 'y', 'z'}}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    here = fingerprint(profile("mini"), eval(table), {"x", "y", "z"})
    assert found.stdout.strip() == here
    assert len(here) == 16


def test_mark_done_signs_a_folder_for_one_key(tmp_path):
    folder = tmp_path / "stage"
    assert not is_done(folder, "k")
    assert read_fingerprint(folder) is None
    assert start_over(folder).is_dir()
    mark_complete(folder, "k", images=3)
    assert is_done(folder, "k")
    assert not is_done(folder, "other")
    assert read_json(folder / "manifest.json") == {"key": "k", "images": 3}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "3", "{}", '{"key": 1}', '{"key": "k", "files": 3}', "\0\0"]
)
def test_a_damaged_manifest_counts_as_absent(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    assert read_fingerprint(tmp_path) is None
    assert not is_done(tmp_path, "k")


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("ab")])
def test_is_done_misses_files_that_are_gone_or_cut(tmp_path, damage):
    (tmp_path / "rows.npy").write_text("abc")
    mark_complete(tmp_path, "k", files=["rows.npy"])
    assert is_done(tmp_path, "k")
    damage(tmp_path / "rows.npy")
    assert not is_done(tmp_path, "k")


@pytest.mark.parametrize("content", ["", "other\n1\n", "\0", "id\n1\n"])
def test_read_csv_or_none_is_none_for_what_is_no_such_table(tmp_path, content):
    assert artifacts.read_csv_or_none(tmp_path / "absent.csv", ["id"]) is None
    (tmp_path / "a.csv").write_text(content)
    assert artifacts.read_csv_or_none(tmp_path / "a.csv", ["id", "value"]) is None
    found = artifacts.read_csv_or_none(
        write_csv(pd.DataFrame({"id": ["007"]}), tmp_path / "b"), ["id"]
    )
    assert found["id"].tolist() == ["007"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_read_records_leaves_out_what_is_damaged(tmp_path, content):
    record(tmp_path, "01_eda", images=3)
    (tmp_path / "recorded" / "02_train.json").write_text(content)
    assert read_records(tmp_path).to_numpy().tolist() == [["01_eda", "images", 3]]


def test_start_over_takes_the_signature_and_leaves_the_rest(tmp_path):
    mark_complete(tmp_path, "k")
    (tmp_path / "state.pt").touch()
    start_over(tmp_path)
    assert not is_done(tmp_path, "k")
    assert contents(tmp_path) == ["state.pt"]


def test_record_replaces_what_the_notebook_recorded_with_other_settings(tmp_path):
    record(tmp_path, "02_train", private=0.25, rows=11)
    record(tmp_path, "01_eda", note="fine")
    record(tmp_path, "02_train", private=np.float64(0.5), images=np.int64(7))
    assert read_records(tmp_path).to_numpy().tolist() == [
        ["01_eda", "note", "fine"],
        ["02_train", "private", 0.5],
        ["02_train", "images", 7],
    ]


def test_read_records_of_nothing_is_an_empty_table(tmp_path):
    assert list(read_records(tmp_path / "nowhere").columns) == ["notebook", "name", "value"]
    assert read_records(tmp_path).empty


@pytest.fixture
def headless(monkeypatch):
    monkeypatch.setenv("LANDMARK_HEADLESS", "1")


@pytest.mark.usefixtures("headless")
def test_progress_passes_items_on_and_prints_plain_lines(capsys):
    assert list(progress(range(4), "reading", seconds=0)) == [0, 1, 2, 3]
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "reading: 1 of 4 (25%)",
        "reading: 2 of 4 (50%)",
        "reading: 3 of 4 (75%)",
    ]
    assert printed.err == ""
    assert "\r" not in printed.out


@pytest.mark.parametrize(
    ("count", "total", "is_told"),
    [(1, 5650, False), (112, 5650, False), (113, 5650, True), (1, 20, False), (2, 20, True)],
)
def test_progress_tells_the_time_left_once_enough_is_done(count, total, is_told):
    line = artifacts._progress_line("drawing", count, total, elapsed=15.0)
    assert line.startswith(f"drawing: {count:,} of {total:,} (")
    assert line.endswith(f"{15 / count * (total - count):.0f} s left") == is_told
    assert (" left" in line) == is_told


@pytest.mark.usefixtures("headless")
def test_progress_adds_its_note(capsys):
    list(progress(range(3), "training", seconds=0, note=lambda: "loss 5.4"))
    first, second = capsys.readouterr().out.splitlines()
    assert first == "training: 1 of 3 (33%), loss 5.4"
    assert second.endswith(" s left, loss 5.4")


@pytest.mark.usefixtures("headless")
def test_progress_is_silent_about_short_work(capsys):
    assert list(progress(iter("ab"), "reading", total=2)) == ["a", "b"]
    assert list(progress([], "reading")) == []
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("headless")
def test_progress_counts_what_has_no_length(capsys):
    assert sum(progress((n for n in range(3)), "adding", seconds=0)) == 3
    assert capsys.readouterr().out.startswith("adding: 1 in 0 s\n")


@pytest.mark.usefixtures("headless")
def test_progress_takes_items_one_at_a_time():
    taken = []
    source = (taken.append(n) or n for n in range(100))
    for n in progress(source, "reading"):
        if n == 2:
            break
    assert taken == [0, 1, 2]


def test_progress_draws_a_bar_where_a_person_watches(monkeypatch, capsys):
    monkeypatch.setattr(artifacts, "is_interactive", lambda: True)
    assert list(progress(range(3), "reading")) == [0, 1, 2]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "reading" in printed.err


@pytest.mark.usefixtures("headless")
def test_is_watched_says_no_to_headless_terminals(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert not artifacts.is_interactive()
    monkeypatch.delenv("LANDMARK_HEADLESS")
    assert artifacts.is_interactive()


def test_rng_repeats_and_differs_by_seed_and_every_word():
    names = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a", 2), (0, "a", "1"), (0, "a1")]
    draws = [tuple(rng(*name).random(3)) for name in names]
    assert len(set(draws)) == len(names)
    assert draws == [tuple(rng(*name).random(3)) for name in names]


def test_rng_streams_are_uncorrelated():
    streams = np.stack([rng(0, "step", step).standard_normal(2000) for step in range(40)])
    correlations = np.corrcoef(streams)[np.triu_indices(40, 1)]
    assert abs(correlations).max() < 0.12  # 5.4 standard errors
    assert abs(correlations.mean()) < 0.004


def test_stream_seed_fits_a_torch_generator_and_fills_its_range():
    seeds = [stream_seed(seed, "x") for seed in range(500)]
    assert len(set(seeds)) == 500
    assert min(seeds) >= 0
    assert 2**62 < max(seeds) < 2**63
    assert json.loads(json.dumps(seeds)) == seeds


@pytest.fixture
def in_repository(monkeypatch, tmp_path):
    monkeypatch.delenv("LANDMARK_OUTPUTS", raising=False)
    monkeypatch.setattr(artifacts, "KAGGLE_WORKING", tmp_path / "no kaggle")


@pytest.mark.usefixtures("in_repository")
def test_root_is_the_repository_whatever_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert (artifacts.ROOT / "lib" / "artifacts.py").samefile(artifacts.__file__)
    assert artifacts.ROOT.is_absolute()


@pytest.mark.usefixtures("in_repository")
def test_folders_lie_in_the_repository():
    assert outputs_root() == artifacts.ROOT / "outputs"
    assert run_folder("mini") == artifacts.ROOT / "outputs" / "mini"
    assert world_root("mini") == artifacts.ROOT / "data" / "mini"


@pytest.mark.usefixtures("in_repository")
def test_folders_follow_landmark_outputs(outputs):
    assert run_folder("smoke") == outputs / "smoke"
    assert world_root("smoke") == outputs / "data" / "smoke"


@pytest.mark.usefixtures("in_repository")
def test_folders_lie_in_the_working_folder_on_kaggle(monkeypatch, tmp_path):
    monkeypatch.setattr(artifacts, "KAGGLE_WORKING", tmp_path)
    assert run_folder("smoke") == tmp_path / "outputs" / "smoke"
    assert world_root("smoke") == tmp_path / "data" / "smoke"


@pytest.mark.usefixtures("in_repository")
def test_landmark_outputs_wins_over_kaggle(monkeypatch, tmp_path, outputs):
    monkeypatch.setattr(artifacts, "KAGGLE_WORKING", tmp_path)
    assert outputs_root() == outputs


@pytest.mark.usefixtures("in_repository")
def test_run_folder_keeps_data_folders_apart(tmp_path):
    folders = {run_folder("mini", data) for data in ("", str(tmp_path / "a"), str(tmp_path / "b"))}
    assert len(folders) == 3
    assert re.fullmatch(
        r"mini-photos-[0-9a-f]{6}", run_folder("mini", str(tmp_path / "photos")).name
    )


@pytest.mark.usefixtures("in_repository")
def test_run_folder_keeps_data_folders_of_one_name_apart():
    assert run_folder("photos", "/data/a/photos") != run_folder("photos", "/data/b/photos")
    assert run_folder("photos", "/data/a/photos") == run_folder("photos", "/data/a/photos/")
    named = run_folder("photos", "/data/a/photos", "glr20-resnet152").name
    assert re.fullmatch(r"photos-photos-[0-9a-f]{6}-glr20-resnet152", named)


@pytest.mark.parametrize("name", ["a", "2024", "no-cutmix_2.1", "Zürich", "x" * 100])
def test_run_folder_is_called_as_asked(outputs, name):
    assert run_folder("photos", "/data/photos", "glr20-resnet152", name) == outputs / name


@pytest.mark.parametrize(
    "name",
    [".", "..", "a/b", "-p", "_a", " a", "a b", "a\n", "a\\b", "x" * 101, "data", "REFERENCE"],
)
def test_run_folder_refuses_what_is_no_name(name):
    with pytest.raises(ValueError, match="expected a run's name of letters, digits"):
        run_folder("mini", name=name)


@pytest.mark.usefixtures("in_repository")
@pytest.mark.parametrize("data_dir", ["/", "/.", "/.."])
def test_run_folder_of_the_root_is_not_the_miniatures(data_dir):
    assert re.fullmatch(r"mini-[0-9a-f]{6}", run_folder("mini", data_dir).name)


@pytest.mark.usefixtures("in_repository")
@pytest.mark.parametrize("spelling", ["photos", "photos/", "./photos", "photos/../photos"])
def test_run_folder_is_one_per_folder_however_it_is_spelt(monkeypatch, tmp_path, spelling):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_folder("mini", spelling) == run_folder("mini", str(tmp_path / "photos"))


@pytest.mark.usefixtures("in_repository")
def test_existing_folder_resolves_home_and_working_folder(monkeypatch, tmp_path):
    (tmp_path / "photos").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert existing_folder("~/photos") == existing_folder("photos") == Path(tmp_path, "photos")


@pytest.mark.usefixtures("in_repository")
def test_existing_folder_refuses_what_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        with pytest.raises(ValueError, match=f"found no folder .*{name}; give an existing one"):
            existing_folder(str(tmp_path / name))


def test_atomic_path_names_a_file_in_the_way(tmp_path):
    (tmp_path / "note.txt").write_text("x")
    message = r"expected a folder to write out\.csv into, but .*note\.txt is a file"
    with pytest.raises(ValueError, match=message), atomic_path(tmp_path / "note.txt/deep/out.csv"):
        pass
