"""The reference is copied from finished runs, and from ablations that were run alone."""

import os
from functools import partial

import pandas as pd
import pytest
from PIL import Image

from lib import reports as reference
from lib.artifacts import record, write_csv


def copied(tmp_path):
    """Whether there was something to copy, and what is there now."""
    folder = tmp_path / "reference"
    folder.mkdir(exist_ok=True)
    found = reference.copy_run("mini", figures=True, reference=folder)
    return found, sorted(path.name for path in folder.iterdir())


def test_copy_run_finds_nothing_in_an_unfinished_run(outputs, tmp_path):
    assert copied(tmp_path) == (False, [])
    record(outputs / "mini", "01_eda", images_raw=3)
    write_csv(pd.DataFrame({"step": ["a"]}), outputs / "mini" / "tables" / "06_steps.csv")
    assert copied(tmp_path) == (False, [])


def test_copy_run_takes_an_ablation_without_its_chain(outputs, tmp_path):
    tables = outputs / "mini" / "tables"
    for name in ("05_cleaning", "05_glr20_table_1_quick", "03_descriptors"):
        write_csv(pd.DataFrame({"private": [0.12345]}), tables / f"{name}.csv")
    assert copied(tmp_path) == (True, ["mini_05_cleaning.csv"])
    kept = pd.read_csv(tmp_path / "reference" / "mini_05_cleaning.csv")
    assert kept["private"].tolist() == [0.1234]


def test_copy_run_finds_the_run_of_a_data_folder_that_was_used_last(outputs, tmp_path):
    for when, (digits, score) in enumerate({"3fa9c1": 0.1, "000001": 0.2, "ffffff": 0.3}.items()):
        folder = outputs / f"photos-photos-{digits}"
        write_csv(pd.DataFrame({"private": [score]}), folder / "tables" / "05_cleaning.csv")
        os.utime(folder, (when, when if digits != "000001" else 9))
    (outputs / "photos-photos-glr21-resnet50").mkdir()
    assert reference.copy_run("photos-photos", figures=False, reference=tmp_path)
    assert pd.read_csv(tmp_path / "photos-photos_05_cleaning.csv")["private"].tolist() == [0.2]


def test_draw_forest_shows_every_committed_table_of_a_run(tmp_path):
    assert not reference.draw_forest("mini", reference=tmp_path)
    row = {"difference": 0.02, "difference_low": -0.01, "difference_high": 0.05, "paper": 0.01}
    sizes = []
    for name in ("cleaning", "glr20_table_1"):
        rows = [{"name": "a"}, {"name": "b", "against": "a", **row}]
        write_csv(pd.DataFrame(rows), tmp_path / f"mini_05_{name}.csv")
        assert reference.draw_forest("mini", reference=tmp_path)
        sizes.append(Image.open(tmp_path / "mini_05_forest.png").size)
    assert sizes[1][1] > sizes[0][1]  # a panel each
    assert sizes[0][0] <= reference.WIDEST


def test_copy_run_takes_everything_of_a_finished_run(outputs, tmp_path):
    record(outputs / "mini", "05_ablation_tables", rows=24)
    record(outputs / "mini", "06_submission_reranking", map=0.5)
    write_csv(pd.DataFrame({"notebook": []}), outputs / "mini" / "timings.csv")
    write_csv(pd.DataFrame({"step": ["a"]}), outputs / "mini" / "tables" / "06_steps.csv")
    assert copied(tmp_path) == (
        True, ["mini_06_steps.csv", "mini_recorded.csv", "mini_timings.csv"],
    )  # fmt: skip
    kept = pd.read_csv(tmp_path / "reference" / "mini_recorded.csv")
    assert kept["notebook"].tolist() == ["06_submission_reranking"]


@pytest.mark.parametrize("name", ["tables/06_steps.csv", "figures/06_steps.png"])
def test_main_names_a_damaged_file(outputs, tmp_path, monkeypatch, capsys, name):
    record(outputs / "mini", "06_submission_reranking", map=0.5)
    write_csv(pd.DataFrame({"notebook": []}), outputs / "mini" / "timings.csv")
    path = outputs / "mini" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    (tmp_path / "reference").mkdir()
    copy = partial(reference.copy_run, reference=tmp_path / "reference")
    monkeypatch.setattr(reference, "copy_run", copy)
    monkeypatch.setattr(reference, "draw_forest", None)  # not reached, and neither is the README
    assert reference.main() == 1
    said = capsys.readouterr()
    assert f"in {path}, found a damaged file" in said.err
    assert said.err.count("\n") == 1
