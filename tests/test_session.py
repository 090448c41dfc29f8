"""A notebook's start: its parameters checked, its data found, its results in their places."""

import dataclasses
import pickle
import time

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lib import retrieval, time_limit
from lib import session as sessions
from lib.artifacts import ROOT, mark_complete, read_records, run_folder, start_over, write_csv
from lib.config import InferenceConfig
from lib.data.gldv2 import Dataset
from lib.parameters import SETTINGS, declared_parameters
from lib.recipes import profile
from lib.session import Session, start
from tests.made_up import write_folder

PARAMETERS = """\
# What a person may change.
PROFILE: str = "smoke"  # smoke, mini, photos or full
DATA_DIR: str = ""  # a folder in GLDv2's layout
RECIPE: str = ""
NAME: str = ""
SEED: int = 0
EPS: float = 0.0  # 0: the suggestion
ROWS: list[int] = [1, 2]
SOFTMAX_EPOCHS: int = -1
BACKBONE: str = ""
SET: str = ""
"""
GIVEN = {"PROFILE": "smoke", "DATA_DIR": "", "RECIPE": "", "NAME": "", "SEED": 0, "EPS": 0.0}
GIVEN |= {"ROWS": [1, 2], "SOFTMAX_EPOCHS": -1, "BACKBONE": "", "SET": ""}


def write_notebook(path, source=PARAMETERS, tags=("parameters",)):
    first = nbformat.v4.new_code_cell("NOT_A_PARAMETER: int = 1", id="first")
    cell = nbformat.v4.new_code_cell(source, id="second", metadata={"tags": list(tags)})
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[first, cell]), path)
    return path


@pytest.fixture
def begin(tmp_path, monkeypatch, outputs, stripes):
    """Start notebook 01_test with some of its parameters changed; the world is ready-made."""
    write_notebook(tmp_path / "notebooks" / "01_test.ipynb")
    monkeypatch.setattr(sessions, "ROOT", tmp_path)
    monkeypatch.setattr(sessions.miniworld, "generate", lambda root, config: stripes)
    return lambda **changes: start("01_test", GIVEN | changes)


def test_declared_parameters_reads_names_and_defaults(tmp_path):
    assert declared_parameters(write_notebook(tmp_path / "a.ipynb")) == GIVEN


def test_declared_parameters_takes_negative_numbers_and_nested_literals(tmp_path):
    source = "A: float = -1.5\nB: dict[str, list[int]] = {'x': [1]}\nC: bool = False\nD: tuple = ()"
    assert declared_parameters(write_notebook(tmp_path / "a.ipynb", source)) == {
        "A": -1.5,
        "B": {"x": [1]},
        "C": False,
        "D": (),
    }


def test_declared_parameters_asks_for_the_tag(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", tags=("parameter",))
    with pytest.raises(ValueError, match=r"cell tagged 'parameters' in a\.ipynb, found none"):
        declared_parameters(path)


def test_start_opens_the_miniature_world(begin, stripes, outputs):
    found = begin()
    assert found.notebook == "01_test"
    assert found.profile == profile("smoke")
    assert found.root == stripes
    assert found.is_miniature
    assert found.folder == outputs / "smoke"


def test_start_generates_the_world_of_its_profile(begin, outputs, monkeypatch):
    asked = []
    monkeypatch.setattr(sessions.miniworld, "generate", lambda *values: asked.append(values))
    begin(PROFILE="mini")
    assert asked == [(outputs / "data" / "mini", profile("mini").world)]


def test_start_gives_a_world_of_another_size_a_place_of_its_own(
    begin, tmp_path, outputs, monkeypatch
):
    asked = []
    monkeypatch.setattr(sessions.miniworld, "generate", lambda *values: asked.append(values))
    sizes = "QUERIES: int = 0\nLANDMARKS: int = 0\n"
    write_notebook(tmp_path / "notebooks" / "01_test.ipynb", PARAMETERS + sizes)
    both = {"QUERIES": 600, "LANDMARKS": 400}
    for changes in ({}, {"QUERIES": 600}, both, {"QUERIES": 600, "SET": "world.seed=7"}):
        begin(PROFILE="mini", **{"QUERIES": 0, "LANDMARKS": 0} | changes)
    assert [place.name for place, _ in asked] == [
        "mini", "mini-600-queries", "mini-600-queries-400-landmarks", "mini-600-queries-7-seed",
    ]  # fmt: skip
    assert [world.landmarks for _, world in asked] == [150, 150, 400, 150]
    assert all(place.parent == outputs / "data" for place, _ in asked)


def test_start_opens_a_data_folder(begin, stripes, outputs, monkeypatch):
    monkeypatch.setattr(sessions.miniworld, "generate", None)
    found = begin(DATA_DIR=str(stripes), PROFILE="full")
    assert found.root == stripes
    assert not found.is_miniature
    assert found.folder == run_folder("full", str(stripes))


def test_start_applies_what_differs_from_the_notebooks_defaults(begin):
    found = begin(SEED=7, EPS=1, SOFTMAX_EPOCHS=3, ROWS=[5]).profile
    assert found.seed == 7
    assert found.clean.eps == 1.0
    assert found.stage_one[0].epochs == 3
    expected = profile("smoke", seed=7, **{"clean.eps": 1.0, "stages.softmax.epochs": 3})
    assert found == expected


def test_start_applies_any_setting_by_its_name(begin):
    found = begin(SET="stages.arcface.loss=cosine, rerank.votes=5", EPS=1).profile
    changes = {"stages.arcface.loss": "cosine", "rerank.votes": 5, "clean.eps": 1.0}
    assert found == profile("smoke", **changes)


def test_start_knows_the_parameters_of_earlier_versions(begin, capsys):
    assert begin(TRUNK="resnet18").profile.model.backbone == "resnet18"
    assert capsys.readouterr().out == "hint: the parameter TRUNK is called BACKBONE now\n"


def test_start_looks_at_parameters_only(begin):
    others = {"np": np, "In": [""], "Out": {}, "_": 1, "_I": 2, "table": None, "Session": Session}
    assert begin(**others).profile == profile("smoke")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SET": "rerank.vote=3"}, "no setting 'rerank.vote'; did you mean rerank.votes?"),
        ({"SOFTMAX_EPOCH": 3}, "no parameter 'SOFTMAX_EPOCH'; did you mean SOFTMAX_EPOCHS?"),
        ({"ZZZ": 3}, "no parameter 'ZZZ'; it declares PROFILE, DATA_DIR, RECIPE, NAME, SEED, EPS"),
        ({"NOT_A_PARAMETER": 1}, "no parameter 'NOT_A_PARAMETER'"),
        ({"SEED": "1"}, r"SEED expects int such as 0, found '1' \(str\)"),
        ({"EPS": "1e-3"}, r"EPS expects float such as 0.0, found '1e-3' \(str\)"),
        ({"EPS": None}, r"EPS expects float such as 0.0, found None \(NoneType\)"),
        ({"SEED": 1.0}, r"SEED expects int such as 0, found 1.0 \(float\)"),
        ({"SEED": True}, r"SEED expects int such as 0, found True \(bool\)"),
        ({"PROFILE": "maxi"}, "a profile among smoke, mini, photos, full, found 'maxi'"),
        ({"PROFILE": "full"}, "a data folder for profile 'full', found none; .* --data-dir"),
        ({"DATA_DIR": "/no/such/place"}, "found no folder /no/such/place"),
    ],
    ids=str,
)
def test_start_refuses_what_is_wrong(begin, outputs, changes, message):
    with pytest.raises(ValueError, match=message):
        begin(**changes)
    assert not outputs.exists()


def test_start_asks_for_the_cell_of_parameters(begin):
    expected = "the parameters of 01_test, found no DATA_DIR, RECIPE, NAME; run .* first cell"
    with pytest.raises(ValueError, match=expected):
        start("01_test", {"PROFILE": "smoke", "np": np})


def test_settings_lead_to_settings_that_exist():
    for setting in SETTINGS.values():
        names = ["smoke", "mini", *(["photos", "full"] if setting[:5] != "world" else [])]
        if setting == "stages.softmax.epochs":
            names.remove("photos")  # has no such stage
        for name in names:
            found = profile(name)
            for part in setting.split("."):
                if isinstance(found, tuple):
                    found = next(stage for stage in found if stage.name == part)
                else:
                    found = getattr(found, part)
            again = profile(name, **{setting: found})
            assert again == profile(name) or setting == "model.backbone"  # named, it comes in full


def test_references_are_the_profiles_and_say_what_is_in_the_gallery(opened, capsys):
    session = opened
    full = len(session.training_list("full"))
    for name in ("full", "full+index"):
        rerank = dataclasses.replace(session.profile.rerank, references=name)
        changed = dataclasses.replace(session.profile, rerank=rerank)
        found = dataclasses.replace(session, profile=changed).references()
        shown = found["id"].isin(session.evaluation.gallery["id"]).sum()
        told = capsys.readouterr().out
        assert f"{len(found):,} references: the list {name}" in told
        assert (f"{shown:,} of them are in the gallery" in told) == (shown > 0) == (name != "full")
        assert len(found) - full == shown
        assert not found["id"].isin(session.evaluation.queries["id"]).any()


def test_every_notebook_declares_what_start_needs():
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        declared = declared_parameters(path)
        names = ("PROFILE", "DATA_DIR", "RECIPE", "NAME", "SEED")
        assert [type(declared[name]) for name in names] == [str, str, str, str, int]


@pytest.fixture
def opened(stripes, tmp_path, tiny_model, tiny_stage):
    """A session over the stripes, with a network that trains in a moment."""
    stage = dataclasses.replace(tiny_stage, name="softmax", epochs=1)
    settings = {"model": tiny_model, "stages": (stage,), "top_k": 5}
    settings |= {"inference": InferenceConfig(size=32)}
    return Session("02_test", profile("smoke", **settings), tmp_path / "run", stripes, True)


def test_session_reads_its_dataset_once(opened):
    assert isinstance(opened.dataset, Dataset)
    assert opened.dataset is opened.dataset
    assert opened.evaluation is opened.evaluation
    assert len(opened.training_list("clean")) == 48
    assert opened.truth is None


def test_session_reads_the_truth_where_there_is_one(opened, tmp_path):
    (tmp_path / "truth.csv").write_text("id,shows\n0000000000000012,NA\n")
    truth = dataclasses.replace(opened, root=tmp_path).truth
    assert truth.to_dict("records") == [{"id": "0000000000000012", "shows": "NA"}]


def test_session_reads_the_cluster_list_of_notebook_03(opened):
    images = opened.training_list("clean")
    ids = " ".join(images["id"][:5])
    path = opened.folder / "cleaning" / "train_cluster.csv"
    path.parent.mkdir(parents=True)
    path.write_text(f"cluster_id,landmark_id,images\n0,{images['landmark_id'][0]},{ids}\n")
    assert opened.training_list("cluster")["id"].tolist() == images["id"][:5].tolist()


def test_session_takes_a_stage_from_training_to_scores(opened):
    stage = opened.profile.stage_one[0]
    with pytest.raises(ValueError, match="stage 'softmax' in run, found none; run notebook 02"):
        opened.checkpoint("softmax")
    checkpoint = opened.train(stage)
    assert checkpoint == opened.checkpoint("softmax")
    assert checkpoint.parent == opened.stage("softmax") == opened.folder / "softmax"
    assert retrieval.inference_of(checkpoint) == opened.profile.inference
    assert opened.train(stage, start=checkpoint, name="second").parent.name == "second"
    ranking = opened.rank(checkpoint)
    assert ranking.positions.shape == (12, 5)
    scores = opened.score(ranking)
    assert scores["average_precision"].between(0, 1).all()
    steps = opened.steps({"only": scores})
    queries = pd.read_csv(
        opened.folder / "tables" / f"{opened.notebook[:2]}_queries.csv", dtype={"id": str}
    )
    assert queries["id"].tolist() == scores["id"].tolist()
    private = queries.loc[queries["usage"] == "Private", "only"].mean()
    assert steps["private"].tolist() == [pytest.approx(private)]
    images = opened.submission_images()
    assert list(images) == ["test", "gallery"]
    assert images["test"]["path"].map(lambda path: (opened.root / path).is_file()).all()
    queries, gallery = opened.submission_embeddings(checkpoint)
    assert queries.ids.tolist() == opened.dataset.test.tolist()
    assert gallery.ids.tolist() == opened.dataset.index["id"].tolist()
    asked = retrieval.load_run(opened.folder, stage="softmax").gallery.images
    assert asked["landmark"].tolist() == [
        name.replace("_", " ") for name in opened.dataset.index["category"]
    ]


def test_session_takes_the_network_of_another_run(opened, tmp_path):
    other = dataclasses.replace(opened, folder=tmp_path / "other")
    larger = dataclasses.replace(other.profile, inference=InferenceConfig(size=48))
    other = dataclasses.replace(other, profile=larger)
    checkpoint = other.train(opened.profile.stage_one[0])
    ranking = other.rank(checkpoint)
    scores = {"only": other.score(ranking)}
    other.keep(scores, {"only": checkpoint}, "softmax")
    before = sorted(other.folder.rglob("*"))
    for place in (other.folder, checkpoint.parent):
        (copy,) = opened.second_networks(place=str(place))
        assert copy.parent.parent == opened.folder
        assert copy.read_bytes() == checkpoint.read_bytes()
    stamp = (copy.parent / "embeddings" / "query" / "manifest.json").stat().st_mtime_ns
    np.testing.assert_array_equal(opened.rank(copy).scores, ranking.scores)
    assert (copy.parent / "embeddings" / "query" / "manifest.json").stat().st_mtime_ns == stamp
    assert sorted(other.folder.rglob("*")) == before  # it may be read-only
    (alone,) = opened.second_networks(place=str(checkpoint))  # as this run embeds
    assert not np.array_equal(opened.rank(alone).scores, ranking.scores)


def test_session_refuses_a_second_run_of_other_images_or_without_a_network(opened, tmp_path):
    with pytest.raises(ValueError, match=r"a trained network of another run in .*, found none"):
        opened.second_networks(place=str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    ids = [*opened.evaluation.gallery["id"][:3], "x"]
    write_folder(tmp_path / "embeddings" / "gallery", ids, np.eye(4))
    with pytest.raises(ValueError, match=r"gallery images .*, found 4, of which 3 are the same;"):
        opened.second_networks(place=str(tmp_path))


def test_second_networks_are_those_before_the_last_training_unless_told(opened):
    for name in ("untrained", "softmax"):
        mark_complete(start_over(opened.stage(name)), "key")
    usual = [opened.checkpoint("softmax"), opened.checkpoint("untrained")]
    assert opened.second_networks() == usual
    assert opened.second_networks(stage="untrained") == usual[1:]
    rerank = dataclasses.replace(opened.profile.rerank, compare=False)
    found = dataclasses.replace(opened.profile, rerank=rerank)
    assert dataclasses.replace(opened, profile=found).second_networks() == []


@pytest.fixture
def chain(opened):
    """A session over a data folder whose last stage takes the cluster list; nothing is trained."""
    (first,) = opened.profile.stages
    second = dataclasses.replace(first, name="cluster", train_list="cluster")
    found = dataclasses.replace(opened.profile, stages=(first, second))
    return dataclasses.replace(opened, profile=found, is_miniature=False, recipe="glr20-resnet152")


def test_session_names_the_first_notebook_that_is_missing_and_its_command(chain):
    command = f"./run_all.sh smoke --from NN --data-dir {chain.root} --recipe glr20-resnet152"

    def refusal(ask):
        with pytest.raises(ValueError, match=r"expected the .* in run, found none") as caught:
            ask()
        return str(caught.value).split("; ")[1]

    def advice(number):
        return f"run notebook {number} first: {command.replace('NN', number)}"

    asked = [lambda: chain.training_list("cluster"), lambda: chain.after_stage_two]
    assert [refusal(ask) for ask in asked] == [advice("02")] * 2
    mark_complete(start_over(chain.stage("softmax")), "key")
    assert [refusal(ask) for ask in asked] == [advice("03")] * 2
    write_csv(pd.DataFrame(), chain.folder / "cleaning" / "train_cluster.csv")
    assert refusal(lambda: chain.after_stage_two) == advice("04")
    assert refusal(lambda: chain.checkpoint("untrained")) == advice("02")


def test_session_goes_on_with_what_there_is_when_the_time_is_limited(chain, monkeypatch, capsys):
    first = chain.train(chain.profile.stages[0])
    for read in (lambda: chain.after_stage_two, lambda: chain.training_list("cluster")):
        with pytest.raises(ValueError, match="found none; run notebook"):
            read()
    monkeypatch.setenv(time_limit.VARIABLE, str(time.time() + 3600))
    assert chain.after_stage_two == first
    assert len(chain.references()) == len(chain.training_list("clean"))
    told = capsys.readouterr().out
    assert "was not begun in time" in told
    assert "the clean list votes" in told


def test_train_chain_marks_a_stage_that_was_stopped(opened, monkeypatch):
    monkeypatch.setenv(time_limit.VARIABLE, str(time.time() + 3600))
    monkeypatch.setattr("lib.session.TRAINING", 0.0)
    (name,) = opened.train_chain(opened.profile.stages[:1])
    assert name == f"{opened.profile.stages[0].name} (stopped)"


@pytest.mark.parametrize(
    ("public", "kept"),
    [((0.3, 0.4), "softmax"), ((0.4, 0.3), "untrained"), ((0.3, 0.3), "softmax")],
)
def test_session_keeps_the_network_that_public_queries_prefer(chain, capsys, public, kept):
    for name in ("untrained", "softmax"):
        mark_complete(start_over(chain.stage(name)), "key")
    checkpoints = {"before": chain.checkpoint("untrained"), "after": chain.checkpoint("softmax")}
    scores = {
        name: pd.DataFrame({"usage": ["Public", "Private"], "average_precision": [value, 0.9]})
        for name, value in zip(checkpoints, public, strict=True)
    }
    assert checkpoints[chain.keep(scores, checkpoints, "softmax")] == chain.checkpoint(kept)
    assert chain.after_stage_one == chain.checkpoint(kept)
    assert "on Public queries: before" in capsys.readouterr().out
    private = {name: table[table["usage"] == "Private"] for name, table in scores.items()}
    assert chain.keep(private, checkpoints, "softmax") == "after"  # nothing to choose by


def test_session_calls_landmarks_without_a_name_by_their_number(opened):
    landmarks = opened.dataset.landmarks.assign(category=["Big_Ben", "", "a", "b", "c", "d"])
    opened.__dict__["dataset"] = dataclasses.replace(opened.dataset, landmarks=landmarks)
    ids = landmarks["landmark_id"].tolist()
    assert [opened.names[mark] for mark in ids[:2]] == ["Big Ben", f"landmark {ids[1]}"]


def test_session_says_why_there_is_no_figure(opened, capsys):
    assert opened.knows_countries
    landmarks = opened.dataset.landmarks.assign(country="OTHER")
    without = dataclasses.replace(opened)
    without.__dict__["dataset"] = dataclasses.replace(opened.dataset, landmarks=landmarks)
    assert not without.knows_countries
    assert without.show(None, "countries", otherwise=without.NO_COUNTRIES) is None
    assert capsys.readouterr().out == f"{without.NO_COUNTRIES}\n"
    assert not (opened.folder / "figures").exists()


def test_session_refuses_to_train_on_what_it_is_asked_about(opened):
    stage = dataclasses.replace(opened.profile.stage_one[0], train_list="all")
    with pytest.raises(ValueError, match="contains queries or relevant images of the eval"):
        opened.train(stage)


def test_session_calls_chains_by_their_lists(opened, monkeypatch):
    monkeypatch.setattr(Session, "train", lambda self, stage, **options: opened.folder / "x")
    stage = dataclasses.replace(opened.profile.stage_one[0], name="arcface")
    cluster = dataclasses.replace(stage, name="cluster", train_list="cluster")
    opened.__dict__["training_list"] = lambda name: pd.DataFrame({"id": []})
    controls = opened.controls([dataclasses.replace(cluster, epoch_images=9)])
    assert list(opened.train_chain([stage, *controls, cluster])) == [
        *("arcface", "clean list (control of cluster)", "cluster list")
    ]


def test_train_chains_trains_long_ones_side_by_side(opened, monkeypatch):
    stage = dataclasses.replace(opened.profile.stages[0], epochs=0)
    chains = [(dataclasses.replace(stage, name=name),) for name in ("first", "second")]
    called = []

    def side_by_side(work, jobs, processes):
        called.append(processes)
        work, jobs = pickle.loads(pickle.dumps((work, jobs)))  # as for another process
        return [work(*job) for job in jobs]

    monkeypatch.setattr("lib.distributed.side_by_side", side_by_side)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    found = opened.train_chains((), chains[0])
    assert [list(one) for one in found] == [[], ["first"]]
    opened.train_chains(*chains)  # short ones
    assert called == [1, 1]
    monkeypatch.setattr(sessions, "MANY_IMAGES", -1)
    opened.train_chains(*chains)  # trained already
    assert called == [1, 1, 1]
    more = [(dataclasses.replace(stage, name=name),) for name in ("third", "fourth")]
    first, second = opened.train_chains(*more)
    assert called == [1, 1, 1, 2]
    assert (first["third"], second["fourth"]) == tuple(
        opened.checkpoint(name) for name in ("third", "fourth")
    )
    frozen = [[dataclasses.replace(one, freeze_norm=True, name="x")] for (one,) in more]
    opened.train_chains(*frozen)
    assert called == [1, 1, 1, 2, 1]


def test_session_records_under_its_notebook(opened):
    opened.record(private=0.25)
    dataclasses.replace(opened, notebook="03_other").record(images=3)
    shown = opened.record(private=np.float64(0.5), public=0.75, images=1520, kept="arcface")
    assert shown["recorded by notebook 02"].to_dict() == {
        "private": "0.5000",
        "public": "0.7500",
        "images": "1,520",
        "kept": "arcface",
    }
    assert read_records(opened.folder)["notebook"].tolist() == ["02_test"] * 4 + ["03_other"]


def test_session_keeps_figures_and_tables_and_shows_them(opened):
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    image = opened.show(figure, "curve")
    path = opened.folder / "figures" / "02_curve.png"
    assert image.data == path.read_bytes()
    assert matplotlib.image.imread(path).shape[1] > 100
    table = pd.DataFrame({"a": [1, 2]})
    assert opened.table(table, "numbers") is table
    saved = pd.read_csv(opened.folder / "tables" / "02_numbers.csv")
    pd.testing.assert_frame_equal(saved, table)
