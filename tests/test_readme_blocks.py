"""The README's numbers come from the committed tables, and from nowhere else."""

import pandas as pd
import pytest

from lib import reports as readme_blocks
from lib.artifacts import ROOT, write_csv


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
    lines = readme_blocks.steps_block(tables).splitlines()
    assert lines[0] == "| step | miniature world | gain |"
    assert lines[2] == "| before | 0.100 (0.050 to 0.150) |  |"
    assert lines[3] == "| after | 0.250 (0.200 to 0.300) | +0.150 (+0.100 to +0.200) |"


def test_blocks_say_so_where_there_is_no_run(tmp_path):
    assert readme_blocks.steps_block(tmp_path) == "No run yet."
    assert readme_blocks.ablation_block(tmp_path) == "No run yet."


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
    assert readme_blocks.rerankers_block(tmp_path) == "No run yet."
    for run in ("mini", "photos-photos"):
        write_csv(pd.DataFrame(table), tmp_path / f"{run}_06_rerankers.csv")
        write_csv(pd.DataFrame(spread), tmp_path / f"{run}_06_spread.csv")
    write_csv(pd.DataFrame(table).head(1), tmp_path / "photos-photos_06_rerankers.csv")
    lines = readme_blocks.rerankers_block(tmp_path).splitlines()
    title = "gain over plain search | spread"
    assert lines[0] == f"| reranker | source | miniature world | {title} | photographs | {title} |"
    assert lines[2].count("|") == lines[3].count("|") == lines[0].count("|")
    assert "0.500 (0.450 to 0.550) |  | 0.200 | 0.500" in lines[2]
    assert "GLR21 | 0.600 (0.550 to 0.650) | +0.100 (+0.050 to +0.150) | 0.100 |" in lines[3]


def test_ablation_block_tells_what_was_not_run_and_what_cleaning_wins_back(tmp_path):
    names = ["ResNet152 raw labels", "ResNet152 cleaned", "ResNet152 true labels"]
    nothing = dict.fromkeys(("paper_private", "paper", "difference", "verdict"))
    table = pd.DataFrame({"name": names, "against": ["", names[0], names[0]], **nothing})
    scores = {"private": [0.5, 0.575, 0.6], "low": [0.4] * 3, "high": [0.7] * 3}
    scores["public"] = [0.6, 0.62, 0.65]
    write_csv(table.assign(**scores), tmp_path / "mini_05_cleaning.csv")
    text = readme_blocks.ablation_block("mini", tmp_path)
    assert "| ResNet152 cleaned |  | 0.575 (0.400 to 0.700) | ResNet152 raw labels |" in text
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
    text = readme_blocks.ablation_block("mini", tmp_path)
    assert "equally long and without splitting, the cleaned list wins back 50% of the" in text
    assert "The best on Public queries, 'cleaned, no splitting', wins back 40%." in text
    assert readme_blocks.ablation_block("mini", tmp_path, suffix="_quick") == "No run yet."
    write_csv(table.assign(**scores), tmp_path / "mini_05_glr20_table_1_quick.csv")
    text = readme_blocks.ablation_block("mini", tmp_path, suffix="_quick")
    assert "**GLR20 Table 1**" in text
    assert "Not run" not in text


def test_ablation_block_points_to_the_notes_of_its_rows(tmp_path):
    nothing = dict.fromkeys(("paper_private", "paper", "difference", "verdict", "private"))
    table = pd.DataFrame({"name": ["a", "b"], "against": "", **nothing})
    write_csv(table, tmp_path / "mini_05_glr20_table_2.csv")
    assert "¹" not in readme_blocks.ablation_block("mini", tmp_path)
    write_csv(table.assign(note=[None, "shorter"]), tmp_path / "mini_05_glr20_table_1.csv")
    write_csv(table.assign(note=["other", "shorter"]), tmp_path / "mini_05_mixing.csv")
    text = readme_blocks.ablation_block("mini", tmp_path)
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
    text = readme_blocks.ablation_block("mini", tmp_path)
    assert "the paper's on a GPU and here on the CPU: ResNet152 26.3 and 4.2 ms." in text


def test_descriptors_block_has_a_row_for_each_descriptor_and_cleaning(tmp_path):
    assert readme_blocks.descriptors_block(tmp_path) == "No run yet."
    scores = {"noise_precision": [0.5, 0.75], "noise_recall": [0.25, 1.0], "ari": [0.125, 0.875]}
    names = {"descriptor": ["before", "after"], "cleaning": ["GLR20 alone"] * 2}
    write_csv(pd.DataFrame(names | scores), tmp_path / "mini_03_descriptors.csv")
    lines = readme_blocks.descriptors_block(tmp_path).splitlines()
    assert lines[0] == "| descriptor | cleaning | miniature world: precision | recall | ARI |"
    assert lines[3] == "| after | GLR20 alone | 0.75 | 1.00 | 0.88 |"


def test_fill_replaces_what_is_between_the_markers_alone(tables):
    text = "above\n<!-- steps -->\nold\n<!-- end -->\nbelow\n"
    filled = readme_blocks.fill(text, tables)
    assert filled.startswith("above\n<!-- steps -->\n| step |")
    assert filled.endswith("|\n<!-- end -->\nbelow\n")
    assert "old" not in filled
    assert readme_blocks.fill(filled, tables) == filled


def test_readme_shows_the_committed_reference():
    text = (ROOT / "README.md").read_text()
    assert readme_blocks.fill(text) == text
    assert "No run yet" not in text


def test_readme_pictures_are_committed():
    text = (ROOT / "README.md").read_text()
    pictures = [line.split("](")[1].split(")")[0] for line in text.splitlines() if "![" in line]
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
