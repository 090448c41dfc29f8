"""Choose a landmark and a radius, and see the landmark fall apart.

In Jupyter these are two widgets and a picture that follows them; headless, where nobody watches,
the same picture at four radii. What a radius does is computed apart from the widgets, by the same
DBSCAN as in `lib.cleaning.two_pass`.

Drag α and β and see what they do: one query's explained strip, made again for every setting.

`RerankingExplorer` answers (query, α, β) with a figure and knows nothing of widgets; `widget` puts
a menu
and two sliders before it. Where nobody watches, `RerankingExplorer.still` shows a few settings
below each other."""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.artifacts import is_interactive
from lib.cleaning import dbscan_labels, unit_rows
from lib.data import Evaluation, ImageSource
from lib.plots import reranking as rerank_charts
from lib.plots.cleaning import MOST, MapPanel, draw_map, far_apart, place
from lib.plots.reranking import VoteBreakdown, vote_breakdown
from lib.plots.sheets import CLUSTERS, RESCUED, WRONG, pixels, shorten
from lib.reranking import RetrievalData

NOISE = WRONG
LEGEND = {
    CLUSTERS[0]: "largest cluster",
    CLUSTERS[1]: "second",
    CLUSTERS[2]: "third",
    NOISE: "noise",
}
FACTORS = (0.2, 0.5, 1.0, 1.5)  # of the chosen radius, side by side where nobody watches


@dataclass(frozen=True)
class CleaningExplorer:
    """The images of a cleaning, ready to be clustered again one landmark at a time.

    Attributes:
        rows: (N, D) unit rows, in memory or a memory map.
        images: N rows with landmark_id, status, label and path.
        source: reads the images.
        min_samples: of the first pass.
        names: landmark → its name; its number where there is none.
    """

    rows: np.ndarray
    images: pd.DataFrame
    source: ImageSource
    min_samples: int
    names: Mapping[int, str] = field(default_factory=dict)
    _places: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def of(self, landmark: int) -> np.ndarray:
        """Positions of a landmark's images, evenly thinned to at most `MOST`.

        Raises:
            ValueError: if there is no such landmark.
        """
        own = np.flatnonzero(self.images["landmark_id"].to_numpy() == landmark)
        if not len(own):
            raise ValueError(f"expected a landmark of this cleaning, found {landmark}: choose one")
        return own[np.linspace(0, len(own) - 1, min(len(own), MOST)).astype(int)]

    def fall_apart(self, landmark: int, eps_values: Sequence[float]) -> np.ndarray:
        """(K, n) clusters of a landmark's images at several radii, -1 for noise."""
        own = self.of(landmark)
        rows = unit_rows(self.rows[own], own)[0]
        return dbscan_labels(rows, [len(own)], eps_values, self.min_samples)

    def panel(self, landmark: int, labels: np.ndarray, *, title: str, thumbnails: int) -> MapPanel:
        """A landmark's map with its clusters' colours; places stay when the radius changes."""
        own = self.of(landmark)
        if landmark not in self._places:
            self._places[landmark] = place(unit_rows(self.rows[own], own)[0])
        points = self._places[landmark]
        shown = far_apart(points, thumbnails)
        paths = self.images["path"].to_numpy()[own[shown]]
        found = dict(zip(shown, pixels(self.source, paths), strict=True))
        return MapPanel(title, points, cluster_colours(labels), found)

    def at_radius(self, landmark: int, eps: float) -> Figure:
        """One landmark at one radius, with thumbnails."""
        labels = self.fall_apart(landmark, [eps])[0]
        title = f"{self.name(landmark)}, {radius_words(eps, labels)}"
        return draw_map([self.panel(landmark, labels, title=title, thumbnails=24)], legend=LEGEND)

    def at_radii(self, landmark: int, eps_values: Sequence[float]) -> Figure:
        """One landmark at several radii side by side."""
        panels = [
            self.panel(landmark, labels, title=radius_words(eps, labels), thumbnails=7)
            for eps, labels in zip(eps_values, self.fall_apart(landmark, eps_values), strict=True)
        ]
        return draw_map(panels, title=self.name(landmark), legend=LEGEND)

    def cleaned(self, landmarks: Sequence[int], *, thumbnails: int = 12) -> Figure:
        """Several landmarks as cleaning left them: clusters, rescued and dropped images."""
        panels = []
        for landmark in landmarks:
            own = self.images.iloc[self.of(landmark)]
            status = own["status"].astype(str)
            labels = own["cluster"].where(status.isin(["kept", "split"]), -1).to_numpy()
            counts = status.value_counts()
            rest = f"{counts.get('rescued', 0)} rescued, {counts.get('dropped', 0)} dropped"
            title = f"{self.name(landmark)}\n{count_words(labels)}, {rest}"
            panel = self.panel(landmark, labels, title=title, thumbnails=thumbnails)
            colours = np.where(status == "rescued", RESCUED, panel.colours).tolist()
            panels.append(dataclasses.replace(panel, colours=colours))
        legend = LEGEND | {NOISE: "dropped", RESCUED: "rescued by the second pass"}
        return draw_map(panels, legend=legend)

    def name(self, landmark: int) -> str:
        """What to call a landmark, in few words."""
        return shorten(str(self.names.get(landmark) or f"landmark {landmark}"), 40)

    def interesting(self, count: int) -> list[int]:
        """Landmarks that cleaning changed most: by images split off, then by images dropped."""
        status = pd.get_dummies(self.images["status"].astype(str))
        status = status.reindex(columns=["split", "dropped"], fill_value=False)
        counts = status.groupby(self.images["landmark_id"]).sum()
        order = counts.sort_values(["split", "dropped"], ascending=False, kind="stable")
        return order.index[:count].tolist()


def cluster_colours(labels: np.ndarray) -> list[str]:
    """A colour for every image: the largest clusters first, red for noise.

    >>> cluster_colours(np.array([1, 1, 0, -1])) == [CLUSTERS[0]] * 2 + [CLUSTERS[1], NOISE]
    True
    """
    known, counts = np.unique(labels[labels >= 0], return_counts=True)
    order = known[np.argsort(-counts, kind="stable")]
    colour_of = dict(zip(order.tolist(), cycle(CLUSTERS), strict=False))
    return [colour_of.get(label, NOISE) for label in labels.tolist()]


def count_words(labels: np.ndarray) -> str:
    """The sizes of clusters, in words.

    >>> count_words(np.array([1, 1, 0, -1]))
    '2 + 1 images'
    """
    sizes = sorted(np.unique(labels[labels >= 0], return_counts=True)[1].tolist(), reverse=True)
    more = f" + {len(sizes) - 4} small" if len(sizes) > 4 else ""
    return f"{' + '.join(map(str, sizes[:4])) or 'no'}{more} images"


def radius_words(eps: float, labels: np.ndarray) -> str:
    """What a radius makes of a landmark, in words.

    >>> radius_words(0.3, np.array([1, 1, 0, -1]))
    'eps 0.30: 2 + 1 images, 1 noise'
    """
    return f"eps {eps:.2f}: {count_words(labels)}, {int((labels < 0).sum())} noise"


def explore(
    explorer: CleaningExplorer, eps: float, *, show: Callable[[Figure], Any] = lambda figure: figure
) -> Any:
    """Widgets where a person watches, otherwise a picture of one landmark at four radii.

    Args:
        explorer: of the cleaning.
        eps: the radius to begin with.
        show: what to do with the picture.
    """
    landmarks = explorer.interesting(20)
    if is_interactive():
        return make_widget(explorer, eps, landmarks)
    return show(explorer.at_radii(landmarks[0], [min(eps * factor, 2) for factor in FACTORS]))


def make_widget(
    explorer: CleaningExplorer, eps: float, landmarks: Sequence[int]
) -> ipywidgets.VBox:
    """A choice of landmarks, a slider for the radius, and the picture of both.

    Args:
        explorer: of the cleaning.
        eps: the radius to begin with.
        landmarks: those to choose from.
    """
    options = [(explorer.name(landmark), landmark) for landmark in landmarks]
    landmark = ipywidgets.Dropdown(options=options, description="landmark")
    radius = ipywidgets.FloatSlider(
        eps, min=0.01, max=round(min(3 * eps, 2.0), 2), step=0.01, description="eps"
    )
    radius.continuous_update = False
    picture = ipywidgets.Image(format="png")

    def draw(_: Any = None) -> None:
        stream = io.BytesIO()
        figure = explorer.at_radius(landmark.value, radius.value)
        figure.savefig(stream, format="png", dpi=100)
        picture.value = stream.getvalue()

    for control in (landmark, radius):
        control.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([ipywidgets.HBox([landmark, radius]), picture])


LARGEST_ALPHA, LARGEST_BETA, STEP = 2.0, 1.0, 0.05
DPI = 80


@dataclass(frozen=True, eq=False)
class RerankingExplorer:
    """Everything that a strip of any query is made from.

    Attributes:
        source: reads the images.
        evaluation: tells paths and right answers.
        data: of the evaluation, with ids.
        voting: top, normalise and reciprocal of `landmark_country_rerank`.
        names: landmark_id to a name.
        columns: results shown.
    """

    source: ImageSource
    evaluation: Evaluation
    data: RetrievalData
    voting: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[int, str] | pd.Series | None = None
    columns: int = 8

    def strip(self, query: str, alpha: float, beta: float) -> VoteBreakdown:
        """The strip of a query at these weights; only this query is ranked.

        Raises:
            ValueError: if there is no such query.
        """
        return vote_breakdown(
            self.source,
            self.evaluation,
            self.data,
            query,
            alpha=alpha,
            beta=beta,
            voting=self.voting,
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
    explorer: RerankingExplorer, queries: Sequence[str], *, alpha: float = 0.5, beta: float = 0.1
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
