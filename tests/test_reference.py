"""The README's numbers come from the committed tables, and from nowhere else."""

import pandas as pd
import pytest

from lib import reference
from lib.paths import ROOT
from lib.runs import record, write_csv


@pytest.fixture
def tables(tmp_path):
    steps = {
        "step": ["before", "after"],
        "public": [0.1, 0.3],
        "private": [0.1, 0.25],
        "low": [0.05, 0.2],
        "high": [0.15, 0.3],
        "gain": [None, 0.15],
        "gain_low": [None, 0.1],
        "gain_high": [None, 0.2],
    }
    write_csv(pd.DataFrame(steps), tmp_path / "mini_06_steps.csv")
    return tmp_path


def test_steps_block_shows_score_and_gain_with_their_intervals(tables):
    lines = reference.steps_block(tables).splitlines()
    assert lines[0] == "| step | miniature world | gain |"
    assert lines[2] == "| before | 0.100 (0.050 to 0.150) |  |"
    assert lines[3] == "| after | 0.250 (0.200 to 0.300) | +0.150 (+0.100 to +0.200) |"


def test_blocks_say_so_where_there_is_no_run(tmp_path):
    assert reference.steps_block(tmp_path) == "No run yet."
    assert reference.ablation_block(tmp_path) == "No run yet."


def test_fill_replaces_what_is_between_the_markers_alone(tables):
    text = "above\n<!-- steps -->\nold\n<!-- end -->\nbelow\n"
    filled = reference.fill(text, tables)
    assert filled.startswith("above\n<!-- steps -->\n| step |")
    assert filled.endswith("|\n<!-- end -->\nbelow\n")
    assert "old" not in filled
    assert reference.fill(filled, tables) == filled


def test_copy_run_refuses_an_unfinished_run(tmp_path, monkeypatch):
    monkeypatch.setenv("LANDMARK_OUTPUTS", str(tmp_path))
    assert not reference.copy_run("mini", figures=True)
    record(tmp_path / "mini", "01_eda", images_raw=3)
    assert not reference.copy_run("mini", figures=True)


def test_readme_shows_the_committed_reference():
    text = (ROOT / "README.md").read_text()
    assert reference.fill(text) == text
    assert "No run yet" not in text


def test_readme_pictures_are_committed():
    text = (ROOT / "README.md").read_text()
    pictures = [line.split("](")[1].split(")")[0] for line in text.splitlines() if "![" in line]
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
