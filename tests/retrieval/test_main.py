"""Tests of `python -m lib.retrieval`."""

import re

import pandas as pd
import pytest

from lib.retrieval.__main__ import main

SOLUTION_FILE = """id,images,Usage
p0,a b,Public
p1,c,Private
p2,d e f ,Private
i0,None,Ignored
"""


def test_main_prints_the_table_of_a_file(tmp_path, capsys):
    (tmp_path / "solution.csv").write_text(SOLUTION_FILE)
    (tmp_path / "submission.csv").write_text("id,images\np0,a x b\np1,x c\ni0,a\n")
    main(["score", str(tmp_path / "submission.csv"), str(tmp_path / "solution.csv")])
    printed = pd.Series(capsys.readouterr().out.splitlines())
    assert printed[printed.str.startswith("Public")].str.contains("0.8333").all()
    assert printed[printed.str.startswith("Private")].str.contains("0.2500").all()
    with pytest.raises(SystemExit, match=r"error: .*missing\.csv"):
        main(["score", str(tmp_path / "missing.csv"), str(tmp_path / "solution.csv")])


@pytest.mark.parametrize(
    ("submission", "said"),
    [
        ("p0,a x b\np1,x c\np2,d\n", ""),
        ("p0,a x b\np1,x c\n", "warning: .* ranks no image for 1 of the 3 queries, the first p2"),
        ("p0,\np1,\np2,\n", "warning: .* ranks no image for 3 of the 3 queries, the first p0"),
        (
            "p0,A\np1,x\np2,D y\n",
            "none of the 4 ids .*, but 2 are in the other case",
        ),
        ("p0,x\np1,\np2,y\n", r"none of the 2 ids in .*submission\.csv answers any query"),
    ],
)
def test_main_warns_of_a_submission_that_is_for_something_else(tmp_path, capsys, submission, said):
    (tmp_path / "solution.csv").write_text(SOLUTION_FILE)
    (tmp_path / "submission.csv").write_text(f"id,images\n{submission}")
    main(["score", str(tmp_path / "submission.csv"), str(tmp_path / "solution.csv")])
    told = capsys.readouterr().err
    assert re.search(said, told) if said else told == ""


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ("solution.csv", "submission.csv"),
            r"solution\.csv: .*submission and solution are swapped",
        ),
        (("submission.csv", "ignored.csv"), r"ignored\.csv: expected Public or Private queries"),
        (("other.csv", "solution.csv"), r"other\.csv: expected predictions for queries of the sol"),
        (("lines.csv", "solution.csv"), r"lines\.csv: expected the columns id,images, found p0,a"),
        ((".", "solution.csv"), "is missing, or no file"),
    ],
)
def test_main_says_which_file_is_wrong(tmp_path, files, message):
    (tmp_path / "solution.csv").write_text(SOLUTION_FILE)
    (tmp_path / "submission.csv").write_text("id,images\np0,a\n")
    (tmp_path / "ignored.csv").write_text("id,images,Usage\ni0,,Ignored\n")
    (tmp_path / "other.csv").write_text("id,images\nP0,a\n")
    (tmp_path / "lines.csv").write_text("p0,a\n")
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        main(["score", *(str(tmp_path / name) for name in files)])


def test_main_prints_groups_and_keeps_what_every_query_scored(tmp_path, capsys):
    (tmp_path / "solution.csv").write_text(SOLUTION_FILE)
    (tmp_path / "submission.csv").write_text("id,images\np0,a x b\np1,x c\n")
    (tmp_path / "groups.csv").write_text("id,group\np0,Asia\np1,Africa\np2,Asia\n")
    files = [str(tmp_path / name) for name in ("submission.csv", "solution.csv")]
    more = ["--groups", str(tmp_path / "groups.csv"), "--queries", str(tmp_path / "scores.csv")]
    main(["score", *files, *more])
    printed = capsys.readouterr().out
    assert re.search(r"Private\s+Africa\s+1\s+0.5000", printed)
    scores = pd.read_csv(tmp_path / "scores.csv").set_index("query")
    assert scores["AP@100"].to_dict() == pytest.approx({"p0": 5 / 6, "p1": 0.5, "p2": 0.0})
    (tmp_path / "groups.csv").write_text("id,continent\np0,Asia\n")
    with pytest.raises(SystemExit, match=r"columns id,group, found id,continent"):
        main(["score", *files, *more])


def test_main_checks_a_file_against_a_dataset_folder(tmp_path, capsys):
    pd.DataFrame({"id": ["q00", "q01"]}).to_csv(tmp_path / "test.csv", index=False)
    pd.DataFrame({"id": ["aaa", "bbb"]}).to_csv(tmp_path / "index.csv", index=False)
    path = tmp_path / "submission.csv"
    path.write_text("id,images\nq01,bbb aaa\nq00,aaa bbb\n")
    main(["check", str(path), str(tmp_path)])
    assert "2 rows are right" in capsys.readouterr().out
    path.write_text("id,images\nq01,bbb aaa\n")
    with pytest.raises(SystemExit, match=r"error: .*the first 'q00'"):
        main(["check", str(path), str(tmp_path)])


@pytest.mark.parametrize("data", ["nowhere", "empty"])
def test_main_names_a_folder_that_has_no_dataset(tmp_path, data):
    (tmp_path / "empty").mkdir()
    (tmp_path / "submission.csv").write_text("id,images\nq,a\n")
    with pytest.raises(SystemExit, match=rf"error: expected .* {tmp_path / data}[,;]"):
        main(["check", str(tmp_path / "submission.csv"), str(tmp_path / data)])
