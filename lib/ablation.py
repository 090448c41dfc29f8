"""Tables that show by how much each trick helps: rows of training chains, cached and compared.

A row is a chain of stages. It is trained once per seed; chains share what they have in common,
because every stage is kept under the fingerprint of all that decides it, and a killed table goes on
where it stopped. Cells are means over seeds with an interval from a bootstrap over queries and
seeds; each row is compared with its reference row query by query.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib import scoring
from lib.config import ModelConfig, Profile, StageConfig
from lib.gldv2 import Evaluation
from lib.runs import progress, read_key, rng, write_csv
from lib.train import stage_key, train


@dataclass(frozen=True)
class AblationRow:
    """One line of a table: how to train it, what it is compared with, what the paper reports."""

    name: str
    model: ModelConfig
    stages: tuple[StageConfig, ...]
    against: str = ""  # name of the reference row
    paper_public: float = np.nan
    paper_private: float = np.nan


@dataclass(frozen=True)
class Bench:
    """Where rows are trained and scored.

    Attributes:
        lists: name of a training list → its table.
        root: the data folder.
        folder: receives a folder per trained stage.
        evaluation: queries, gallery and solution.
        size: pixels at inference.
        flip: whether the mirrored image's embedding is added.
        known: stage folders trained elsewhere, which rows may reuse.
    """

    lists: Callable[[str], pd.DataFrame]
    root: Path
    folder: Path
    evaluation: Evaluation
    size: int
    flip: bool = False
    known: Sequence[Path] = ()


def table_1(profile: Profile) -> list[AblationRow]:
    """[20] Table 1: softmax or ArcFace, clean or cluster list, Corner-Cutmix, three trunks.

    The softmax row goes on with softmax where the others change to ArcFace, for as many epochs at
    the same rates. As in the paper, the cluster rows go on from the clean rows and so train longer;
    notebook 04 has the control of equal length.
    """
    first, second = profile.stage_one
    softmax = dataclasses.replace(second, name="softmax_on", loss="softmax")
    cluster = dataclasses.replace(profile.stage_two, cutmix="")
    mixed = dataclasses.replace(profile.stage_two, name="cutmix", cutmix="paper")
    small, middle, large = (
        profile.trunks.get(name, profile.model)
        for name in ("ResNeSt101", "ResNet152", "ResNeSt200")
    )
    a, b, c = "ResNeSt101", "ResNet152", "ResNeSt200"
    rows = [
        (f"{a} softmax clean", small, (first, softmax), "", 0.305, 0.266),
        (f"{a} ArcFace clean", small, (first, second), f"{a} softmax clean", 0.315, 0.276),
        (f"{b} ArcFace clean", middle, (first, second), f"{a} ArcFace clean", 0.329, 0.293),
        (
            f"{b} ArcFace cluster",
            middle,
            (first, second, cluster),
            f"{b} ArcFace clean",
            0.356,
            0.321,
        ),
        (
            f"{c} ArcFace cluster",
            large,
            (first, second, cluster),
            f"{b} ArcFace cluster",
            0.364,
            0.327,
        ),
        (
            f"{c} ArcFace cluster cutmix",
            large,
            (first, second, mixed),
            f"{c} ArcFace cluster",
            0.374,
            0.334,
        ),
    ]
    return [AblationRow(*row) for row in rows]


def run(
    rows: Sequence[AblationRow], bench: Bench, *, seeds: Sequence[int] = (0,)
) -> dict[str, pd.DataFrame]:
    """Train and score every row with every seed; finished ones are read.

    Returns:
        Row name → scores of all its queries (`lib.scoring.score`) with the column `seed`.
    """
    jobs = [(seed, row) for seed in seeds for row in rows]
    found: dict[str, list[pd.DataFrame]] = {row.name: [] for row in rows}
    for seed, row in progress(jobs, "ablation rows"):
        checkpoint = train_chain(row, bench, seed)
        found[row.name].append(_scores(checkpoint, bench).assign(seed=seed))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}


def train_chain(row: AblationRow, bench: Bench, seed: int) -> Path:
    """Train the stages of a row one after the other; the last checkpoint."""
    known = {read_key(folder): folder for folder in bench.known}
    checkpoint = None
    for stage in row.stages:
        table = bench.lists(stage.train_list)
        key = stage_key(stage, row.model, table, start=checkpoint, seed=seed)
        folder = known.get(key, bench.folder / f"{stage.name}-{key}")
        checkpoint = train(stage, row.model, table, bench.root, folder, start=checkpoint, seed=seed)
    return checkpoint


def _scores(checkpoint: Path, bench: Bench) -> pd.DataFrame:
    path = (
        bench.folder
        / "scores"
        / f"{read_key(checkpoint.parent)}-{bench.size}{'-flip' * bench.flip}.csv"
    )
    if not path.is_file():
        embeddings = checkpoint.parent / "embeddings"
        ranking = scoring.rank(
            checkpoint,
            bench.evaluation,
            bench.root,
            embeddings,
            size=bench.size,
            flip=bench.flip,
        )
        write_csv(scoring.score(ranking, bench.evaluation), path)
    return pd.read_csv(path, dtype={"id": str}, keep_default_na=False)


def table(
    rows: Sequence[AblationRow],
    results: Mapping[str, pd.DataFrame],
    *,
    usage: str = "Private",
    seed: int = 0,
) -> pd.DataFrame:
    """Rows with the paper's figures, ours, and the paired difference from the reference row.

    Returns:
        Columns name, seeds, paper_public, paper_private, public, private, low, high, against,
        paper (difference), difference, difference_low, difference_high, verdict. A row without
        results reads "not run".
    """
    papers = {row.name: row.paper_private for row in rows}
    lines = []
    for row in rows:
        line = {
            "name": row.name,
            "against": row.against,
            "paper_public": row.paper_public,
            "paper_private": row.paper_private,
            "paper": row.paper_private - papers.get(row.against, np.nan),
            "verdict": "not run",
        }
        if row.name in results:
            ours = results[row.name]
            private = by_seed(ours, usage)
            line |= {"seeds": len(private), "public": by_seed(ours, "Public").mean()}
            line |= _interval(private, ("private", "low", "high"), seed)
            line["verdict"] = ""
        if row.name in results and row.against in results:
            gain = by_seed(results[row.name], usage) - by_seed(results[row.against], usage)
            names = ("difference", "difference_low", "difference_high")
            line |= _interval(gain, names, seed)
            line["verdict"] = verdict(
                line["paper"], line["difference_low"], line["difference_high"]
            )
        lines.append(line)
    order = [
        *("name", "seeds", "paper_public", "paper_private", "public", "private", "low", "high"),
        *("against", "paper", "difference", "difference_low", "difference_high", "verdict"),
    ]
    return pd.DataFrame(lines).reindex(columns=order)


def by_seed(scores: pd.DataFrame, usage: str) -> np.ndarray:
    """Average precisions as a matrix (seeds, queries), queries in the order of their ids."""
    chosen = scores[scores["usage"] == usage]
    return chosen.pivot(index="seed", columns="id", values="average_precision").to_numpy()


def verdict(paper: float, low: float, high: float) -> str:
    """What our interval says of the sign of the paper's difference.

    >>> verdict(0.01, 0.002, 0.03), verdict(0.01, -0.01, 0.03), verdict(0.01, -0.03, -0.01)
    ('agrees with the paper', 'not separable', 'contradicts it')
    """
    if low <= 0 <= high:
        return "not separable"
    if np.isnan(paper):
        return "helps" if low > 0 else "harms"
    return "agrees with the paper" if (low > 0) == (paper > 0) else "contradicts it"


def _interval(values: np.ndarray, names: tuple[str, str, str], seed: int) -> dict[str, float]:
    return dict(zip(names, two_way_interval(values, rng(seed, "ablation")), strict=True))


def two_way_interval(
    values: np.ndarray, generator: np.random.Generator, *, resamples: int = 4000
) -> tuple[float, float, float]:
    """Mean of (seeds, queries) values and its 95 % interval, both drawn again with replacement."""
    seeds, queries = values.shape
    seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds
    query_weights = generator.multinomial(queries, np.full(queries, 1 / queries), resamples)
    means = np.einsum("rs,sq,rq->r", seed_weights, values, query_weights / queries, optimize=True)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
