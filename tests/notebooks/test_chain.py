"""The six notebooks in a row on the smallest profile, as `run_all.sh smoke` runs them."""

import pandas as pd
import pytest

from lib import artifacts as paths
from lib import pipeline
from lib.artifacts import read_records
from lib.data.tables import read_ignored, read_solution, read_submission
from lib.kernel import imported_early
from lib.retrieval import metrics


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANDMARK_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        with imported_early():
            yield pipeline.run("smoke", parameters={"SEEDS": [0]})  # seeds at once: test_runner


@pytest.fixture(scope="module")
def recorded(run_folder):
    records = read_records(run_folder)
    return records.set_index(["notebook", "name"])["value"]


def test_chain_executes_every_notebook(run_folder):
    copies = sorted(path.name for path in (run_folder / "notebooks").glob("*.ipynb"))
    assert copies == [path.name for path in pipeline.notebooks()]


def test_chain_records_counts_that_agree(recorded):
    assert recorded["01_eda", "images_raw"] == 300
    assert 0.3 < recorded["01_eda", "images_clean"] / recorded["01_eda", "images_raw"] < 0.5
    kept = recorded["03_dbscan_cleaning", "images_kept"]
    assert 0 < kept <= recorded["01_eda", "images_raw"]
    assert recorded["05_ablation_tables", "rows"] == 3
    assert recorded["05_ablation_tables", "seeds"] == 1


def test_chain_hands_the_same_model_from_notebook_to_notebook(recorded):
    kept = recorded["02_stage_one_train", "map_kept"]  # of the network that goes on
    assert recorded["04_cluster_finetune", "map_stage_one"] == kept
    kept = recorded["04_cluster_finetune", "map_kept"]
    assert recorded["06_submission_reranking", "map_cluster"] == kept


def test_chain_scores_lie_between_none_and_all(recorded):
    scores = recorded[[name.startswith("map_") for _, name in recorded.index]].astype(float)
    assert len(scores) >= 14
    assert scores.between(0, 1).all()
    assert scores.max() > 0.05


def test_chain_writes_submissions_that_the_scorer_reads(run_folder, recorded):
    solution = paths.world_root("smoke") / "retrieval_solution_v2.1.csv"
    if not solution.is_file():
        solution = run_folder.parent / "data" / "smoke" / "retrieval_solution_v2.1.csv"
    public_private = metrics.evaluate(
        read_submission(run_folder / "submission.csv"),
        read_solution(solution),
        ignored=read_ignored(solution),
    )
    found = public_private.loc["Private", "mAP@100"]
    assert found == pytest.approx(recorded["06_submission_reranking", "map_reranked"], abs=1e-6)


def test_chain_leaves_figures_and_a_cluster_list(run_folder):
    assert len(list((run_folder / "figures").glob("*.png"))) >= 20
    clusters = pd.read_csv(run_folder / "cleaning" / "train_cluster.csv")
    assert list(clusters.columns) == ["cluster_id", "landmark_id", "images"]
