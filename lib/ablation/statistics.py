"""What an ablation table says: means over seeds, paired differences, a verdict for each row.

Every difference is taken query by query and seed by seed from the row's reference before anything
is averaged; queries and seeds are then drawn again with replacement.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.ablation.tables import AblationRow
from lib.artifacts import rng
from lib.retrieval import map_by_seen

SMALLEST_DIFFERENCE = 0.0005  # a smaller one of the paper's rounds to 0.000 and has no direction


def table(
    rows: Sequence[AblationRow],
    results: Mapping[str, pd.DataFrame],
    *,
    seed: int = 0,
    times: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Rows with the paper's figures, ours, and the paired difference from the reference row.

    Results are those of `lib.ablation.run`; a row without any reads "not run". Differences are of
    Private queries, `paper` is the paper's own, `times` are milliseconds by row. `seen` and
    `unseen` are of landmarks in training and of others, where results know them.
    """

    def interval(values: np.ndarray, *names: str) -> dict[str, float]:
        return dict(zip(names, two_way_interval(values, rng(seed, "ablation")), strict=True))

    papers = {row.name: row.paper_private for row in rows}
    lines = []
    for row in rows:
        private, public = (by_seed(results.get(row.name), usage) for usage in ("Private", "Public"))
        reference = by_seed(results.get(row.against), "Private")
        is_compared = row.name in results and row.against in results
        gain = private - reference if is_compared else private[:0]
        paper = row.paper_private - papers.get(row.against, np.nan)
        difference = interval(gain, "difference", "difference_low", "difference_high")
        line = {
            "name": row.name,
            "seeds": len(private) if row.name in results else np.nan,
            "paper_public": row.paper_public,
            "paper_private": row.paper_private,
            **interval(public, "public", "public_low", "public_high"),
            **interval(private, "private", "low", "high"),
            "against": row.against,
            "paper": paper,
            **difference,
            "verdict": "" if row.name in results else "not run",
            "note": row.note,
            "paper_milliseconds": row.paper_milliseconds,
            "milliseconds": (times or {}).get(row.name, np.nan),
            **(map_by_seen(results[row.name], "Private") if row.name in results else {}),
        }
        if is_compared:
            _, low, high = difference.values()
            line["verdict"] = "leaked" if row.is_leaked else verdict(paper, low, high)
        lines.append(line)
    left_out = [] if any(row.note for row in rows) else ["note"]
    left_out += [] if times else ["paper_milliseconds", "milliseconds"]
    return pd.DataFrame(lines).drop(columns=left_out)


def by_seed(scores: pd.DataFrame | None, usage: str) -> np.ndarray:
    """Average precisions (seeds, queries), queries in the order of their ids."""
    if scores is None:
        return np.empty((0, 0))
    chosen = scores[scores["usage"] == usage]
    return chosen.pivot(index="seed", columns="id", values="average_precision").to_numpy()


def verdict(paper: float, low: float, high: float) -> str:
    """Whether our interval agrees with the sign of the paper's difference."""
    if low <= 0 <= high:
        return "not separable"
    if not abs(paper) >= SMALLEST_DIFFERENCE:
        return "helps" if low > 0 else "harms"
    return "agrees with the paper" if (low > 0) == (paper > 0) else "contradicts it"


def two_way_interval(
    values: np.ndarray, generator: np.random.Generator, *, resamples: int = 4000
) -> tuple[float, float, float]:
    """Mean of (seeds, queries) values and its 95 % interval, both drawn again with replacement."""
    if not values.size:
        return np.nan, np.nan, np.nan
    seeds, queries = values.shape
    seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds
    query_weights = generator.multinomial(queries, np.full(queries, 1 / queries), resamples)
    means = np.einsum("rs,sq,rq->r", seed_weights, values, query_weights / queries, optimize=True)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def agreement(tables: Sequence[pd.DataFrame]) -> dict[str, int]:
    """Count the directions of the papers' differences, each once, and whether ours agree."""
    rows = pd.concat(tables, ignore_index=True)
    reported = rows[rows["paper"].abs() >= SMALLEST_DIFFERENCE].drop_duplicates(["name", "against"])
    count = reported["verdict"].value_counts()
    return {
        "directions": len(reported),
        "agree": int(count.get("agrees with the paper", 0)),
        "contradict": int(count.get("contradicts it", 0)),
        "unclear": int(count.get("not separable", 0)),
        "not_run": int(count.get("not run", 0)),
    }
