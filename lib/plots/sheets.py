"""Contact sheets of images; and the colours, fonts and axes that all figures share.

Colours keep one meaning everywhere: green right or better, red wrong or worse, grey neither of
both, light brown trained on its own queries, and dark lines thresholds such as eps. Of cleaning:
blue the largest cluster of a landmark (kept), violet the second (split off), teal, magenta and pink
further ones, orange rescued, dark brown dropped. Where nothing is judged or cleaned, blue, violet,
teal, magenta and pink tell series apart.
"""

import dataclasses
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
from wcwidth import clip, wrap

from lib.data import OTHER, Evaluation, ImageSource
from lib.retrieval import Ranking

RIGHT, WRONG, RESCUED, NEUTRAL = "#2a9d4a", "#d1352b", "#f39c12", "#9aa0a6"
CLUSTERS = ("#1f77d0", "#8e44ad", "#16a085", "#c2185b", "#e68ac8")
KEPT, SPLIT, DROPPED = CLUSTERS[0], CLUSTERS[1], "#7a3e1d"
INK, LEAKED = "#30343b", "#b9a088"
FONT_PACKAGES = ("manimgx_fonts", "noto_cjk_sans_jp_regular")
PIXELS = 112  # of a thumbnail's side
TYPICAL = 3  # images that a row shows first, for comparison


class TextFigure(Figure):
    """A figure that draws every text literally (no `$` begins a formula) and in any script."""

    def draw(self, renderer: Any) -> None:
        with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")
            for axis in self.axes:
                for side in (axis.xaxis, axis.yaxis):
                    side.get_ticklabels(which="both")  # makes them
            for text in self.findobj(Text):
                text.set_parse_math(False)
                text.set_text(printable(text.get_text()))
                own = findfont(text.get_fontproperties())
                if lacking := set(text.get_text()) - _letters(own):
                    fonts = _more_fonts().items()
                    more = [name for name, path in fonts if lacking & _letters(path)]
                    text.set_fontfamily(list(dict.fromkeys([*text.get_fontfamily(), *more])))
            if "draw_path" not in vars(renderer):
                super().draw(renderer)
            elif layout := self.get_layout_engine():  # savefig first draws nothing, for this alone
                layout.execute(self)


def printable(text: str) -> str:
    """A text without control characters and unpaired surrogates."""
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", " ", text)


def shorten(text: str, width: int, lines: int = 1) -> str:
    """A text on at most `lines` lines of `width` columns, of which a Chinese letter takes two.

    >>> shorten("Kinkaku-ji, the golden pavilion", 12)
    'Kinkaku-ji,…'
    """
    found = wrap(" ".join(printable(text).split()), width)
    if len(found) > lines:
        found[lines - 1 :] = [f"{clip(found[lines - 1], 0, width - 1).rstrip()}…"]
    return "\n".join(found)


@cache
def _more_fonts() -> dict[str, str]:
    """Name → file of the packages' fonts, which are registered with matplotlib."""
    found = {}
    for spec in filter(None, map(find_spec, FONT_PACKAGES)):  # without them, letters are boxes
        for path in sorted(font_manager.findSystemFonts(spec.submodule_search_locations)):
            font_manager.fontManager.addfont(path)
            font = font_manager.fontManager.ttflist[-1]
            font_manager.fontManager.ttflist.append(dataclasses.replace(font, weight=700))
            found[font.name] = path
    return found


@cache
def _letters(path: str) -> frozenset[str]:
    return frozenset(map(chr, font_manager.get_font(path).get_charmap())) | {"\n"}


@dataclass(frozen=True)
class ImageRow:
    """One line of a sheet: a title on its left, images (H, W, 3) uint8, frames and captions."""

    title: str
    images: Sequence[np.ndarray]
    colours: Sequence[str] = ()
    captions: Sequence[str] = ()


def axes_of(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of plain axes side by side, `width` by `height` inches, and the axes."""
    style = {"font.size": 9, "axes.edgecolor": NEUTRAL, "axes.titlesize": 10, "text.color": INK}
    with matplotlib.rc_context(style):
        figure = TextFigure(figsize=(width, height), layout="constrained", facecolor="white")
        axes = np.atleast_1d(figure.subplots(1, columns)).tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, axes


def logarithmic(*axes: Axis) -> None:
    """Make an axis of what is drawn logarithmic, labelled 1, 10, 100 and no formulas.

    Where all values lie within one decade it has no such label, and stays linear.
    """
    for axis in axes:
        lowest, highest = axis.get_data_interval()
        if lowest > 0 and highest < 10 * lowest:
            axis.set_major_locator(MaxNLocator(integer=True))
            continue
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter(NullFormatter())


def draw(
    rows: Sequence[ImageRow], *, title: str = "", legend: Mapping[str, str] | None = None
) -> Figure:
    """A contact sheet: rows with titles and coloured frames, which `legend` explains."""
    columns = max([1, *(len(row.images) for row in rows)])
    has_captions = any(row.captions for row in rows)
    left, top = 1.7, 0.3 * bool(title) + 0.3 * bool(legend) + 0.05  # inches, as all lengths here
    tall = 1.17 if has_captions else 1.03
    width, height = left + columns, top + tall * max(len(rows), 1)
    figure = TextFigure(figsize=(width, height), facecolor="white")
    # One for all images, in inches: an axes per image takes three times as long to draw.
    axes = figure.add_axes((left / width, 0, 1 - left / width, 1 - top / height))
    axes.set(xlim=(left, width), ylim=(0, height - top))
    axes.set_axis_off()
    if title:
        figure.text(0.005, 1 - 0.08 / height, title, fontsize=11, va="top", weight="bold")
    if not rows:
        figure.text(0.08 / width, 0.5 * tall / height, "no image to show here", fontsize=9)
    elif legend:
        handles = [Patch(color=colour, label=text) for colour, text in legend.items()]
        style = {"ncols": len(legend), "frameon": False, "fontsize": 8, "handlelength": 1.0}
        anchor = (0.0, 1 - (top - 0.33) / height)
        figure.legend(handles=handles, loc="upper left", bbox_to_anchor=anchor, **style)
    for line, row in enumerate(rows):
        bottom = height - top - tall * (line + 1)
        words = "\n".join(shorten(line, 26, lines=4) for line in row.title.splitlines()[:7])
        figure.text(0.08 / width, (bottom + tall * 0.55) / height, words, fontsize=8, va="center")
        for column, image in enumerate(row.images):
            x, y, side = left + column + 0.02, bottom + tall - 0.98, 0.95
            axes.imshow(image, aspect="auto", extent=(x, x + side, y, y + side))
            colour = row.colours[column] if column < len(row.colours) else ""
            frame = {"edgecolor": colour or "white", "linewidth": 3 if colour else 0.5}
            axes.add_patch(Rectangle((x, y), side, side, fill=False, zorder=2.5, **frame))
            if column < len(row.captions):
                style = {"fontsize": 6.5, "ha": "center", "va": "top"}
                axes.text(x + side / 2, y - 2 / 72, row.captions[column], **style)
    return figure


def pixels(source: ImageSource, paths: Sequence[str]) -> list[np.ndarray]:
    """Thumbnails of images, stretched to squares."""
    return [source.read_resized(path, PIXELS) for path in paths]


def _landmark_row(
    source: ImageSource,
    landmark: int,
    names: Mapping[int, str],
    *parts: tuple[Sequence[str], str],
    note: str = "",
) -> ImageRow:
    """One landmark's images: parts side by side, each of paths and the colour of their frames."""
    title = names.get(landmark) or f"landmark {landmark}"
    chosen = [path for paths, _ in parts for path in paths]
    colours = [colour for paths, colour in parts for _ in paths]
    return ImageRow(f"{title}\n{note}".strip(), pixels(source, chosen), colours)


def landmark_rows(
    source: ImageSource,
    table: pd.DataFrame,
    landmarks: Sequence[int],
    names: Mapping[int, str],
    *,
    columns: int = 8,
    generator: np.random.Generator,
) -> list[ImageRow]:
    """A row per landmark with up to `columns` of its images of `table`, drawn at random."""
    rows = []
    for landmark in landmarks:
        paths = table.loc[table["landmark_id"] == landmark, "path"]
        chosen = generator.permutation(paths.to_numpy())[:columns]
        rows.append(_landmark_row(source, landmark, names, (chosen, "")))
    return rows


def country_rows(
    source: ImageSource,
    raw: pd.DataFrame,
    names: Mapping[int, str],
    *,
    columns: int = 8,
    generator: np.random.Generator,
) -> tuple[str, list[ImageRow]]:
    """The known country with most landmarks, and rows of its five largest landmarks.

    Of landmarks in the clean list, only images of that list are drawn.
    """
    home = raw[raw["country"] != OTHER].groupby("country")["landmark_id"].nunique().idxmax()
    largest = raw.loc[raw["country"] == home, "landmark_id"].value_counts().index[:5]
    clean = raw.loc[raw["is_clean"], "landmark_id"]
    drawn = raw[raw["is_clean"] | ~raw["landmark_id"].isin(clean)]
    rows = landmark_rows(source, drawn, largest, names, columns=columns, generator=generator)
    return home, rows


def noise_rows(
    source: ImageSource,
    raw: pd.DataFrame,
    landmarks: Sequence[int],
    names: Mapping[int, str],
    *,
    planted: Collection[str] = (),
    columns: int = 9,
) -> list[ImageRow]:
    """A row per landmark: images of the clean list (green), then images that it left out.

    Of these `planted` ids, known to be wrong, have red frames (at most a third), others grey ones.
    """
    rows = []
    for landmark in landmarks:
        own = raw[raw["landmark_id"] == landmark]
        left_out, is_wrong = own[~own["is_clean"]], own["id"].isin(planted)
        clean = own.loc[own["is_clean"], "path"].head(columns // 3)
        wrong = left_out.loc[is_wrong, "path"].head(columns // 3)
        others = left_out.loc[~is_wrong, "path"].head(columns - len(clean) - len(wrong))
        parts = (clean, RIGHT), (wrong, WRONG), (others, NEUTRAL)
        rows.append(_landmark_row(source, landmark, names, *parts))
    return rows


def split_rows(
    source: ImageSource,
    images: pd.DataFrame,
    landmarks: Sequence[int],
    names: Mapping[int, str],
    *,
    columns: int = 9,
) -> list[ImageRow]:
    """A row per landmark: its largest classes of the first pass side by side, a colour each.

    Of each class those images of `CleaningResult.images` (with a path) nearest to its centre.
    """
    rows = []
    for landmark in landmarks:
        is_own = (images["landmark_id"] == landmark) & images["status"].isin(["kept", "split"])
        sizes = images.loc[is_own, "label"].value_counts().head(min(columns, len(CLUSTERS)))
        share = columns // max(len(sizes), 1)
        own = [images[is_own & (images["label"] == label)] for label in sizes.index]
        paths = [part.nsmallest(share, "distance")["path"] for part in own]
        parts = zip(paths, CLUSTERS, strict=False)
        note = f"{' + '.join(map(str, sizes)) or 'no'} images"
        rows.append(_landmark_row(source, landmark, names, *parts, note=note))
    return rows


def marked_rows(
    source: ImageSource,
    images: pd.DataFrame,
    marked: pd.Series | np.ndarray,
    names: Mapping[int, str],
    *,
    colour: str = DROPPED,
    landmarks: Sequence[int] | None = None,
    columns: int = 9,
) -> list[ImageRow]:
    """A row per landmark: a few typical images (blue), then its marked images in `colour`.

    Typical are images of `CleaningResult.images` (with a path) that are kept, not marked, and
    nearest to the centre of their class. The default are six landmarks with most marked images.
    """
    marked = np.asarray(marked)
    if landmarks is None:
        landmarks = images[marked].groupby("landmark_id").size().nlargest(6).index
    rows = []
    for landmark in landmarks:
        is_own = (images["landmark_id"] == landmark).to_numpy()
        typical = images[is_own & ~marked & (images["status"] == "kept").to_numpy()]
        typical = typical.nsmallest(TYPICAL, "distance")["path"]
        own = images.loc[is_own & marked, "path"]
        parts = (typical, KEPT), (own.head(columns - len(typical)), colour)
        note = f"{len(own)} of {is_own.sum()} images"
        rows.append(_landmark_row(source, landmark, names, *parts, note=note))
    return rows


def strips(
    source: ImageSource,
    evaluation: Evaluation,
    ranking: Ranking,
    queries: Sequence[str],
    *,
    columns: int = 8,
    title: str = "",
) -> list[ImageRow]:
    """A row per query id: the query, then its best results, framed green if right, red if not."""
    rows = []
    for query in queries:
        found = ranking.of(query).head(columns)
        images, colours, answers = query_images(source, evaluation, query, found["id"])
        hits = f"{colours.count(RIGHT)} of {len(found)} right\n({answers} in the gallery)"
        captions = ["query", *(f"{score:.2f}" for score in found["score"])]
        rows.append(ImageRow(f"{title}\n{hits}".strip(), images, ["", *colours], captions))
    return rows


def query_images(
    source: ImageSource, evaluation: Evaluation, query: str, found: Sequence[str]
) -> tuple[list[np.ndarray], list[str], int]:
    """Thumbnails of a query and of gallery ids, frames of these, and how many answers are right."""
    answers = next((part[query] for part in evaluation.solution.values() if query in part), set())
    path = evaluation.queries.set_index("id")["path"][query]
    paths = evaluation.gallery.set_index("id")["path"][list(found)]
    colours = [RIGHT if image in answers else WRONG for image in found]
    return pixels(source, [path, *paths]), colours, len(answers)
