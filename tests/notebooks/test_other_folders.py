"""The six notebooks, to the submission, on folders that are not whole GLDv2 ones.

Imported photographs, which have the training images alone as Kaggle's layout of 2020 has, and
Kaggle's layout of 2021: no countries, no names, no truth, no
solution. The cells run in this process, because six kernels would take longer than all the work.
"""

import ast
import contextlib
import io

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.artifacts import read_records, run_folder
from lib.data.gldv2 import image_paths
from lib.data.own_photos import import_photos
from lib.parameters import declared_parameters
from lib.pipeline import notebooks
from lib.session import Session

SIZE = 48
SPLITS = {"train": 8, "index": 4, "test": 1}  # images per landmark


def view(landmark, generator):
    """A photograph of a landmark: its own stripes and colour, shifted, darker or lighter."""
    own = np.random.default_rng(landmark)
    angle, colour = own.uniform(0, np.pi), own.uniform(40, 220, 3)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    phase = 3 * (x * np.cos(angle) + y * np.sin(angle)) + generator.random()
    pixels = colour * generator.uniform(0.7, 1.1) + 35 * np.sin(2 * np.pi * phase)[..., None]
    pixels += generator.normal(0, 12, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def imported(folder, generator):
    for landmark in range(8):
        place = folder / "mine" / f"Place {landmark}"
        place.mkdir(parents=True)
        for number in range(8):
            view(landmark, generator).save(place / f"{number}.jpg")
    import_photos(folder / "mine", folder / "data")
    return folder / "data"


def kaggle(folder, generator):
    rows = {split: [] for split in SPLITS}
    for split, count in SPLITS.items():
        for number in range(10 * count):
            name = f"{generator.integers(1 << 62):016x}"
            path = folder / image_paths(split, [name])[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            view(number % 10, generator).save(path)
            rows[split].append((name, number % 10))
    train = pd.DataFrame(rows["train"], columns=["id", "landmark_id"])
    train.to_csv(folder / "train.csv", index=False)
    example = " ".join(name for name, _ in rows["index"][:3])
    sample = pd.DataFrame({"id": [name for name, _ in rows["test"]], "images": example})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return folder


FOLDERS = {"imported": imported, "kaggle2021": kaggle}


def run_cells(path, parameters):
    """Run a notebook's code cells as a kernel would, with its parameters changed."""
    names = {"__name__": "__main__"}
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    for place, cell in enumerate(cells):
        exec(compile(ast.parse(cell.source), f"{path.stem} {cell.id}", "exec"), names)
        if place == 0:
            names.update(parameters)


@pytest.fixture(scope="module", params=FOLDERS)
def finished(request, tmp_path_factory):
    """Data folder and run folder of a finished chain, and what it printed."""
    data = FOLDERS[request.param](tmp_path_factory.mktemp("data"), np.random.default_rng(7))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANDMARK_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        patch.setenv("LANDMARK_HEADLESS", "1")
        given = {"PROFILE": "smoke", "DATA_DIR": str(data), "COMPARE": False, "SEEDS": [0]}
        with contextlib.redirect_stdout(io.StringIO()) as said:
            for path in notebooks():
                names = declared_parameters(path).keys() & given.keys()
                run_cells(path, {name: given[name] for name in names})
        yield data, run_folder("smoke", str(data)), said.getvalue()


def test_chain_comes_to_a_submission_of_the_folders_own_images(finished):
    data, folder, _ = finished
    submission = pd.read_csv(folder / "submission.csv")
    sample = data / "sample_submission.csv"
    if sample.is_file():
        assert submission["id"].tolist() == pd.read_csv(sample)["id"].tolist()
    split = "index" if sample.is_file() else "train"
    found = submission["images"].str.split().explode()
    assert all((data / path).is_file() for path in image_paths(split, found))


def test_chain_scores_held_out_landmarks(finished):
    records = read_records(finished[1]).set_index(["notebook", "name"])["value"]
    assert records["01_eda", "queries"] > 0
    assert 0 <= records["06_submission_reranking", "map_reranked"] <= 1


def test_chain_says_so_where_no_truth_is_known(finished):
    assert finished[2].count(Session.NO_TRUTH) == 3
    drawn = {path.stem for path in (finished[1] / "figures").glob("*.png")}
    assert not drawn & {"03_radii_against_truth", "03_alarms", "03_misses"}


def test_chain_says_so_where_no_country_is_known(finished):
    assert finished[2].count(Session.NO_COUNTRIES) == 6
    drawn = {path.stem for path in (finished[1] / "figures").glob("*.png")}
    assert {"01_landmarks", "03_map", "06_strips"} <= drawn
    places = {
        "01_continents",
        "01_countries",
        "01_country",
        "04_continents",
        "06_continents",
        "06_fairness",
    }
    assert not drawn & places
