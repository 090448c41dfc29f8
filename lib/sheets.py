"""Which images a sheet shows: rows of `lib.viz` for landmarks, search results and cleaning.

Choices are made by fixed rules or by a generator that is passed in, never by how good they look.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from lib.augment import Augment, corner_cutmix
from lib.cleaning_score import is_planted
from lib.config import StageConfig
from lib.geography import OTHER
from lib.gldv2 import Evaluation
from lib.images import ImageSource
from lib.ranking import Ranking
from lib.viz import CLUSTERS, NEUTRAL, RESCUED, RIGHT, WRONG, Row

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
) -> list[Row]:
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
        rows.append(Row(title, pixels(source, chosen)))
    return rows


def country_rows(
    source: ImageSource,
    raw: pd.DataFrame,
    names: Mapping[int, str],
    *,
    columns: int = 8,
    generator: np.random.Generator,
) -> tuple[str, list[Row]]:
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
) -> list[Row]:
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
        rows.append(Row(title, pixels(source, chosen), [RIGHT] * len(clean) + colours))
    return rows


def augmented_rows(
    source: ImageSource,
    table: pd.DataFrame,
    stage: StageConfig,
    *,
    columns: int = 8,
    generator: torch.Generator,
) -> list[Row]:
    """One batch as it lies on disk, as it is trained on, and mixed by Corner-Cutmix."""
    chosen = torch.randperm(len(table), generator=generator)[:columns].tolist()
    squares = [source.read_resized(path, stage.size) for path in table["path"].iloc[chosen]]
    batch = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    grey = (0.5,) * 3
    trained = Augment(stage.augment, grey, grey)(batch, generator)
    mixed = corner_cutmix(trained, trained.roll(1, dims=0), generator=generator)
    return [
        Row("as on disk", squares),
        Row("as trained on\n(zoom, rotation,\nerasing)", _to_arrays(trained)),
        Row("Corner-Cutmix:\neach image on a\ncorner of its\nneighbour", _to_arrays(mixed)),
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
) -> list[Row]:
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
            Row(
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
) -> list[Row]:
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
        rows.append(Row(f"{title}\n{sizes} images", pixels(source, chosen["path"]), colours))
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
) -> list[Row]:
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
            Row(
                title,
                pixels(source, [*kept["path"], *others["path"]]),
                [RIGHT] * len(kept) + [colour] * len(others),
            )
        )
    return rows
