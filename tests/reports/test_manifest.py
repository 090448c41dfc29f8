"""The file run.json: what a run was made of."""

import re

from lib import reports
from lib.artifacts import write_json
from lib.reports.manifest import effective_settings


def test_read_manifest_is_empty_where_there_is_none_or_a_damaged_one(tmp_path):
    assert reports.read_manifest(tmp_path) == {}
    for damaged in ("", "[]", '{"notebooks": 3}'):
        (tmp_path / "run.json").write_text(damaged)
        assert reports.read_manifest(tmp_path) == {}
    write_json({"notebooks": {}}, tmp_path / "run.json")
    assert reports.read_manifest(tmp_path) == {"notebooks": {}}


def test_effective_settings_are_the_profiles_with_what_notebooks_changed():
    notebooks = {
        "02_train": {"changed": {"a": 2}},
        "03_clean": {"changed": {"a": 3, "seed": 1}},
        reports.ABLATION: {"changed": {"world.landmarks": 800}},  # another world
    }
    found = effective_settings({"settings": {"a": 1, "b": 1, "seed": 0}, "notebooks": notebooks})
    assert found == {"a": 3, "b": 1, "seed": 1}


def test_describe_data_follows_the_tables_and_not_their_place_or_images(tmp_path):
    prints = []
    for place, text in (("one", "id\n1\n"), ("two", "id\n1\n"), ("three", "id\n2\n")):
        root = tmp_path / place
        (root / "country").mkdir(parents=True)
        (root / "train.csv").write_text(text)
        (root / "a.jpg").write_text(place)
        prints.append(reports.describe_data(root))
    (root / "country" / "FR.json").write_text("[]")
    prints.append(reports.describe_data(root))
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    assert reports.describe_data(tmp_path / "none") == ""


def test_describe_place_tells_commit_device_and_versions():
    found = reports.describe_place()
    assert re.fullmatch(r"([0-9a-f]{7,40}(-dirty)?)?", found["commit"])
    assert re.search(r"\d+ cores$", found["device"])
    assert {"python", "torch", "pandas"} <= set(found["versions"])
