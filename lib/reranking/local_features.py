"""Local features of images, kept on disk, and how many of two images agree on one affine map.

RootSIFT (Arandjelović and Zisserman, CVPR 2012), matched by the ratio test (Lowe, IJCV 2004) and
verified by MAGSAC++ (Barath et al., CVPR 2020) through OpenCV. `LOCAL_FEATURES` lists the kinds.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from lib import artifacts, data
from lib.environment import cores

VERSION = 1  # of the features and of the verification
FRAME = 512  # keypoints are in pixels of an image whose longer side is this
LARGEST_ZOOM = 2.0  # small images are enlarged at most so
QUANTISED = 254  # descriptors are kept as int8: values of a unit row beyond ±0.5 are cut
SHARD = 256  # images per file until a stage is whole
PAIRS_AT_ONCE, TASKS = 1_600, 32  # that are verified, and what threads share them in
SECONDS = 30  # of verification that a killed run loses at most
FEWEST = 5  # matches worth a transformation; three points define one
FILES = ("keypoints.npy", "descriptors.npy", "starts.npy")
PARTIAL = "partial"

Detect = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""(H, W, 3) uint8 and n to at most n keypoints (n, 2) as x, y, and descriptors (n, D)."""


@dataclass(frozen=True)
class LocalSettings:
    """How local features are found, matched and verified."""

    features: str = "rootsift"  # of `LOCAL_FEATURES`
    most: int = 500  # features of an image, the strongest
    ratio: float = 0.85  # of the distances to nearest and second nearest descriptor, at most
    tolerance: float = 8.0  # pixels of the frame between a point and its image

    def __post_init__(self) -> None:
        if self.features not in LOCAL_FEATURES:
            names = ", ".join(LOCAL_FEATURES)
            raise ValueError(f"expected local features among {names}; found {self.features!r}")
        if self.most < FEWEST or not 0 < self.ratio <= 1 or not self.tolerance > 0:
            raise ValueError(
                f"expected at least {FEWEST} features, a ratio up to 1 and a tolerance above 0,"
                f" found {self}; the defaults suit photographs"
            )


def root_sift(image: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """SIFT whose descriptors are roots of L1-normalised ones: their products are Hellinger's."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # Half of the usual contrast: enlarged photographs are soft.
    detector = cv2.SIFT_create(nfeatures=most, contrastThreshold=0.02)
    found, sift = detector.detectAndCompute(grey, None)
    if sift is None:
        return np.empty((0, 2)), np.empty((0, 128))
    # OpenCV returns more than `most` where the last are equally strong.
    points, sift = np.array([one.pt for one in found[:most]], dtype=np.float32), sift[:most]
    return points, np.sqrt(sift / np.maximum(sift.sum(axis=1, keepdims=True), 1e-12))


def disk(image: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """DISK (Tyszkiewicz et al., NeurIPS 2020) with the weights that kornia fetches."""
    network = _disk_network()
    import torch

    pixels = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    with torch.inference_mode():
        (found,) = network(pixels, n=most, pad_if_not_divisible=True)
    return found.keypoints.numpy(), found.descriptors.numpy()


@cache
def _disk_network() -> Callable[..., Any]:
    try:
        from kornia.feature import DISK
    except ModuleNotFoundError:
        raise ValueError(
            "expected the package kornia for the local features 'disk', found none; install it"
            " with pip install kornia, or take 'rootsift'"
        ) from None
    return DISK.from_pretrained("depth").eval()


LOCAL_FEATURES: dict[str, Detect] = {"rootsift": root_sift, "disk": disk}


class LocalFeatures:
    """The features of N images that `extract_local_features` wrote; the arrays stay on disk.

    These are keypoints (F, 2) float16 x, y in the frame, descriptors (F, D) int8 unit rows times
    `QUANTISED`, and (N + 1,) where the features of each image begin.
    """

    def __init__(self, folder: str | Path) -> None:
        self.key = artifacts.read_fingerprint(folder)
        if self.key is None:
            raise ValueError(
                f"expected finished local features in {folder}, found none; extract them"
            )
        arrays = (np.load(Path(folder) / name, mmap_mode="r") for name in FILES)
        self.keypoints, self.descriptors, self.starts = arrays

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (n, 2) and unit descriptors (n, D) of one image, float32."""
        own = slice(self.starts[row], self.starts[row + 1])
        descriptors = self.descriptors[own].astype(np.float32) / QUANTISED
        return self.keypoints[own].astype(np.float32), descriptors


def extract_local_features(
    table: pd.DataFrame, root: str | Path, folder: str | Path, settings: LocalSettings
) -> Path:
    """Find the local features of the images of `table` (columns id, path), and return `folder`.

    Does nothing when the folder holds them, and goes on where a killed run stopped. An image that
    cannot be read is grey and has none.
    """
    folder, paths = Path(folder), tuple(table["path"])
    shape = VERSION, settings.features, settings.most, FRAME, LARGEST_ZOOM
    wanted = artifacts.fingerprint(shape, table[["id", "path"]])
    what, source = f"local features of {folder.name!r}", data.ImageSource(root)
    with artifacts.locked(folder):
        if key := data.work_left(what, folder, wanted, source.store, paths):
            artifacts.start_over(folder)
            _extract(source, paths, folder, settings, key)
            data.check_readable(what, root, source.unreadable, len(paths))
            data.mark_stage_complete(folder, key, wanted, source.unreadable, files=FILES)
            shutil.rmtree(folder / PARTIAL)
    return folder


def _extract(
    source: data.ImageSource, paths: Sequence[str], folder: Path, settings: LocalSettings, key: str
) -> None:
    partial = folder / PARTIAL / key  # what a run with other settings left is not taken
    partial.mkdir(parents=True, exist_ok=True)
    source.store.prepare(paths)
    shards = {start: partial / f"{start}.npz" for start in range(0, len(paths), SHARD)}
    missing = [start for start, shard in shards.items() if not shard.is_file()]

    def find(path: str) -> tuple[np.ndarray, np.ndarray]:
        points, rows = detect(source.read(path), settings)
        return points.astype(np.float16), np.rint(rows * QUANTISED).clip(-127, 127).astype(np.int8)

    with ThreadPoolExecutor(cores()) as threads:  # OpenCV releases the lock
        for start in artifacts.progress(missing, f"local features of {folder.name}"):
            points, rows = zip(*threads.map(find, paths[start : start + SHARD]), strict=True)
            arrays = {"points": np.concatenate(points), "rows": np.concatenate(rows)}
            with artifacts.atomic_path(shards[start]) as temporary:
                np.savez(temporary, counts=[len(one) for one in points], **arrays)
    parts = [np.load(shard) for shard in shards.values()]
    points, rows, counts = (
        np.concatenate([part[name] for part in parts]) for name in ("points", "rows", "counts")
    )
    for name, array in zip(FILES, (points, rows, np.append(0, counts.cumsum())), strict=True):
        with artifacts.atomic_path(folder / name) as temporary:
            np.save(temporary, array)


def detect(image: np.ndarray, settings: LocalSettings) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (n, 2) in the frame and unit descriptors (n, D) of an (H, W, 3) uint8 image."""
    longer = max(image.shape[:2])
    zoom = min(FRAME / longer, LARGEST_ZOOM)
    if zoom != 1:
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
        size = [max(1, round(side * zoom)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=how)
    points, rows = LOCAL_FEATURES[settings.features](image, settings.most)
    return points * (FRAME / max(image.shape[:2])), rows


def match(
    query: tuple[np.ndarray, np.ndarray], image: tuple[np.ndarray, np.ndarray], ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points (m, 2) of two images whose descriptors are each other's nearest.

    The distance to the nearest is less than `ratio` times the one to the second nearest.
    """
    (points, rows), (other_points, other_rows) = query, image
    if min(len(rows), len(other_rows)) < 2:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    sim = rows @ other_rows.T
    own, best = np.arange(len(sim)), sim.argmax(axis=1)
    first = sim[own, best]
    sim[own, best] = -np.inf
    second = sim.max(axis=1)
    sim[own, best] = first
    # Of unit rows the squared distance is 2 - 2 · sim.
    is_near = 1 - first < ratio**2 * (1 - second)
    own, best = own[is_near], best[is_near]
    is_match = sim[:, best].argmax(axis=0) == own
    return points[own[is_match]], other_points[best[is_match]]


def verify(points: np.ndarray, others: np.ndarray, tolerance: float) -> np.ndarray:
    """Which (m,) matches one affine map moves within `tolerance` pixels, found by MAGSAC++.

    With so few matches an affine map tells more than a homography or the epipolar geometry.
    """
    none = np.zeros(len(points), dtype=bool)
    if len(points) < FEWEST:
        return none
    limits = {"ransacReprojThreshold": tolerance, "maxIters": 500, "confidence": 0.99}
    try:
        found = cv2.estimateAffine2D(points, others, method=cv2.USAC_MAGSAC, **limits)[1]
    except cv2.error:  # OpenCV's own check of a degenerate model
        return none
    return none if found is None else found.ravel().astype(bool)


class PairVerifier:
    """Inliers between queries and gallery images, computed once per pair and kept in a folder."""

    def __init__(
        self, queries: LocalFeatures, gallery: LocalFeatures, folder: Path, settings: LocalSettings
    ) -> None:
        """Read the pairs that earlier runs verified with the same features and settings."""
        self.queries, self.gallery, self.folder, self.settings = queries, gallery, folder, settings
        key = artifacts.fingerprint(VERSION, queries.key, gallery.key, settings)
        self.path = folder / f"pairs-{key}.npz"
        self._pairs, self._inliers = np.empty(0, np.int64), np.empty(0, np.int16)
        if self.path.is_file():
            with np.load(self.path) as kept:
                self._pairs, self._inliers = kept["pairs"], kept["inliers"]

    def inliers(self, positions: np.ndarray) -> np.ndarray:
        """(Q, K) gallery positions of every query to their (Q, K) numbers of inliers."""
        if len(positions) != len(self.queries):
            raise ValueError(
                f"expected gallery positions for {len(self.queries)} queries, found"
                f" {len(positions)}; rank the queries whose features were extracted"
            )
        rows = np.broadcast_to(np.arange(len(positions))[:, None], positions.shape)
        return self.of_pairs(rows.ravel(), positions.ravel()).reshape(positions.shape)

    def of_pairs(self, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """(P,) query rows and gallery positions to (P,) numbers of inliers."""
        wanted = rows * len(self.gallery) + positions
        missing = np.setdiff1d(wanted, self._pairs)
        starts, saved = range(0, len(missing), PAIRS_AT_ONCE), time.monotonic()
        with ThreadPoolExecutor(cores()) as threads, threadpool_limits(1):
            for start in artifacts.progress(starts, "geometric verification"):
                group = missing[start : start + PAIRS_AT_ONCE]
                found = threads.map(self._count, np.array_split(group, TASKS))
                pairs = np.append(self._pairs, group)
                counts = np.concatenate([self._inliers, *found])
                order = np.argsort(pairs)
                self._pairs, self._inliers = pairs[order], counts[order]
                if time.monotonic() - saved > SECONDS:
                    self._save()
                    saved = time.monotonic()
        if len(missing):
            self._save()
        return self._inliers[np.searchsorted(self._pairs, wanted)].astype(np.int64)

    def within_gallery(self) -> "PairVerifier":
        """The verifier of gallery images among each other."""
        return PairVerifier(self.gallery, self.gallery, self.folder, self.settings)

    def matches(self, row: int, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Inliers of one pair: points (m, 2) of the query and of the image, in the frame."""
        points, others = match(self.queries.of(row), self.gallery.of(position), self.settings.ratio)
        is_inlier = verify(points, others, self.settings.tolerance)
        return points[is_inlier], others[is_inlier]

    def _count(self, pairs: np.ndarray) -> np.ndarray:
        found = [len(self.matches(*divmod(pair, len(self.gallery)))[0]) for pair in pairs]
        return np.array(found, dtype=np.int16)

    def _save(self) -> None:
        with artifacts.atomic_path(self.path) as temporary:
            np.savez(temporary, pairs=self._pairs, inliers=self._inliers)


def open_verifier(
    root: str | Path, folder: Path, tables: Mapping[str, pd.DataFrame], settings: LocalSettings
) -> PairVerifier:
    """The verifier of the two `tables` of images under `root`, of queries and gallery.

    Their features are extracted into folders of the tables' names in `folder`.
    """
    queries, gallery = (
        LocalFeatures(extract_local_features(table, root, folder / name, settings))
        for name, table in tables.items()
    )
    return PairVerifier(queries, gallery, folder, settings)
