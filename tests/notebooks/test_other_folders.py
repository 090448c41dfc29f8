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
from matplotlib.figure import Figure
from PIL import Image

from lib.artifacts import read_records, run_folder
from lib.data.gldv2 import image_paths
from lib.data.own_photos import import_photos
from lib.parameters import declared_parameters
from lib.pipeline import notebooks
from lib.reranking import ENSEMBLES
from lib.session import Session
from lib.training import CHECKPOINT
from tests.dataset import LANDMARKS, stripes_image, write_stripes


def imported(folder):
    generator = np.random.default_rng(7)
    for landmark in range(len(LANDMARKS)):
        place = folder / "mine" / f"Place {landmark}"
        place.mkdir(parents=True)
        for number in range(8):
            pixels = Image.fromarray(stripes_image(landmark, generator))
            pixels.save(place / f"{number}.jpg", quality=90)
    import_photos(folder / "mine", folder / "data")
    return folder / "data"


def kaggle(folder):
    write_stripes(folder)
    train, test = (
        pd.read_csv(folder / f"{name}.csv", dtype={"id": str}) for name in ("train", "test")
    )
    example = " ".join(pd.read_csv(folder / "index.csv", dtype=str)["id"][:3])
    for path in (*folder.glob("*.csv"), *folder.rglob("*.json")):
        path.unlink()
    train.drop(columns="url").to_csv(folder / "train.csv", index=False)
    test.assign(images=example).to_csv(folder / "sample_submission.csv", index=False)
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
    data, savefig = FOLDERS[request.param](tmp_path_factory.mktemp("data")), Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANDMARK_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        patch.setenv("LANDMARK_HEADLESS", "1")
        patch.setattr("lib.ablation.runner.clear_device_cache", lambda **_: None)  # slow here
        patch.setattr(Figure, "savefig", lambda self, path, **_: savefig(self, path, dpi=30))
        given = {"PROFILE": "smoke", "DATA_DIR": str(data), "SEEDS": [0]}
        # As `full` has it, and a second network from a file.
        given |= {"COMPARE": "off", "ABLATION": False}
        given |= {"SET": "clean.drop_suspected_mislabels=off"}
        second = run_folder("smoke", str(data)) / "arcface" / CHECKPOINT
        given |= {"SECOND_RUN": str(second)}
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


def test_chain_says_what_was_left_out(finished):
    _, folder, said = finished
    told = (Session.NO_CONTROL, Session.NO_LABEL_NOISE, Session.NO_COMPARISON)
    assert [said.count(one) for one in told] == [1, 1, 1]
    assert not (folder / "cluster_on_clean").exists()
    assert not (folder / "figures" / "03_margins.png").exists()
    table = pd.read_csv(folder / "tables" / "06_rerankers.csv")
    assert table["reranker"].tolist() == ["plain search", *ENSEMBLES]


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
