"""What makes a stage resumable: writes, fingerprints, records, progress, random streams."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import runs
from lib.config import AugmentConfig, StageConfig
from lib.paths import ROOT
from lib.profiles import profile
from lib.runs import (
    atomic_path,
    fingerprint,
    is_done,
    mark_done,
    progress,
    read_json,
    read_key,
    read_records,
    record,
    rng,
    start_over,
    stream_seed,
    write_csv,
    write_json,
)


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


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


def test_atomic_path_clears_what_a_killed_run_left(tmp_path):
    with atomic_path(tmp_path / "a") as temporary:
        left = temporary
        temporary.touch()
    left.mkdir()
    (left / "rubbish").touch()
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("fine")
    assert contents(tmp_path) == ["a"]


def test_atomic_path_complains_when_nothing_was_written(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_text() == "old"


def test_write_json_writes_what_configs_and_arrays_hold(tmp_path):
    value = {
        "config": AugmentConfig(),
        "numpy": [np.int64(3), np.float32(0.5), np.bool_(True)],
        "set": {"b", "a"},
        "path": Path("x/y"),
    }
    found = read_json(write_json(value, tmp_path / "a.json"))
    assert found["config"]["scale"] == [1.0, 1.0]
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


def changed(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    return (*value[:-1], value[-1] + 1)


def test_fingerprint_changes_with_every_field():
    stage = StageConfig()
    fields = [field.name for field in dataclasses.fields(stage) if field.name != "augment"]
    variants = [
        dataclasses.replace(stage, **{name: changed(getattr(stage, name))}) for name in fields
    ]
    for field in dataclasses.fields(stage.augment):
        value = changed(getattr(stage.augment, field.name))
        augment = dataclasses.replace(stage.augment, **{field.name: value})
        variants.append(dataclasses.replace(stage, augment=augment))
    keys = {fingerprint(variant) for variant in [stage, *variants]}
    assert len(keys) == 1 + len(variants)
    assert fingerprint(StageConfig()) == fingerprint(stage)


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
        "import pandas as pd; from lib.profiles import profile; from lib.runs import fingerprint;"
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
    assert read_key(folder) is None
    assert start_over(folder).is_dir()
    mark_done(folder, "k", images=3)
    assert is_done(folder, "k")
    assert not is_done(folder, "other")
    assert read_json(folder / "manifest.json") == {"key": "k", "images": 3}


def test_start_over_takes_the_signature_and_leaves_the_rest(tmp_path):
    mark_done(tmp_path, "k")
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
    monkeypatch.setattr(runs, "is_watched", lambda: True)
    assert list(progress(range(3), "reading")) == [0, 1, 2]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "reading" in printed.err


@pytest.mark.usefixtures("headless")
def test_is_watched_says_no_to_headless_terminals(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert not runs.is_watched()
    monkeypatch.delenv("LANDMARK_HEADLESS")
    assert runs.is_watched()


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
