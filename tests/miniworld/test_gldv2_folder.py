"""The miniature world: a whole, consistent GLDv2 folder that depends on its config alone."""

import csv
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil
import pytest

from lib.artifacts import ROOT
from lib.cleaning.evaluate import read_truth
from lib.config import WorldConfig
from lib.data.tables import category_url
from lib.miniworld import generate, gldv2_folder

TINY = WorldConfig(
    landmarks=12, raw_images=150, gallery_images=60, queries=14, image_size=32, seed=3
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("worlds") / "tiny", TINY, jobs=1)


def _table(world: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(world / name, keep_default_na=False)


def _content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_generate_does_not_depend_on_the_number_of_processes(world, tmp_path):
    again = generate(tmp_path / "again", TINY, jobs=2)
    assert _content(again) == _content(world)


def test_generate_does_nothing_when_the_world_is_there(world, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    monkeypatch.setattr(gldv2_folder, "make_plan", None)  # would fail if it were called
    assert generate(world, TINY) == world
    assert {path: path.stat().st_mtime_ns for path in world.rglob("*")} == before


def test_generate_killed_half_way_takes_its_workers_along(tmp_path):
    code = "import sys; from lib.config import WorldConfig; from lib.miniworld import generate\n"
    code += "generate(sys.argv[1], WorldConfig())"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "world"], cwd=ROOT) as process:
        while process.poll() is None and not list(tmp_path.rglob("*.jpg")):
            time.sleep(0.1)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert len(workers) >= 2
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_generate_interrupted_half_way_leaves_nothing(tmp_path, monkeypatch):
    left = iter(range(20))

    def last_a_while(*_: object, **__: object) -> np.ndarray:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return np.zeros((32, 32, 3), np.uint8)

    monkeypatch.setattr(gldv2_folder, "take_photograph", last_a_while)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "world", TINY, jobs=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null"])
def test_generate_draws_a_world_again_whose_manifest_is_damaged(tmp_path, monkeypatch, content):
    (tmp_path / "world.json").write_text(content)
    (tmp_path / "left_over.jpg").write_bytes(b"")
    monkeypatch.setattr(gldv2_folder, "_draw_images", lambda *_: None)
    generate(tmp_path, TINY)
    assert not (tmp_path / "left_over.jpg").exists()
    assert json.loads((tmp_path / "world.json").read_text())["key"]


def test_generate_refuses_a_folder_with_other_files(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ValueError, match="folder of its own"):
        generate(tmp_path, TINY)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"mine"


def test_generate_writes_every_image_that_the_tables_name(world):
    for split, size in (("train", 150), ("index", 60), ("test", 14)):
        ids = _table(world, f"{split}.csv")["id"]
        assert len(ids) == ids.nunique() == size
        assert ids.str.fullmatch("[0-9a-f]{16}").all()
        paths = {f"{split}/{i[0]}/{i[1]}/{i[2]}/{i}.jpg" for i in ids}
        assert paths == {str(p.relative_to(world)) for p in world.glob(f"{split}/*/*/*/*.jpg")}
    shapes = {cv2.imread(str(path)).shape for path in world.rglob("*.jpg")}
    assert shapes == {(32, 32, 3)}


def test_generate_files_every_landmark_under_a_category_and_a_country(world):
    categories = _table(world, "train_label_to_category.csv").set_index("landmark_id")["category"]
    assert set(_table(world, "train.csv")["landmark_id"]) == set(categories.index)
    codes = json.loads((world / "country_codes.json").read_text())
    assert {"NA", "SE", "XK", "AQ", "OTHER"} <= set(codes)
    found = {}
    for code in codes:
        for entry in json.loads((world / "country" / f"{code}.json").read_text()):
            found[entry["id"]] = f"http://commons.wikimedia.org/wiki/Category:{entry['name']}"
    assert found == categories.to_dict()
    with (world / "train_label_to_category.csv").open() as lines:
        quoted = [line for line in lines if line.count('"')]
    assert any("%C3%A5land" in line for line in quoted)
    assert all(len(row) == 2 for row in csv.reader(quoted))


def test_generate_makes_a_clean_list_that_is_smaller_and_purer(world):
    train = _table(world, "train.csv").set_index("id")
    clean = _table(world, "train_clean.csv")
    listed = {i: row.landmark_id for row in clean.itertuples() for i in row.images.split()}
    assert all(train["landmark_id"][i] == landmark for i, landmark in listed.items())
    assert 0.30 <= len(listed) / len(train) <= 0.50
    assert len(clean) / train["landmark_id"].nunique() == pytest.approx(0.4, abs=0.05)
    planted = read_truth(world).set_index("id")["planted"]
    assert (planted[list(listed)] != "none").mean() < 0.3 * (planted[train.index] != "none").mean()


def test_generate_tells_the_truth_about_every_image(world):
    truth = read_truth(world).set_index("id")
    listed = [_table(world, f"{split}.csv")["id"] for split in ("train", "index", "test")]
    assert set(truth.index) == set(pd.concat(listed))
    assert (truth["shows"] != "").all()
    train = truth[truth["split"] == "train"]
    shares = train["planted"].value_counts(normalize=True)
    assert 0.04 < shares["wrong"] < 0.22
    assert 0.005 < shares["junk"] < 0.13
    names = _table(world, "train_label_to_category.csv").set_index("landmark_id")["category"]
    labelled = names[_table(world, "train.csv").set_index("id")["landmark_id"][train.index]]
    shown = train["shows"].map(category_url)
    is_right = labelled.to_numpy() == shown.to_numpy()
    np.testing.assert_array_equal(is_right, train["planted"] == "none")


def test_generate_asks_queries_that_the_gallery_answers(world):
    solution = _table(world, "retrieval_solution_v2.1.csv")
    assert list(solution["id"]) == list(_table(world, "test.csv")["id"])
    assert list(solution["id"]) == list(_table(world, "sample_submission.csv")["id"])
    assert set(solution["Usage"]) == {"Public", "Private", "Ignored"}
    ignored = solution["Usage"] == "Ignored"
    assert (solution["images"][ignored] == "None").all()
    shows = read_truth(world).set_index("id")["shows"]
    index = _table(world, "index.csv")["id"]
    for row in solution[~ignored].itertuples():
        relevant = row.images.split()
        assert set(shows[relevant]) == {shows[row.id]}
        assert len(relevant) == len(set(relevant)) == (shows[index] == shows[row.id]).sum()


def test_generate_numbers_gallery_landmarks_apart(world):
    labelled = _table(world, "index_image_to_landmark.csv")
    index = set(_table(world, "index.csv")["id"])
    assert set(labelled["id"]) < index
    categories = _table(world, "index_label_to_category.csv").set_index("landmark_id")["category"]
    shows = read_truth(world).set_index("id")["shows"]
    named = shows[labelled["id"]].map(category_url)
    assert list(categories[labelled["landmark_id"]]) == list(named)
    train = _table(world, "train_label_to_category.csv").set_index("category")["landmark_id"]
    shared = [name for name in categories if name in train.index]
    assert 0 < len(shared) < len(categories)
    assert (categories.reset_index().set_index("category").loc[shared, "landmark_id"]
            != train[shared]).any()  # fmt: skip
