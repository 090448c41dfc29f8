"""What a table of ablations says: means over seeds, paired differences, a verdict for each row.

Every difference is taken query by query and seed by seed from the row's reference before anything
is averaged; queries and seeds are then drawn again with replacement. With few seeds the interval is
a little too narrow, because so few draws know little of how much training varies."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.ablation.rows import AblationRow
from lib.artifacts import rng

TOLD = 0.0005  # a smaller difference of the paper's rounds to 0.000 and has no direction


def table(
    rows: Sequence[AblationRow],
    results: Mapping[str, pd.DataFrame],
    *,
    usage: str = "Private",
    seed: int = 0,
    times: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Rows with the paper's figures, ours, and the paired difference from the reference row.

    Args:
        rows: of one table, or of several.
        results: from `lib.ablation.runner.run`; rows may be missing.
        usage: whose queries are reported.
        seed: of the bootstrap.
        times: milliseconds per image by row, for the columns `paper_milliseconds` and
            `milliseconds`.

    Returns:
        Columns name, seeds, paper_public, paper_private, public, public_low, public_high, private,
        low, high, against, paper (difference), difference, difference_low, difference_high,
        verdict, and note where a row has one. A row without results reads "not run".
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
            "note": row.note,
        }
        if row.name in results:
            ours = results[row.name]
            private, public = by_seed(ours, usage), by_seed(ours, "Public")
            line |= {"seeds": len(private), "verdict": ""}
            line |= _interval(private, ("private", "low", "high"), seed)
            line |= _interval(public, ("public", "public_low", "public_high"), seed)
        if row.name in results and row.against in results:
            gain = by_seed(results[row.name], usage) - by_seed(results[row.against], usage)
            names = ("difference", "difference_low", "difference_high")
            line |= _interval(gain, names, seed)
            line["verdict"] = verdict(
                line["paper"], line["difference_low"], line["difference_high"]
            )
            if row.is_leaked:
                line["verdict"] = "leaked"
        lines.append(line)
    for row, line in zip(rows, lines, strict=True) if times else ():
        line["paper_milliseconds"] = row.paper_milliseconds
        line["milliseconds"] = times.get(row.name, np.nan)
    order = [
        *("name", "seeds", "paper_public", "paper_private", "public", "public_low", "public_high"),
        *("private", "low", "high", "against", "paper"),
        *("difference", "difference_low", "difference_high", "verdict"),
        *(["note"] if any(row.note for row in rows) else []),
        *(("paper_milliseconds", "milliseconds") if times else ()),
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
    >>> verdict(0.0001, 0.002, 0.03)
    'helps'
    """
    if low <= 0 <= high:
        return "not separable"
    if not abs(paper) >= TOLD:
        return "helps" if low > 0 else "harms"
    return "agrees with the paper" if (low > 0) == (paper > 0) else "contradicts it"


def _interval(values: np.ndarray, names: tuple[str, str, str], seed: int) -> dict[str, float]:
    return dict(zip(names, two_way_interval(values, rng(seed, "ablation")), strict=True))


def two_way_interval(
    values: np.ndarray, generator: np.random.Generator, *, resamples: int = 4000
) -> tuple[float, float, float]:
    """Mean of (seeds, queries) values and its 95 % interval, both drawn again with replacement.

    All three are NaN where there is no query.
    """
    if not values.size:
        return np.nan, np.nan, np.nan
    seeds, queries = values.shape
    seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds
    query_weights = generator.multinomial(queries, np.full(queries, 1 / queries), resamples)
    means = np.einsum("rs,sq,rq->r", seed_weights, values, query_weights / queries, optimize=True)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def agreement(tables: Sequence[pd.DataFrame]) -> dict[str, int]:
    """How many directions the papers tell of, and what became of them here.

    Args:
        tables: from `table`; a comparison that several of them have counts once, and a difference
            that rounds to 0.000 is no direction.

    Returns:
        `directions`, `agree`, `contradict`, `unclear` (not separable) and `not_run`.
    """
    rows = pd.concat(tables, ignore_index=True)
    told = rows[rows["paper"].abs() >= TOLD].drop_duplicates(["name", "against"])
    count = told["verdict"].value_counts()
    return {
        "directions": len(told),
        "agree": int(count.get("agrees with the paper", 0)),
        "contradict": int(count.get("contradicts it", 0)),
        "unclear": int(count.get("not separable", 0)),
        "not_run": int(count.get("not run", 0)),
    }
