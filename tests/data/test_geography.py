"""Countries of landmarks, continents of countries."""

import json

import numpy as np
import pandas as pd
import pytest

from lib.data.geography import (
    CONTINENTS,
    continent_of,
    country_of_landmarks,
    country_of_names,
    read_country_files,
)
from tests.dataset import write_countries


def landmarks(**names):
    ids = [int(key[1:]) for key in names]
    return pd.DataFrame({"landmark_id": ids, "category": list(names.values())})


@pytest.mark.parametrize(
    ("code", "continent"),
    [
        ("NA", "Africa"),  # Namibia, not a missing value
        ("RU", "Europe"),
        ("TR", "Asia"),
        ("KZ", "Asia"),
        ("AQ", "Antarctica"),
        ("XK", "Europe"),
        ("US", "North America"),
        ("PE", "South America"),
        ("AU", "Oceania"),
        ("OTHER", "OTHER"),
        ("??", "OTHER"),
    ],
)
def test_continent_of_has_one_answer(code, continent):
    assert continent_of([code]).tolist() == [continent]


def test_continent_of_keeps_order_and_length():
    codes = np.random.default_rng(0).choice(["NA", "FR", "IN", "XK", "OTHER"], 500)
    expected = [continent_of([code])[0] for code in codes]
    assert continent_of(pd.Series(codes)).tolist() == expected
    assert set(expected) <= set(CONTINENTS)
    assert continent_of([]).shape == (0,)


def test_country_of_landmarks_joins_on_id_and_falls_back_to_the_name(tmp_path):
    notes = []
    files = {
        "SE": [{"id": 5, "name": "Marb%C3%A4cks_kyrka"}],
        "NA": [{"name": "Windhoek"}],
        "XK": [{"id": "6", "name": "Windhoek"}],
    }
    write_countries(tmp_path, files)
    entries = read_country_files(tmp_path, notes.append)
    known = landmarks(_4="Windhoek", _5="Another_name", _6="Windhoek", _7="Unheard_of")
    codes = country_of_landmarks(entries, known, notes.append)
    assert codes.tolist() == ["NA", "SE", "XK", "OTHER"]
    assert notes == []


def test_country_of_names_ignores_nameless_landmarks(tmp_path):
    write_countries(tmp_path, {"FR": [{"id": 1}, {"id": 2, "name": "Eiffel%20Tower"}]})
    entries = read_country_files(tmp_path, pytest.fail)
    names = pd.Series(["", "Eiffel_Tower", "Else"])
    assert country_of_names(entries, names).tolist() == ["OTHER", "FR", "OTHER"]


def test_country_of_landmarks_counts_unknown_and_doubly_listed_landmarks(tmp_path):
    notes = []
    write_countries(tmp_path, {"FR": [{"id": 1}, {"id": 8}], "IT": [{"id": 1}, {"id": 9}]})
    entries = read_country_files(tmp_path, notes.append)
    codes = country_of_landmarks(entries, landmarks(_1=""), notes.append)
    assert codes.tolist() == ["FR"]
    assert notes == [
        "2 landmarks of country files are unknown: 8, 9.",
        "1 landmarks have several countries (first one kept): 1.",
    ]


def test_read_country_files_counts_codes_without_file_or_continent(tmp_path):
    notes = []
    write_countries(tmp_path, {"FR": [], "QQ": []})
    (tmp_path / "country" / "FR.json").unlink()
    assert read_country_files(tmp_path, notes.append).empty
    assert notes[0] == "1 countries have no file in country: FR."
    assert notes[1] == "1 country codes have no continent: QQ."


def test_country_files_that_are_absent_make_one_warning_and_only_other(tmp_path):
    notes = []
    entries = read_country_files(tmp_path, notes.append)
    codes = country_of_landmarks(entries, landmarks(_1="A", _2="B"), notes.append)
    assert codes.tolist() == ["OTHER", "OTHER"]
    assert len(notes) == 1
    assert "country_codes.json" in notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", "is not JSON"),
        ("3", "must hold a list of landmarks"),
        (json.dumps(["a"]), "entry 'a'"),
        (json.dumps([{"title": 1}]), "one with a whole number from 0 as id"),
        (json.dumps([{"id": "x"}]), "one with a whole number from 0 as id"),
        (json.dumps([{"id": None}]), "entry .*None.*a whole number from 0 as id"),
        ('[{"id": Infinity}]', "one with a whole number from 0 as id"),
        (json.dumps([{"id": 10**30}]), "entry .*10000.*a whole number from 0 as id"),
        (json.dumps([{"id": 1.5}]), "entry .*1.5.*a whole number from 0 as id"),
        (json.dumps([{"id": -7}]), "entry .*-7.*a whole number from 0 as id"),
        (json.dumps([{"id": True}]), "entry .*True.*a whole number from 0 as id"),
        (json.dumps([{"id": 1, "name": ["a"]}]), r"\['a'\].*and a text as name"),
        ("[" * 10**5, "is not JSON"),
        ("\0" * 9, "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_read_country_files_refuses_malformed_files(tmp_path, content, message):
    write_countries(tmp_path, {"FR": []})
    (tmp_path / "country" / "FR.json").write_text(content)
    with pytest.raises(ValueError, match=rf"FR\.json.*{message}"):
        read_country_files(tmp_path, pytest.fail)


@pytest.mark.parametrize("code", ["../../out", ["FR"], {"a": 1}, "FRA", "F", "", 7, None])
def test_read_country_files_refuses_what_is_no_code(tmp_path, code):
    root = tmp_path / "a" / "b"
    write_countries(root, {"FR": [], "IT": []})
    (tmp_path / "out.json").write_text("[]")
    (root / "country_codes.json").write_text(json.dumps(["FR", code]))
    with pytest.raises(ValueError, match=r"country_codes\.json has the entry .*but a code of two"):
        read_country_files(root, pytest.fail)


def test_read_country_files_reads_a_byte_order_mark_and_half_a_pair(tmp_path):
    write_countries(tmp_path, {"FR": []})
    text = '[{"id": 1, "name": "x\\ud800"}, {"id": 2, "name": null}]'
    (tmp_path / "country" / "FR.json").write_text(text, encoding="utf-8-sig")
    table = read_country_files(tmp_path, pytest.fail)
    assert table.to_numpy().tolist() == [["FR", 1, "x?"], ["FR", 2, ""]]
