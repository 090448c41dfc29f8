"""A landmark's embeddings on a plane: near images near each other, coloured by what became of them.

`place` computes (t-SNE, van der Maaten and Hinton 2008, on cosine distances, the same every time),
`draw_map` draws: a dot per image, and thumbnails of a few that lie far from each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from lib.viz import INK, NEUTRAL, axes_of

FEWEST = 8  # images; fewer are placed by their principal components
MOST = 400  # images of a landmark that are placed, evenly spread


@dataclass(frozen=True)
class MapPanel:
    """One landmark on a map.

    Attributes:
        title: above it.
        points: (n, 2) from `place`.
        colours: (n,) of the dots.
        thumbnails: which image → its pixels (H, W, 3) uint8.
    """

    title: str
    points: np.ndarray
    colours: Sequence[str]
    thumbnails: Mapping[int, np.ndarray]


def place(rows: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """(n, D) unit rows to (n, 2) places within the unit square.

    >>> place(np.eye(3)[[0, 0, 1]]).round(2).tolist()
    [[0.0, 0.5], [0.0, 0.5], [1.0, 0.5]]
    """
    flat = _principal(np.asarray(rows, dtype=np.float64))
    if len(rows) >= FEWEST:
        start = 1e-4 * flat / max(np.std(flat[:, 0]), 1e-12)
        perplexity = min(30.0, (len(rows) - 1) / 3)
        model = TSNE(2, perplexity=perplexity, metric="cosine", init=start, random_state=seed)
        with threadpool_limits(1):  # the maps are small: threads would only wait for each other
            flat = model.fit_transform(rows)
    low, span = flat.min(axis=0), np.ptp(flat, axis=0)
    span[span < 1e-3 * span.max(initial=1e-12)] = 0
    return np.where(span > 0, (flat - low) / np.where(span > 0, span, 1), 0.5)


def _principal(rows: np.ndarray) -> np.ndarray:
    """(n, 2) first principal components, of signs that do not depend on the machine."""
    around = rows - rows.mean(axis=0)
    left, size, right = np.linalg.svd(around, full_matrices=False)
    flat = left[:, :2] * size[:2]
    largest = np.argmax(np.abs(right[:2]), axis=1)
    flat *= np.sign(right[np.arange(len(largest)), largest])
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def far_apart(points: np.ndarray, count: int) -> list[int]:
    """Which points to show: one after the other the one farthest from those before.

    >>> far_apart(np.array([[0, 0], [0.1, 0], [1, 1], [1, 0]]), 3)
    [2, 0, 3]
    """
    if not len(points):
        return []
    chosen = [int(np.argmax(((points - points.mean(axis=0)) ** 2).sum(axis=1)))]
    gap = np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        gap = np.minimum(gap, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        if gap.max() <= 0:  # the rest are copies
            break
        chosen.append(int(np.argmax(gap)))
    return chosen


def draw_map(panels: Sequence[MapPanel], *, title: str = "", legend: Mapping[str, str]) -> Figure:
    """One panel per landmark, side by side.

    Args:
        panels: landmarks, or one landmark at several radii.
        title: one line above all.
        legend: colour → meaning.
    """
    side = 4.2 if len(panels) > 1 else 6.4
    figure, axes = axes_of(side * len(panels), side + 0.7, columns=len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        _panel(axis, panel)
    for colour, meaning in legend.items():
        axes[0].plot([], [], "o", color=colour, label=meaning)
    figure.legend(loc="outside lower center", ncols=len(legend), frameon=False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", weight="bold", color=INK)
    return figure


def _panel(axis: Axes, panel: MapPanel) -> None:
    axis.set(xlim=(-0.12, 1.12), ylim=(-0.12, 1.12), xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(True)
    axis.spines[:].set_color(NEUTRAL)
    axis.set_title(panel.title, loc="left")
    axis.scatter(*panel.points.T, c=list(panel.colours), s=26, linewidths=0.4, edgecolors="white")
    for at, pixels in panel.thumbnails.items():
        image = OffsetImage(pixels, zoom=38 / max(pixels.shape[:2]))
        frame = {"edgecolor": panel.colours[at], "linewidth": 2.5}
        axis.add_artist(AnnotationBbox(image, panel.points[at], pad=0.1, bboxprops=frame, zorder=3))
