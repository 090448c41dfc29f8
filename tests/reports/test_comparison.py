"""Two runs side by side: settings that differ, and differences of scores with intervals."""

import re

import numpy as np
import pandas as pd
import pytest

from lib import reports
from lib.artifacts import rng, write_csv, write_json
from lib.reports.__main__ import main
from lib.retrieval import paired_gain

COUNT = 40


def write_run(folder, gain=0.0, *, first=0, number="06", **manifest):
    """A run whose Private queries start at number `first` and score `gain` more."""
    scores = np.random.default_rng(first).uniform(0, 0.8, COUNT)
    table = pd.DataFrame({"id": [f"{first + i:04d}" for i in range(COUNT)]})
    table["usage"] = ["Private"] * (COUNT - 5) + ["Public"] * 5
    table = table.assign(is_seen=True, plain=scores, reranked=scores + gain)
    write_csv(table, folder / "tables" / f"{number}_queries.csv")
    entry = {"parameters": {}, "changed": {}, "state": "done", "data": "beef"}
    usual = {"data_dir": "", "settings": {"top_k": 100, "clean.split": True}, "commit": "0a"}
    write_json({**usual, "notebooks": {"06_submit": entry}} | manifest, folder / "run.json")
    return table[table["usage"] == "Private"].set_index("id")


def test_compare_pairs_the_queries_of_both_runs(tmp_path):
    before = write_run(tmp_path / "a")
    after = write_run(tmp_path / "b", 0.1)
    told = reports.compare(tmp_path / "a", tmp_path / "b" / "run.json").splitlines()
    assert told[0] == "No setting differs."
    assert told[2].startswith("mAP over the same 35 Private queries, with 95 % intervals;")
    assert re.split(r"  +", told[4]) == ["step", "a", "b", "difference"]
    assert told[5].endswith("+0.000 (+0.000 to +0.000)")
    gain = paired_gain(after["reranked"], before["reranked"], generator=rng(0, "difference"))
    assert told[6].endswith("{:+.3f} ({:+.3f} to {:+.3f})".format(*gain))
    assert "+0.100 (+0.100 to +0.100)" in told[6]


def test_compare_says_that_queries_differ_and_draws_both_sets(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", 0.1, first=20)
    told = reports.compare(tmp_path / "a", tmp_path / "b")
    assert "different Private queries: 35 and 35, 15 of them in common." in told
    low, high = map(float, re.findall(r"\(([+-][\d.]+) to ([+-][\d.]+)\)", told)[-1])
    assert high - low > 0.1


def test_compare_lists_what_differs(tmp_path):
    entry = {"parameters": {"ALPHA": 0.5, "SEED": 1}, "changed": {"clean.split": False}}
    write_run(tmp_path / "a", versions={"torch": "1"})
    write_run(tmp_path / "b", notebooks={"06_submit": entry}, data_dir="x", versions={"torch": "2"})
    lines = reports.compare(tmp_path / "a", tmp_path / "b").split("\n\n")[0].splitlines()
    assert [re.split(r"  +", line) for line in lines] == [
        ["differs", "a", "b"],
        ["data folder", "miniature world", "x"],
        ["tables of the data", "beef", "–"],
        ["clean.split", "True", "False"],
        ["version of torch", "1", "2"],
        ["-p ALPHA", "–", "0.5"],
    ]


def test_compare_takes_the_last_notebook_that_both_have_and_does_without_manifests(tmp_path):
    write_run(tmp_path / "a", number="02")
    write_run(tmp_path / "b")
    with pytest.raises(ValueError, match=r"found none in .*a and .*b; run these notebooks"):
        reports.compare(tmp_path / "a", tmp_path / "b")
    write_run(tmp_path / "b", 0.1, number="02")
    (tmp_path / "b" / "run.json").unlink()
    told = reports.compare(tmp_path / "a", tmp_path / "b")
    assert told.startswith("Settings are not known: no run.json in b.")
    assert "+0.100 (+0.100 to +0.100)" in told


def test_main_compares_and_refuses_in_a_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LANDMARK_CALLER", str(tmp_path))
    write_run(tmp_path / "a")
    assert main(["compare", "a", "a/run.json"]) == 0
    assert "same 35 Private queries" in capsys.readouterr().out
    for words in (["compare", "a", "nope"], ["page", "nope"]):
        assert main(words) == 1
        told = capsys.readouterr().err
        assert told.startswith("reports: expected ")
        assert told.count("\n") == 1
