"""Contact sheets, and what every picture shares: colours with one meaning, and a plain style.

Pictures draw and compute nothing. Frames keep one meaning everywhere: green right, red wrong or
dropped, orange rescued, blue, violet and teal for the clusters of one landmark, grey for what is
not judged, brown for what was trained on its own queries. Charts are in `lib.charts` and
`lib.cleaning_charts`.

Landmarks are named in every script and with any character, so all figures are `TextFigure`s, which
draw words as they are: no `$` begins a formula, and what matplotlib's font lacks is taken from the
Noto fonts of two packages.
"""

import dataclasses
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
from wcwidth import clip, wrap

RIGHT, WRONG, RESCUED, NEUTRAL = "#2a9d4a", "#d1352b", "#f39c12", "#9aa0a6"
CLUSTERS = ("#1f77d0", "#8e44ad", "#16a085", "#c2185b", "#7f6000")
INK, LEAKED = "#30343b", "#b9a088"
FONT_PACKAGES = ("manimgx_fonts", "noto_cjk_sans_jp_regular")


class TextFigure(Figure):
    """A figure that draws every text literally and in any script."""

    def draw(self, renderer: Any) -> None:
        """Draw, with text as it is."""
        with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
            # A letter that no font has is drawn as a box, and that is all there is to say.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            for axis in self.axes:
                for side in (axis.xaxis, axis.yaxis):
                    side.get_ticklabels(which="both")  # makes them
            for text in self.findobj(Text):
                text.set_parse_math(False)
                text.set_text(printable(text.get_text()))
                own = findfont(text.get_fontproperties())
                if lacking := set(text.get_text()) - _letters(own):
                    families = [*text.get_fontfamily(), *_families(lacking)]
                    text.set_fontfamily(list(dict.fromkeys(families)))
            super().draw(renderer)


def printable(text: str) -> str:
    """A text without characters that control a terminal or are half of one.

    >>> printable("a\\tb\\nc")
    'a b\\nc'
    """
    return "".join(
        letter if letter == "\n" or unicodedata.category(letter) not in ("Cc", "Cs") else " "
        for letter in text
    )


def shorten(text: str, width: int, lines: int = 1) -> str:
    """A text on a few lines of at most `width` columns, of which a Chinese letter takes two.

    >>> shorten("Kinkaku-ji, the golden pavilion", 12)
    'Kinkaku-ji,…'
    """
    found = wrap(" ".join(printable(text).split()), width)
    if len(found) > lines:
        found[lines - 1 :] = [f"{clip(found[lines - 1], 0, width - 1).rstrip()}…"]
    return "\n".join(found)


def _families(lacking: set[str]) -> list[str]:
    """The fonts that have letters, as few as possible."""
    found = []
    for name, path in _more_fonts().items():
        if lacking & _letters(path):
            found.append(name)
            lacking = lacking - _letters(path)
    return found


@cache
def _more_fonts() -> dict[str, str]:
    """Name to file of the fonts of the packages, made known to matplotlib."""
    found = {}
    for package in FONT_PACKAGES:
        try:
            paths = sorted(str(path) for path in files(package).iterdir())
        except ModuleNotFoundError:  # boxes instead of letters are no reason to stop
            continue
        for path in paths:
            if path.endswith((".ttf", ".otf")):
                font_manager.fontManager.addfont(path)
                font = font_manager.fontManager.ttflist[-1]
                font_manager.fontManager.ttflist.append(dataclasses.replace(font, weight=700))
                found[font.name] = path
    return found


@cache
def _letters(path: str) -> frozenset[str]:
    return frozenset(map(chr, font_manager.get_font(path).get_charmap())) | {"\n"}


@dataclass(frozen=True)
class Row:
    """One line of a sheet: a title on its left, images (H, W, 3) uint8, frames and captions."""

    title: str
    images: Sequence[np.ndarray]
    colours: Sequence[str] = ()
    captions: Sequence[str] = ()


def axes_of(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` times `columns` plain axes, `width` by `height` inches, and the axes."""
    with matplotlib.rc_context(
        {"font.size": 9, "axes.edgecolor": NEUTRAL, "axes.titlesize": 10, "text.color": INK}
    ):
        figure = TextFigure(figsize=(width, height), layout="constrained", facecolor="white")
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel().tolist()
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


def sheet(
    rows: Sequence[Row], *, title: str = "", legend: Mapping[str, str] | None = None
) -> Figure:
    """A contact sheet: rows of images with coloured frames, titles on the left.

    Without any row it says so.

    Args:
        rows: lines from top to bottom, each as long as it is.
        title: one line above all.
        legend: frame colour → meaning.
    """
    columns = max((len(row.images) for row in rows), default=1)
    has_captions = any(row.captions for row in rows)
    inch, left = 1.0, 1.7
    tall = inch * (1.17 if has_captions else 1.03)
    top = 0.3 * bool(title) + 0.3 * bool(legend) + 0.05
    width, height = left + inch * columns, top + tall * max(len(rows), 1)
    figure = TextFigure(figsize=(width, height), facecolor="white")
    if title:
        figure.text(0.005, 1 - 0.08 / height, title, fontsize=11, va="top", weight="bold")
    if not rows:
        figure.text(
            0.08 / width, 0.5 * tall / height, "no image to show here", fontsize=9, va="center"
        )
    elif legend:
        figure.legend(
            handles=[Patch(color=colour, label=text) for colour, text in legend.items()],
            loc="upper left",
            bbox_to_anchor=(0.0, 1 - (top - 0.33) / height),
            ncols=len(legend),
            frameon=False,
            fontsize=8,
            handlelength=1.0,
        )
    for line, row in enumerate(rows):
        bottom = height - top - tall * (line + 1)
        figure.text(
            0.08 / width,
            (bottom + tall * 0.55) / height,
            "\n".join(shorten(line, 26, lines=4) for line in row.title.splitlines()[:7]),
            fontsize=8,
            va="center",
        )
        for column, image in enumerate(row.images):
            place = (left + inch * column + 0.02, bottom + tall - inch + 0.02, 0.95, 0.95)
            axis = figure.add_axes(np.divide(place, (width, height, width, height)))
            _thumbnail(axis, image, _at(row.colours, column))
            if caption := _at(row.captions, column):
                axis.set_xlabel(caption, fontsize=6.5, labelpad=2)
    return figure


def _at(values: Sequence[str], place: int) -> str:
    return values[place] if place < len(values) else ""


def _thumbnail(axis: Axes, image: np.ndarray, colour: str) -> None:
    axis.imshow(image, aspect="auto")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(color=colour or "white", linewidth=3 if colour else 0.5)
