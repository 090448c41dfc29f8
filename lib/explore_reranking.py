"""Drag α and β and see what they do: one query's explained strip, made again for every setting.

`Explorer` answers (query, α, β) with a figure and knows nothing of widgets; `widget` puts a menu
and two sliders before it. Where nobody watches, `Explorer.still` shows a few settings below each
other.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ipywidgets
import pandas as pd
from matplotlib.figure import Figure

from lib import rerank_charts
from lib.embed import Embeddings
from lib.evaluation import Evaluation
from lib.explained_strip import ExplainedStrip, explained_strip
from lib.images import ImageSource
from lib.ranking import Ranking
from lib.rerank import apply_votes
from lib.votes import Tags, Votes

LARGEST_ALPHA, LARGEST_BETA, STEP = 2.0, 1.0, 0.05
DPI = 80


@dataclass(frozen=True, eq=False)
class Explorer:
    """Everything that a strip of any query is made from.

    Attributes:
        source: reads the images.
        evaluation: tells paths and right answers.
        queries: of the evaluation.
        gallery: of the evaluation.
        votes: of the queries, in their order.
        tags: of the gallery, in its order.
        before: plain search.
        names: landmark_id to a name.
        columns: results shown.
    """

    source: ImageSource
    evaluation: Evaluation
    queries: Embeddings
    gallery: Embeddings
    votes: Votes
    tags: Tags
    before: Ranking
    names: Mapping[int, str] | pd.Series | None = None
    columns: int = 8

    def strip(self, query: str, alpha: float, beta: float) -> ExplainedStrip:
        """The strip of a query at these weights; only this query is ranked.

        Raises:
            ValueError: if there is no such query.
        """
        row = self.before.row(query)
        votes = self.votes.only(row)
        ranking = apply_votes(
            self.queries.rows[row : row + 1],
            self.gallery.rows,
            votes,
            self.tags,
            k=self.columns,
            alpha=alpha,
            beta=beta,
            query_ids=self.queries.ids[row : row + 1],
            gallery_ids=self.gallery.ids,
        )
        return explained_strip(
            self.source,
            self.evaluation,
            ranking,
            votes,
            self.tags,
            query,
            alpha=alpha,
            beta=beta,
            before=self.before,
            names=self.names,
            columns=self.columns,
        )

    def figure(self, query: str, alpha: float, beta: float) -> Figure:
        """The strip, drawn."""
        return rerank_charts.explained([self.strip(query, alpha, beta)], title=f"query {query}")

    def png(self, query: str, alpha: float, beta: float) -> bytes:
        """The drawn strip as a picture file."""
        stream = io.BytesIO()
        options = {"format": "png", "dpi": DPI, "pil_kwargs": {"compress_level": 1}}  # fast
        self.figure(query, alpha, beta).savefig(stream, **options)
        return stream.getvalue()

    def still(self, query: str, settings: Sequence[tuple[float, float]]) -> Figure:
        """One query at several (α, β) below each other: what dragging would show."""
        strips = [self.strip(query, alpha, beta) for alpha, beta in settings]
        return rerank_charts.explained(strips, title=f"query {query} at other weights")


def widget(
    explorer: Explorer, queries: Sequence[str], *, alpha: float = 0.5, beta: float = 0.1
) -> ipywidgets.VBox:
    """A menu of queries and sliders of α and β above the strip, which follows them at once.

    Args:
        explorer: makes the strips.
        queries: ids in the menu, the first shown first.
        alpha: where its slider begins.
        beta: likewise.

    Raises:
        ValueError: if there is no query to choose.
    """
    if not len(queries):
        raise ValueError("expected queries to choose from, found none; give some ids")
    menu = ipywidgets.Dropdown(options=list(queries), description="query")
    sliders = [
        ipywidgets.FloatSlider(value=value, min=0, max=largest, step=STEP, description=name)
        for name, value, largest in (("α", alpha, LARGEST_ALPHA), ("β", beta, LARGEST_BETA))
    ]
    picture = ipywidgets.Image(format="png")

    def draw(_: object = None) -> None:
        picture.value = explorer.png(menu.value, *(slider.value for slider in sliders))

    for control in (menu, *sliders):
        control.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([ipywidgets.HBox([menu, *sliders]), picture])
