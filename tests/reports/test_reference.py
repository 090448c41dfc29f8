"""The committed reference: copied from finished runs, the only source of numbers in Markdown."""

import base64
import io
import os
import re
from functools import partial

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.artifacts import ROOT, record, write_csv
from lib.reports import reference as reports
from lib.reports.__main__ import main


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
        "private_seen": [None, 0.3],
        "private_unseen": [None, 0.2],
    }
    write_csv(pd.DataFrame(steps), tmp_path / "mini_06_steps.csv")
    return tmp_path


def test_steps_block_shows_score_and_gain_with_their_intervals(tables):
    lines = reports.steps_block(tables).splitlines()
    assert lines[0] == "| step | miniature world | gain | seen, unseen |"
    assert lines[2] == "| before | 0.100 (0.050 to 0.150) |  |  |"
    after = "0.250 (0.200 to 0.300) | +0.150 (+0.100 to +0.200) | 0.300, 0.200"
    assert lines[3] == f"| after | {after} |"


@pytest.mark.parametrize("name", reports.BLOCKS)
def test_blocks_say_so_where_there_is_no_run(tmp_path, name):
    page = f"<!-- {name} -->\nold\n<!-- end -->"
    assert reports.fill(page, tmp_path) == page.replace("old", "No run yet.")


def test_rerankers_block_shows_gain_and_spread_of_every_run(tmp_path):
    table = {
        "reranker": ["plain search", "landmark-country"],
        "source": [None, "GLR21"],
        "private": [0.5, 0.6],
        "low": [0.45, 0.55],
        "high": [0.55, 0.65],
        "gain": [None, 0.1],
        "gain_low": [None, 0.05],
        "gain_high": [None, 0.15],
    }
    spread = {"reranker": table["reranker"], "spread": [0.2, 0.1]}
    for run in ("mini", "photos-photos"):
        write_csv(pd.DataFrame(table), tmp_path / f"{run}_06_rerankers.csv")
        write_csv(pd.DataFrame(spread), tmp_path / f"{run}_06_spread.csv")
    write_csv(pd.DataFrame(table).head(1), tmp_path / "photos-photos_06_rerankers.csv")
    lines = reports.rerankers_block(tmp_path).splitlines()
    title = "gain over plain search | seen, unseen | spread"
    assert lines[0] == f"| reranker | source | miniature world | {title} | photographs | {title} |"
    assert lines[2].count("|") == lines[3].count("|") == lines[0].count("|")
    assert "0.500 (0.450 to 0.550) |  |  | 0.200 | 0.500" in lines[2]
    assert "GLR21 | 0.600 (0.550 to 0.650) | +0.100 (+0.050 to +0.150) |  | 0.100 |" in lines[3]


def test_ablation_block_tells_what_was_not_run_and_what_cleaning_wins_back(tmp_path):
    names = ["ResNet152 raw labels", "ResNet152 cleaned", "ResNet152 true labels"]
    nothing = dict.fromkeys(("paper_private", "paper", "difference", "verdict"))
    table = pd.DataFrame({"name": names, "against": ["", names[0], names[0]], **nothing})
    scores = {"private": [0.5, 0.575, 0.6], "low": [0.4] * 3, "high": [0.7] * 3}
    scores["public"] = [0.6, 0.62, 0.65]
    write_csv(table.assign(**scores), tmp_path / "mini_05_cleaning.csv")
    text = reports.ablation_block("mini", tmp_path)
    assert "| ResNet152 cleaned |  | 0.575 (0.400 to 0.700) |  | ResNet152 raw labels |" in text
    assert "wins back 75% of the distance" in text
    assert "The best on Public queries, 'cleaned', wins back 75%." in text
    assert "Not run: GLR20 Table 1; GLR20 Table 2;" in text
    assert "directions" not in text
    assert "without splitting" not in text
    whole = [f"ResNet152 {name}, no splitting" for name in ("cleaned", "true labels")]
    more = pd.DataFrame({"name": whole, "against": names[0], **nothing, "private": [0.54, 0.58]})
    more["public"] = [0.64, 0.66]
    rows = pd.concat([table.assign(**scores), more])
    write_csv(rows, tmp_path / "mini_05_cleaning.csv")
    text = reports.ablation_block("mini", tmp_path)
    assert "equally long and without splitting, the cleaned list wins back 50% of the" in text
    assert "The best on Public queries, 'cleaned, no splitting', wins back 40%." in text
    with pytest.raises(FileNotFoundError):
        reports.ablation_block("mini", tmp_path, suffix="_quick")
    write_csv(table.assign(**scores), tmp_path / "mini_05_glr20_table_1_quick.csv")
    text = reports.ablation_block("mini", tmp_path, suffix="_quick")
    assert "**GLR20 Table 1**" in text
    assert "Not run" not in text


def test_ablation_block_points_to_the_notes_of_its_rows(tmp_path):
    nothing = dict.fromkeys(("paper_private", "paper", "difference", "verdict", "private"))
    table = pd.DataFrame({"name": ["a", "b"], "against": "", **nothing})
    write_csv(table, tmp_path / "mini_05_glr20_table_2.csv")
    assert "¹" not in reports.ablation_block("mini", tmp_path)
    write_csv(table.assign(note=[None, "shorter"]), tmp_path / "mini_05_glr20_table_1.csv")
    write_csv(table.assign(note=["other", "shorter"]), tmp_path / "mini_05_mixing.csv")
    text = reports.ablation_block("mini", tmp_path)
    assert [
        line.split("|")[1].strip() for line in text.splitlines() if line[:3] in ("| a", "| b")
    ] == ["a", "b¹", "a", "b", "a²", "b¹"]
    assert "\n\n¹ shorter; ² other." in text


def test_ablation_block_tells_test_times(tmp_path):
    scores = {"private": [0.5, 0.6], "low": [0.4] * 2, "high": [0.7] * 2}
    table = {
        "name": ["ResNet152 cluster", "both"],
        "against": "",
        **dict.fromkeys(("paper_private", "paper", "difference", "verdict")),
        **scores,
        "paper_milliseconds": [26.3, None],
        "milliseconds": [4.25, None],
    }
    write_csv(pd.DataFrame(table), tmp_path / "mini_05_glr20_table_2.csv")
    text = reports.ablation_block("mini", tmp_path)
    assert "the paper's on a GPU and here on the CPU: ResNet152 26.3 and 4.2 ms." in text


def test_descriptors_block_has_a_row_for_each_descriptor_and_cleaning(tmp_path):
    scores = {"noise_precision": [0.5, 0.75], "noise_recall": [0.25, 1.0], "ari": [0.125, 0.875]}
    names = {"descriptor": ["before", "after"], "cleaning": ["GLR20 alone"] * 2}
    write_csv(pd.DataFrame(names | scores), tmp_path / "mini_03_descriptors.csv")
    lines = reports.descriptors_block(tmp_path).splitlines()
    assert lines[0] == "| embeddings, cleaning | miniature world: precision | recall | ARI |"
    assert lines[3] == "| after, GLR20 alone | 0.75 | 1.00 | 0.88 |"


def test_fill_replaces_what_is_between_the_markers_alone(tables):
    text = "above\n<!-- steps -->\nold\n<!-- end -->\nbelow\n"
    filled = reports.fill(text, tables)
    assert filled.startswith("above\n<!-- steps -->\n| step |")
    assert filled.endswith("|\n<!-- end -->\nbelow\n")
    assert "old" not in filled
    assert reports.fill(filled, tables) == filled


@pytest.mark.parametrize("page", reports.PAGES, ids=lambda page: page.stem)
def test_pages_show_the_committed_reference_and_link_to_what_is_there(page):
    text = page.read_text()
    assert reports.fill(text) == text
    assert "No run yet" not in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert [link for link in links if not (page.parent / link).is_file()] == []


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 170


def copied(tmp_path):
    """Whether there was something to copy, and what is there now."""
    folder = tmp_path / "reference"
    folder.mkdir(exist_ok=True)
    found = reports.copy_run("mini", figures=True, reference=folder)
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
    assert reports.copy_run("photos-photos", figures=False, reference=tmp_path)
    assert pd.read_csv(tmp_path / "photos-photos_05_cleaning.csv")["private"].tolist() == [0.2]


def test_draw_forest_shows_every_committed_table_of_a_run(tmp_path):
    reports.draw_forest("mini", reference=tmp_path)
    assert list(tmp_path.iterdir()) == []
    row = {"difference": 0.02, "difference_low": -0.01, "difference_high": 0.05, "paper": 0.01}
    sizes = []
    for name in ("cleaning", "glr20_table_1"):
        rows = [{"name": "a"}, {"name": "b", "against": "a", **row}]
        write_csv(pd.DataFrame(rows), tmp_path / f"mini_05_{name}.csv")
        reports.draw_forest("mini", reference=tmp_path)
        sizes.append(Image.open(tmp_path / "mini_05_forest.png").size)
    assert sizes[1][1] > sizes[0][1]  # a panel each
    assert sizes[0][0] <= reports.WIDEST


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
    copy = partial(reports.copy_run, reference=tmp_path / "reference")
    monkeypatch.setattr(reports, "copy_run", copy)
    monkeypatch.setattr(reports, "draw_forest", None)  # not reached, and neither are the pages
    assert main([]) == 1
    said = capsys.readouterr()
    assert f"in {path}, found a damaged file" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(("limit", "is_kept"), [(reports.LARGEST, True), (1_000, False)])
def test_copy_run_converts_notebooks_with_smaller_figures(
    outputs, tmp_path, monkeypatch, capsys, limit, is_kept
):
    monkeypatch.setattr(reports, "LARGEST", limit)
    record(outputs / "mini", "06_submission_reranking", map=0.5)
    write_csv(pd.DataFrame({"notebook": []}), outputs / "mini" / "timings.csv")
    png = io.BytesIO()
    Image.fromarray(np.zeros((20, 2000, 3), dtype=np.uint8)).save(png, format="PNG")
    data = {"image/png": base64.b64encode(png.getvalue()).decode()}
    cell = nbformat.v4.new_code_cell(f"'{ROOT}/lib'", id="a")
    cell.outputs = [nbformat.v4.new_output("display_data", data)]
    path = outputs / "mini" / "notebooks" / "01_eda.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert ("mini_01_eda.html" in copied(tmp_path)[1]) == is_kept
    assert ("01_eda.ipynb: left out, " in capsys.readouterr().out) != is_kept
    if is_kept:
        page = (tmp_path / "reference" / "mini_01_eda.html").read_text()
        shown = base64.b64decode(re.findall(r"data:image/png;base64,([^\"]+)", page)[-1])
        assert Image.open(io.BytesIO(shown)).width == 900
        assert str(ROOT) not in page
