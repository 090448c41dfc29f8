"""Benchmark: planted label noise found by our cleaning and by others, on the same embeddings.

`python -m tests.benchmarks.bench_noise DATA_DIR EMBEDDINGS --out noise.csv`

DATA_DIR holds `train.csv` and `truth.csv`. EMBEDDINGS is a folder that `lib.retrieval.embed` wrote
(such as `outputs/RUN/arcface/embeddings/raw`) or a `.npy` or `.npz` file whose rows are in the
order of `train.csv`. Prints a row per method, and writes them as CSV with `--out`:

- as configured, and GLR20 alone (both DBSCAN passes, nothing else);
- plain DBSCAN, radius suggested, and with the radius that the truth likes best (an upper bound);
- kNN vote: dropped where fewer than half of the k nearest have the label, and with the k and share
  that the truth likes best (an upper bound);
- cleanlab (Northcutt et al. 2021) on out-of-sample kNN probabilities, where it can be imported.
  It is in no requirement: `pip install cleanlab termcolor --no-deps --target FOLDER`, FOLDER in
  PYTHONPATH, changes no pinned package.
"""

import argparse
import dataclasses
import importlib.util
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lib.artifacts import write_csv
from lib.cleaning import clean, is_planted, read_truth, unit_rows
from lib.config import CleanConfig
from lib.data import read_table
from lib.recipes import profile
from lib.retrieval import read_embeddings

NEIGHBOURS = (5, 10, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--profile", default="photos", help="whose cleaning is 'as configured'")
    parser.add_argument("--out", type=Path, help="CSV to write")
    given = parser.parse_args()
    table = read_table(given.data_dir / "train.csv", {"id": str, "landmark_id": int}, key="id")
    rows, table = read_rows(given.embeddings, table)
    truth = read_truth(given.data_dir)
    is_noise = is_planted(truth.set_index("id")).loc[table["id"]].to_numpy()
    config = profile(given.profile).clean
    found = pd.DataFrame(compare(rows, table["landmark_id"].to_numpy(), is_noise, config))
    print(found.round(3).to_string(index=False))
    if given.out:
        write_csv(found.round(4), given.out)


def read_rows(path: Path, table: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Unit rows, and the rows of `table` that they belong to."""
    if path.is_dir():
        embeddings = read_embeddings(path)
        table = table.set_index("id").loc[embeddings.ids].reset_index()
        rows = embeddings.rows
    else:
        rows = np.load(path)
        rows = rows[rows.files[0]] if path.suffix == ".npz" else rows
    return unit_rows(rows, np.arange(len(rows)))[0], table


def compare(
    rows: np.ndarray, landmark_ids: np.ndarray, is_noise: np.ndarray, config: CleanConfig
) -> Iterator[dict]:
    """A row per method: what it drops against `is_noise`, and its seconds."""

    def cleaning(config: CleanConfig) -> np.ndarray:
        return (clean(rows, landmark_ids, config).images["label"] < 0).to_numpy()

    plain = CleanConfig(rescue=False)
    yield _judge("as configured", partial(cleaning, config), is_noise)
    yield _judge("GLR20 alone", partial(cleaning, CleanConfig()), is_noise)
    yield _judge("plain DBSCAN, suggested radius", partial(cleaning, plain), is_noise)
    radii = [dataclasses.replace(plain, eps=eps) for eps in np.arange(0.05, 1.0, 0.025).tolist()]
    tried = [
        _judge("plain DBSCAN, radius by the truth", partial(cleaning, one), is_noise)
        for one in radii
    ]
    yield max(tried, key=lambda row: row["f1"])
    votes = {k: own_share(rows, landmark_ids, k) for k in NEIGHBOURS}
    start = time.perf_counter()
    votes[10] = own_share(rows, landmark_ids, 10)
    seconds = time.perf_counter() - start
    vote = _judge("kNN vote, half of 10", partial(np.less, votes[10], 0.5), is_noise)
    yield vote | {"seconds": seconds}
    tried = [
        _judge(
            f"kNN vote by the truth, {share:.0%} of {k}",
            partial(np.less, votes[k], share),
            is_noise,
        )
        for k in NEIGHBOURS
        for share in np.arange(1, k + 1) / k
    ]
    yield max(tried, key=lambda row: row["f1"]) | {"seconds": seconds}
    if importlib.util.find_spec("cleanlab") is None:
        print("cleanlab is not installed: its rows are left out")
        return
    from cleanlab.filter import find_label_issues

    labels = np.unique(landmark_ids, return_inverse=True)[1]

    def cleanlab(k: int, method: str) -> np.ndarray:
        shares = knn_probabilities(rows, labels, k)
        return find_label_issues(labels, shares, filter_by=method, n_jobs=1)

    for k in NEIGHBOURS:
        for method in ("prune_by_noise_rate", "both", "confident_learning"):
            yield _judge(
                f"cleanlab {method}, {k} neighbours", partial(cleanlab, k, method), is_noise
            )


def own_share(rows: np.ndarray, landmark_ids: np.ndarray, k: int) -> np.ndarray:
    """(N,) share of the k nearest other images that have the image's label."""
    return (landmark_ids[_nearest(rows, k)] == landmark_ids[:, None]).mean(axis=1)


def knn_probabilities(rows: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """(N, L) shares of the labels among the k nearest other images, each counted by similarity.

    An image is no neighbour of its own, so these are out-of-sample, by leaving one out.
    """
    near = _nearest(rows, k)
    weight = np.clip(np.einsum("ij,ikj->ik", rows, rows[near]), 1e-6, None)
    shares = np.full((len(rows), labels.max() + 1), 1e-6)
    np.add.at(shares, (np.arange(len(rows))[:, None], labels[near]), weight)
    return shares / shares.sum(axis=1, keepdims=True)


def _nearest(rows: np.ndarray, k: int) -> np.ndarray:
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, k, axis=1)[:, :k]


def _judge(name: str, find: Callable[[], np.ndarray], is_noise: np.ndarray) -> dict:
    start = time.perf_counter()
    dropped = find()
    seconds = time.perf_counter() - start
    hits = int((dropped & is_noise).sum())
    return {
        "method": name,
        "dropped": int(dropped.sum()),
        "precision": hits / max(dropped.sum(), 1),
        "recall": hits / is_noise.sum(),
        "f1": 2 * hits / (dropped.sum() + is_noise.sum()),
        "right_lost": float((dropped & ~is_noise).sum() / (~is_noise).sum()),
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
