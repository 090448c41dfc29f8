"""Interactive explorers: one landmark at any eps, one query's reranking at any α and β.

In Jupyter `widget` shows menus and sliders beside a figure that follows them; `still` shows several
settings side by side.
"""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from lib.cleaning import dbscan_labels, unit_rows
from lib.data import OTHER, Evaluation, ImageSource, country_name
from lib.plots import sheets
from lib.plots.reranking import VoteBreakdown, explained
from lib.plots.sheets import CLUSTERS, DROPPED, INK, NEUTRAL, RESCUED, RIGHT, axes_of, shorten
from lib.reranking import NO_COUNTRY, RetrievalData, explain, query_votes

MAP_DPI, STRIP_DPI = 80, 96  # in widgets: a picture's natural size fits a window of 800 pixels
# A picture is never enlarged, keeps its shape, and leaves room for its sliders.
PICTURE = {"max_height": "60vh", "max_width": "100%", "object_fit": "contain"}
BESIDE = {"flex_flow": "row wrap", "align_items": "flex-start"}  # below where there is no room
REMEMBERED = 1024  # thumbnails of a widget, 40 MB
LEGEND = dict(zip(CLUSTERS, ("largest cluster", "second", "third"), strict=False))
FACTORS = (0.2, 0.5, 1.0, 1.5)  # of the chosen eps, side by side
MOST = 400  # images of a landmark on a map, evenly spread
FEWEST = 8  # images; fewer are placed by their principal components


def _follow(controls: Sequence[Any], draw: Callable[..., Figure], *, dpi: int) -> ipywidgets.Box:
    """Controls beside a figure that is drawn again from their values when one changes.

    While it is drawn, Jupyter keeps only the last of the values that a dragged slider passes.
    """
    picture = ipywidgets.Image(format="png", layout=PICTURE)

    def update(_: Any = None) -> None:
        stream = io.BytesIO()
        figure = draw(*(control.value for control in controls))
        figure.savefig(stream, format="png", dpi=dpi, pil_kwargs={"compress_level": 1})  # fast
        picture.value = stream.getvalue()

    for control in controls:
        control.observe(update, names="value")
    update()
    return ipywidgets.Box([ipywidgets.VBox(list(controls)), picture], layout=BESIDE)


def _remembering(source: ImageSource) -> SimpleNamespace:
    """The image source, which keeps the thumbnails it has read."""
    return SimpleNamespace(read_resized=lru_cache(REMEMBERED)(source.read_resized))


@dataclass(frozen=True)
class CleaningExplorer:
    """The images of a cleaning, to be clustered again one landmark at a time."""

    rows: np.ndarray  # (N, D) unit rows, may be a memory map
    images: pd.DataFrame  # `CleaningResult.images` with a path
    source: ImageSource
    min_samples: int  # of the first pass
    names: Mapping[int, str] = field(default_factory=dict)  # of landmarks
    _places: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def widget(self, eps: float) -> ipywidgets.Box:
        """A menu of the most changed landmarks and a slider of eps, beside the landmark's map."""
        explorer = dataclasses.replace(self, source=_remembering(self.source))
        options = [(self.name(landmark), landmark) for landmark in self.most_changed(20)]
        landmark = ipywidgets.Dropdown(options=options, description="landmark")
        style = {"step": 0.01, "description": "eps"}
        slider = ipywidgets.FloatSlider(eps, min=0.01, max=round(min(3 * eps, 2.0), 2), **style)
        return _follow([landmark, slider], explorer.at_eps, dpi=MAP_DPI)

    def still(self, eps: float) -> Figure:
        """The most changed landmark at four radii around eps, side by side."""
        return self.at_eps(*self.most_changed(1), *(min(eps * factor, 2) for factor in FACTORS))

    def at_eps(self, landmark: int, *eps_values: float) -> Figure:
        """A landmark's map, a panel for each radius."""
        thumbnails = 24 if len(eps_values) == 1 else 7
        panels = []
        for eps, labels in zip(eps_values, self.labels(landmark, eps_values), strict=True):
            title = f"eps {eps:.2f}: {describe_sizes(labels)}, {(labels < 0).sum()} noise"
            panels.append(self._panel(landmark, title, cluster_colours(labels), thumbnails))
        return draw_map(panels, title=self.name(landmark), legend=LEGEND | {NEUTRAL: "noise"})

    def cleaned(self, landmarks: Sequence[int]) -> Figure:
        """Landmarks as cleaning left them: clusters, rescued and dropped images."""
        panels = []
        for landmark in landmarks:
            own = self.images.iloc[self.positions(landmark)]
            status = own["status"].astype(str)
            labels = own["cluster"].where(status.isin(["kept", "split"]), -1).to_numpy()
            counts = status.value_counts()
            rest = f"{counts.get('rescued', 0)} rescued, {counts.get('dropped', 0)} dropped"
            title = f"{self.name(landmark)}\n{describe_sizes(labels)}, {rest}"
            colours = np.where(status == "rescued", RESCUED, cluster_colours(labels))
            colours = np.where(status == "dropped", DROPPED, colours).tolist()
            panels.append(self._panel(landmark, title, colours, 12))
        legend = LEGEND | {DROPPED: "dropped", RESCUED: "rescued by the second pass"}
        return draw_map(panels, legend=legend)

    def positions(self, landmark: int) -> np.ndarray:
        """Positions of a landmark's images, evenly thinned to at most `MOST`."""
        own = np.flatnonzero(self.images["landmark_id"].to_numpy() == landmark)
        if not len(own):
            raise ValueError(f"expected a landmark of this cleaning, found {landmark}: choose one")
        return own[np.linspace(0, len(own) - 1, min(len(own), MOST)).astype(int)]

    def labels(self, landmark: int, eps_values: Sequence[float]) -> np.ndarray:
        """(K, n) clusters of a landmark's images at several radii, -1 for noise."""
        own = self.positions(landmark)
        rows = unit_rows(self.rows[own], own)[0]
        return dbscan_labels(rows, [len(own)], eps_values, self.min_samples)

    def name(self, landmark: int) -> str:
        return shorten(str(self.names.get(landmark) or f"landmark {landmark}"), 40)

    def most_changed(self, count: int) -> list[int]:
        """Landmarks by the number of images split off, then by the number dropped."""
        status = pd.get_dummies(self.images["status"].astype(str))
        status = status.reindex(columns=["split", "dropped"], fill_value=False)
        counts = status.groupby(self.images["landmark_id"]).sum()
        order = counts.sort_values(["split", "dropped"], ascending=False, kind="stable")
        return order.index[:count].tolist()

    def _panel(
        self, landmark: int, title: str, colours: Sequence[str], thumbnails: int
    ) -> "MapPanel":
        """A landmark's map in these colours; places stay when the radius changes."""
        own = self.positions(landmark)
        if landmark not in self._places:
            self._places[landmark] = place(unit_rows(self.rows[own], own)[0])
        points = self._places[landmark]
        chosen = far_apart(points, thumbnails)
        paths = self.images["path"].to_numpy()[own[chosen]]
        found = dict(zip(chosen, sheets.pixels(self.source, paths), strict=True))
        return MapPanel(title, points, colours, found)


def cluster_colours(labels: np.ndarray) -> list[str]:
    """A colour for every image: the largest clusters first, grey for noise."""
    known, counts = np.unique(labels[labels >= 0], return_counts=True)
    order = known[np.argsort(-counts, kind="stable")]
    colour_of = dict(zip(order.tolist(), cycle(CLUSTERS), strict=False))
    return [colour_of.get(label, NEUTRAL) for label in labels.tolist()]


def describe_sizes(labels: np.ndarray) -> str:
    """The sizes of clusters: `2 + 1 images`."""
    sizes = sorted(np.unique(labels[labels >= 0], return_counts=True)[1].tolist(), reverse=True)
    more = f" + {len(sizes) - 4} small" if len(sizes) > 4 else ""
    return f"{' + '.join(map(str, sizes[:4])) or 'no'}{more} images"


@dataclass(frozen=True)
class MapPanel:
    """One landmark on a map."""

    title: str
    points: np.ndarray  # (n, 2) from `place`
    colours: Sequence[str]  # (n,) of the dots
    thumbnails: Mapping[int, np.ndarray]  # which image → its pixels (H, W, 3) uint8


def place(rows: np.ndarray) -> np.ndarray:
    """(n, D) unit rows to (n, 2) places in the unit square, near images near each other.

    t-SNE (van der Maaten and Hinton 2008) on cosine distances, the same every time.
    """
    parts = min(2, *rows.shape)
    with np.errstate(invalid="ignore", divide="ignore"):  # of one image, or of copies
        flat = PCA(parts, random_state=0).fit_transform(rows)  # of wide rows it draws at random
        flat = np.pad(flat, ((0, 0), (0, 2 - parts)))
    if len(rows) >= FEWEST:
        start = 1e-4 * flat / max(np.std(flat[:, 0]), 1e-12)
        perplexity = min(30.0, (len(rows) - 1) / 3)
        model = TSNE(2, perplexity=perplexity, metric="cosine", init=start, random_state=0)
        with threadpool_limits(1):  # the maps are small: threads would only wait for each other
            flat = model.fit_transform(rows)
    low, span = flat.min(axis=0), np.ptp(flat, axis=0)
    span[span < 1e-3 * span.max(initial=1e-12)] = 0
    return np.where(span > 0, (flat - low) / np.where(span > 0, span, 1), 0.5)


def far_apart(points: np.ndarray, count: int) -> list[int]:
    """Which points to show: one after the other the one farthest from those before."""
    chosen, gaps = [], cdist(points, points.mean(axis=0, keepdims=True), "sqeuclidean")
    for _ in range(min(count, len(np.unique(points, axis=0)))):  # copies are shown once
        chosen.append(int(gaps.min(axis=1).argmax()))
        gaps = cdist(points, points[chosen], "sqeuclidean")
    return chosen


def draw_map(panels: Sequence[MapPanel], *, title: str = "", legend: Mapping[str, str]) -> Figure:
    """Panels of landmarks or radii side by side: a dot per image, and a few thumbnails."""
    side = 4.2 if len(panels) > 1 else 5.3
    figure, axes = axes_of(side * len(panels), side + 0.7, columns=len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        axis.set(xlim=(-0.12, 1.12), ylim=(-0.12, 1.12), xticks=[], yticks=[])
        axis.grid(visible=False)
        axis.spines[:].set(visible=True, color=NEUTRAL)
        axis.set_title(panel.title, loc="left")
        dots = {"s": 26, "linewidths": 0.4, "edgecolors": "white"}
        axis.scatter(*panel.points.T, c=list(panel.colours), **dots)
        for at, image in panel.thumbnails.items():
            box = OffsetImage(image, zoom=38 / max(image.shape[:2]))
            frame = {"edgecolor": panel.colours[at], "linewidth": 2.5}
            note = AnnotationBbox(box, panel.points[at], pad=0.1, bboxprops=frame, zorder=3)
            axis.add_artist(note)
    for colour, meaning in legend.items():
        axes[0].plot([], [], "o", color=colour, label=meaning)
    figure.legend(loc="outside lower center", ncols=len(legend), frameon=False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", weight="bold", color=INK)
    return figure


@dataclass(frozen=True, eq=False)
class RerankingExplorer:
    """What the vote breakdown of any query of an evaluation is made from."""

    source: ImageSource
    evaluation: Evaluation
    data: RetrievalData  # of the evaluation, with ids
    voting: Mapping[str, Any] = field(default_factory=dict)  # of `landmark_country_rerank`
    names: Mapping[int, str] = field(default_factory=dict)  # of landmarks
    query_names: Mapping[str, str] = field(default_factory=dict)  # `lib.data.query_names`
    columns: int = 8  # results shown

    def widget(
        self, gains: Mapping[str, float], *, alpha: float = 0.5, beta: float = 0.1
    ) -> ipywidgets.Box:
        """A menu of queries and sliders of α and β beside the vote breakdown, which follows them.

        `gains` is the change of each query's average precision.
        """
        if not len(gains):
            raise ValueError("expected queries to choose from, found none; give some ids")
        options = [(f"{self.name(query)}, {gain:+.2f} AP", query) for query, gain in gains.items()]
        menu = ipywidgets.Dropdown(options=options, description="query")
        sliders = [
            ipywidgets.FloatSlider(value=value, min=0, max=largest, step=0.05, description=name)
            for name, value, largest in (("α", alpha, 2.0), ("β", beta, 1.0))
        ]
        explorer = dataclasses.replace(self, source=_remembering(self.source))
        return _follow([menu, *sliders], explorer.strip, dpi=STRIP_DPI)

    def strip(self, query: str, alpha: float, beta: float) -> Figure:
        """One query at one (α, β), its results below each other in rows of half of them."""
        found = self.breakdown(query, alpha, beta)
        return explained([found], title=self.name(query), columns=-(-self.columns // 2))

    def still(self, query: str, settings: Sequence[tuple[float, float]]) -> Figure:
        """One query at several (α, β), below each other."""
        found = [self.breakdown(query, alpha, beta) for alpha, beta in settings]
        return explained(found, title=self.name(query))

    def name(self, query: str) -> str:
        return shorten(self.query_names.get(query) or f"query {query}", 40)

    def breakdown(self, query: str, alpha: float, beta: float) -> VoteBreakdown:
        """The vote breakdown of a query at these weights; only this query is ranked."""
        sums = explain(self.data, query, alpha=alpha, beta=beta, **self.voting).head(self.columns)
        voters = query_votes(self.data, **self.voting).of(self.data.plain.row(query))
        images, colours, _ = sheets.query_images(self.source, self.evaluation, query, sums["id"])
        return VoteBreakdown(
            title=f"α = {alpha:g}, β = {beta:g}\n{colours.count(RIGHT)} of {len(sums)} right",
            query=images[0],
            voters=tuple(map(self._voter, voters.itertuples())),
            images=images[1:],
            colours=colours,
            sums=sums[["raw", "landmark", "country", "final", "moved"]],
        )

    def _voter(self, voter: Any) -> str:
        name = shorten(str(self.names.get(voter.landmark) or f"landmark {voter.landmark}"), 21)
        has_country = voter.country not in (NO_COUNTRY, OTHER)
        where = f" · {shorten(country_name(voter.country), 14)}" if has_country else ""
        return f"{voter.similarity:.2f}  {name}{where}"
