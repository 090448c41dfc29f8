"""One query's reranking as a row of pictures: who voted, what came up, and why.

The strip of the slides of [21] (slides 6 to 8): under each result stands its sum, raw similarity +
landmark + country, and where the result came from. Here the numbers and pixels are gathered;
`lib.rerank_charts` draws them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.evaluation import Evaluation
from lib.images import ImageSource
from lib.ranking import Ranking
from lib.rerank import explain
from lib.sheets import pixels
from lib.viz import RIGHT, WRONG, shorten
from lib.votes import NO_COUNTRY, Tags, Votes

LONGEST_NAME = 26  # columns


@dataclass(frozen=True, eq=False)
class ExplainedStrip:
    """What is drawn of one query.

    Attributes:
        title: one line or two.
        query: (P, P, 3) uint8.
        voters: a line per reference that voted, nearest first.
        images: (P, P, 3) uint8 of the best results.
        colours: frame of each, by whether it is right.
        sums: raw, landmark, country, final and moved of each (`lib.rerank.explain`).
    """

    title: str
    query: np.ndarray
    voters: tuple[str, ...]
    images: list[np.ndarray]
    colours: list[str]
    sums: pd.DataFrame


def explained_strip(
    source: ImageSource,
    evaluation: Evaluation,
    ranking: Ranking,
    votes: Votes,
    tags: Tags,
    query: str,
    *,
    alpha: float,
    beta: float,
    before: Ranking,
    names: Mapping[int, str] | pd.Series | None = None,
    columns: int = 8,
) -> ExplainedStrip:
    """Gather the strip of one query.

    Args:
        source: reads the images.
        evaluation: tells paths and right answers.
        ranking: reranked by `lib.rerank.apply_votes` with these weights.
        votes: of its queries.
        tags: of its gallery.
        query: its id.
        alpha: weight of the landmark score.
        beta: weight of the country score.
        before: plain search.
        names: landmark_id to a name; ids where it has none.
        columns: results shown.

    Raises:
        ValueError: as `lib.rerank.explain`.
    """
    weights = {"alpha": alpha, "beta": beta, "before": before}
    sums = explain(ranking, votes, tags, query, **weights).head(columns)
    answers = {asked: ids for part in evaluation.solution.values() for asked, ids in part.items()}
    right = [image in answers[query] for image in sums["id"]]
    asked = evaluation.queries.set_index("id").loc[query]
    shown = evaluation.gallery.set_index("id")["path"]
    found = pixels(source, [asked["path"], *shown[sums["id"]]])
    return ExplainedStrip(
        title=f"α = {alpha:g}, β = {beta:g}\n{sum(right)} of the first {len(right)} right",
        query=found[0],
        voters=_voters(votes.of(ranking.row(query)), {} if names is None else names),
        images=found[1:],
        colours=[RIGHT if is_right else WRONG for is_right in right],
        sums=sums[["raw", "landmark", "country", "final", "moved"]],
    )


def _voters(table: pd.DataFrame, names: Mapping[int, str] | pd.Series) -> tuple[str, ...]:
    lines = []
    for voter in table.itertuples():
        name = str(names.get(voter.landmark) or f"landmark {voter.landmark}")
        where = "" if voter.country == NO_COUNTRY else f" · {voter.country}"
        lines.append(f"{voter.similarity:.2f}  {shorten(name, LONGEST_NAME)}{where}")
    return tuple(lines)
