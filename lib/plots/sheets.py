"""Contact sheets, and what every picture shares: colours with one meaning, and a plain style.

Pictures draw and compute nothing. Frames keep one meaning everywhere: green right, red wrong or
dropped, orange rescued, blue, violet and teal for the clusters of one landmark, grey for what is
not judged, brown for what was trained on its own queries. Charts are in `lib.plots.charts` and
`lib.plots.cleaning`.

Landmarks are named in every script and with any character, so all figures are `TextFigure`s, which
draw words as they are: no `$` begins a formula, and what matplotlib's font lacks is taken from the
Noto fonts of two packages.

Which images a sheet shows: rows of `lib.plots.sheets` for landmarks, search results and cleaning.

Choices are made by fixed rules or by a generator that is passed in, never by how good they look.

Where cleaning and the truth disagree: false alarms and misses as rows of `lib.plots.sheets`.

No `truth.csv` lists natural noise, so a false alarm is a picture to look at, not yet a mistake."""

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
import pandas as pd
import torch
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
from wcwidth import clip, wrap

from lib.cleaning import is_planted
from lib.config import StageConfig
from lib.data import OTHER, Evaluation, ImageSource
from lib.retrieval import Ranking
from lib.training import Augment, corner_cutmix

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
class ImageRow:
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
    rows: Sequence[ImageRow], *, title: str = "", legend: Mapping[str, str] | None = None
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


PIXELS = 112
KEPT, SPLIT, RESCUED_WORD, DROPPED = "kept", "split", "rescued", "dropped"


def pixels(source: ImageSource, paths: Sequence[str]) -> list[np.ndarray]:
    """Thumbnails of images, stretched to squares."""
    return [source.read_resized(path, PIXELS) for path in paths]


def landmark_rows(
    source: ImageSource,
    table: pd.DataFrame,
    landmarks: Sequence[int],
    *,
    titles: Sequence[str] = (),
    columns: int = 8,
    generator: np.random.Generator,
) -> list[ImageRow]:
    """A row per landmark with up to `columns` of its images, drawn at random.

    Args:
        source: reads the images.
        table: images with landmark_id and path.
        landmarks: which ones, in this order.
        titles: shown left of each row; the landmark's id by default.
        columns: most images in a row.
        generator: draws the images.
    """
    rows = []
    for place, landmark in enumerate(landmarks):
        paths = table.loc[table["landmark_id"] == landmark, "path"].to_numpy()
        chosen = generator.permutation(paths)[:columns]
        title = titles[place] if place < len(titles) else f"landmark {landmark}"
        rows.append(ImageRow(title, pixels(source, chosen)))
    return rows


def country_rows(
    source: ImageSource,
    raw: pd.DataFrame,
    names: Mapping[int, str],
    *,
    columns: int = 8,
    generator: np.random.Generator,
) -> tuple[str, list[ImageRow]]:
    """The known country with most landmarks, and a row for each of its five largest landmarks.

    Of landmarks that the clean list has, its images alone are drawn.

    Args:
        source: reads the images.
        raw: all labelled images, of one known country at least.
        names: what to call a landmark.
        columns: most images in a row.
        generator: draws the images.
    """
    home = raw[raw["country"] != OTHER].groupby("country")["landmark_id"].nunique().idxmax()
    largest = raw.loc[raw["country"] == home, "landmark_id"].value_counts().index[:5]
    clean = raw.loc[raw["is_clean"], "landmark_id"]
    rows = landmark_rows(
        source,
        raw[raw["is_clean"] | ~raw["landmark_id"].isin(clean)],
        largest,
        titles=[names[landmark] for landmark in largest],
        columns=columns,
        generator=generator,
    )
    return home, rows


def noise_rows(
    source: ImageSource,
    raw: pd.DataFrame,
    landmarks: Sequence[int],
    *,
    truth: pd.DataFrame | None = None,
    titles: Sequence[str] = (),
    columns: int = 9,
) -> list[ImageRow]:
    """A row per landmark: images of the clean list (green), then images that it left out.

    Args:
        source: reads the images.
        raw: all labelled images with is_clean.
        landmarks: which ones.
        truth: tells planted noise, which is framed red; without it all left out are grey.
        titles: shown left of each row.
        columns: most images in a row, a third of them clean.
    """
    planted = set() if truth is None else set(truth.loc[is_planted(truth), "id"])
    rows = []
    for place, landmark in enumerate(landmarks):
        own = raw[raw["landmark_id"] == landmark]
        clean = own[own["is_clean"]].head(columns // 3)
        left_out = own[~own["is_clean"]]
        left_out = left_out.iloc[(~left_out["id"].isin(planted)).argsort(kind="stable")]
        left_out = left_out.head(columns - len(clean))
        colours = [WRONG if image in planted else NEUTRAL for image in left_out["id"]]
        title = titles[place] if place < len(titles) else f"landmark {landmark}"
        chosen = [*clean["path"], *left_out["path"]]
        rows.append(ImageRow(title, pixels(source, chosen), [RIGHT] * len(clean) + colours))
    return rows


def augmented_rows(
    source: ImageSource,
    table: pd.DataFrame,
    stage: StageConfig,
    *,
    columns: int = 8,
    generator: torch.Generator,
) -> list[ImageRow]:
    """One batch as it lies on disk, as it is trained on, and mixed by Corner-Cutmix."""
    chosen = torch.randperm(len(table), generator=generator)[:columns].tolist()
    squares = [source.read_resized(path, stage.size) for path in table["path"].iloc[chosen]]
    batch = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    grey = (0.5,) * 3
    trained = Augment(stage.augment, grey, grey)(batch, generator)
    mixed = corner_cutmix(trained, trained.roll(1, dims=0), generator=generator)
    return [
        ImageRow("as on disk", squares),
        ImageRow("as trained on\n(zoom, rotation,\nerasing)", _to_arrays(trained)),
        ImageRow("Corner-Cutmix:\neach image on a\ncorner of its\nneighbour", _to_arrays(mixed)),
    ]


def _to_arrays(images: torch.Tensor) -> list[np.ndarray]:
    """Images normalised to [-1, 1] back as (H, W, 3) uint8."""
    values = ((images + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
    return list(values.permute(0, 2, 3, 1).numpy())


def strips(
    source: ImageSource,
    evaluation: Evaluation,
    ranking: Ranking,
    queries: Sequence[str],
    *,
    columns: int = 8,
    title: str = "",
) -> list[ImageRow]:
    """A row per query: the query, then its best results, framed green if right and red if not.

    Args:
        source: reads the images.
        evaluation: tells paths and right answers.
        ranking: with query and gallery ids.
        queries: ids of the queries to show.
        columns: results per query.
        title: shown left of every row, above the query's average rank of hits.
    """
    answers = {query: ids for part in evaluation.solution.values() for query, ids in part.items()}
    query_paths = evaluation.queries.set_index("id")["path"]
    gallery_paths = evaluation.gallery.set_index("id")["path"]
    rows = []
    for query in queries:
        found = ranking.of(query).head(columns)
        right = [image in answers[query] for image in found["id"]]
        hits = f"{sum(right)} of {len(right)} right\n({len(answers[query])} in the gallery)"
        rows.append(
            ImageRow(
                f"{title}\n{hits}".strip(),
                pixels(source, [query_paths[query], *gallery_paths[found["id"]]]),
                ["", *(RIGHT if is_right else WRONG for is_right in right)],
                ["query", *(f"{score:.2f}" for score in found["score"])],
            )
        )
    return rows


def split_landmarks(images: pd.DataFrame, count: int) -> list[int]:
    """The landmarks that the first pass of cleaning split most: by size of their second class.

    Args:
        images: the per-image table of cleaning.
        count: how many, at most.
    """
    first_pass = images[images["status"].isin([KEPT, SPLIT])]
    sizes = first_pass.groupby(["landmark_id", "label"]).size().sort_values(ascending=False)
    second = sizes.groupby("landmark_id", sort=True).nth(1)
    second = second.reset_index("label", drop=True).sort_values(ascending=False, kind="stable")
    return second.index[:count].tolist()


def split_rows(
    source: ImageSource,
    images: pd.DataFrame,
    landmarks: Sequence[int],
    *,
    titles: Sequence[str] = (),
    columns: int = 9,
) -> list[ImageRow]:
    """A row per landmark: its largest classes of the first pass side by side, a colour each.

    A landmark that cleaning lost has a row without images.

    Args:
        source: reads the images.
        images: the per-image table of cleaning with a path.
        landmarks: which ones.
        titles: shown left of each row.
        columns: most images in a row, shared by the classes.
    """
    rows = []
    for place, landmark in enumerate(landmarks):
        own = images[(images["landmark_id"] == landmark) & images["status"].isin([KEPT, SPLIT])]
        largest = own["label"].value_counts().index[: min(columns, len(CLUSTERS))]
        share = columns // max(len(largest), 1)
        parts = [own[own["label"] == label].nsmallest(share, "distance") for label in largest]
        colours = [
            colour for part, colour in zip(parts, CLUSTERS, strict=False) for _ in range(len(part))
        ]
        chosen = pd.concat([own.head(0), *parts])
        title = titles[place] if place < len(titles) else f"landmark {landmark}"
        sizes = " + ".join(str(int((own["label"] == label).sum())) for label in largest) or "no"
        rows.append(ImageRow(f"{title}\n{sizes} images", pixels(source, chosen["path"]), colours))
    return rows


def status_rows(
    source: ImageSource,
    images: pd.DataFrame,
    status: str,
    landmarks: Sequence[int],
    *,
    titles: Sequence[str] = (),
    typical: int = 3,
    columns: int = 9,
) -> list[ImageRow]:
    """A row per landmark: a few of its kept images, then those of `status` in their colour.

    Args:
        source: reads the images.
        images: the per-image table of cleaning with a path.
        status: dropped or rescued.
        landmarks: which ones.
        titles: shown left of each row.
        typical: kept images shown first, for comparison.
        columns: most images in a row.
    """
    colour = {DROPPED: WRONG, RESCUED_WORD: RESCUED}.get(status, NEUTRAL)
    rows = []
    for place, landmark in enumerate(landmarks):
        own = images[images["landmark_id"] == landmark]
        kept = own[own["status"] == KEPT].nsmallest(typical, "distance")
        others = own[own["status"] == status].head(columns - len(kept))
        title = titles[place] if place < len(titles) else f"landmark {landmark}"
        rows.append(
            ImageRow(
                title,
                pixels(source, [*kept["path"], *others["path"]]),
                [RIGHT] * len(kept) + [colour] * len(others),
            )
        )
    return rows


def mistake_rows(
    source: ImageSource,
    images: pd.DataFrame,
    mistaken: np.ndarray,
    *,
    names: Mapping[int, str],
    captions: np.ndarray | None = None,
    rows: int = 6,
    typical: int = 3,
    columns: int = 9,
) -> list[ImageRow]:
    """A row per landmark: a few of its typical images (green), then those mistaken (red).

    Landmarks with the most mistakes come first, and in a row the mistakes in the images' order.

    Args:
        source: reads the images.
        images: the per-image table of cleaning with a path.
        mistaken: (N,) bool in its order.
        names: landmark → what to call it; its number where there is none.
        captions: (N,) words below mistaken images.
        rows: landmarks at most.
        typical: kept and not mistaken images shown first, those nearest to their class's centre.
        columns: most images in a row.
    """
    counts = images.loc[mistaken, "landmark_id"].value_counts(sort=False).sort_index()
    counts = counts.sort_values(ascending=False, kind="stable").head(rows)
    found = []
    for landmark, count in counts.items():
        is_own = (images["landmark_id"] == landmark).to_numpy()
        right = images[is_own & ~mistaken & (images["status"] == KEPT).to_numpy()]
        right = right.nsmallest(typical, "distance")
        at = np.flatnonzero(is_own & mistaken)[: columns - len(right)]
        words = [] if captions is None else [""] * len(right) + [str(captions[i]) for i in at]
        paths = [*right["path"], *images["path"].to_numpy()[at]]
        title = f"{names.get(landmark) or f'landmark {landmark}'}\n{count} of {is_own.sum()} images"
        colours = [RIGHT] * len(right) + [WRONG] * len(at)
        found.append(ImageRow(title, pixels(source, paths), colours, words))
    return found
