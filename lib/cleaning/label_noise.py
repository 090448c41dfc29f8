"""Suspected mislabels: images that another landmark explains better than their own.

An option beyond GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.): wrong images of one
other place support each other in DBSCAN, so each image is also compared with the other landmarks
most like it. The threshold is estimated from images that are moved to a random landmark: such
positives and the unlabelled images tell the share of wrong labels (Elkan and Noto 2008).
"""

from dataclasses import dataclass

import numpy as np

from lib.cleaning.dbscan import BLOCK
from lib.cleaning.eps import best_threshold, mask_self
from lib.cleaning.per_landmark import Rows, check_embeddings, map_landmarks
from lib.retrieval import nearest

CANDIDATES = 10  # other landmarks that an image is compared with, by the landmarks' means
MOVES, ROUNDS = 50_000, 10  # images moved; small datasets repeat, at most ten times
ODDS = 2.0  # wrong against right, from which an image is suspected
MOST_WRONG = 0.5  # upper limit of the estimate, which a useless descriptor would exceed


@dataclass(frozen=True)
class LabelNoise:
    """How much better the best other landmark explains each image than its own."""

    margins: np.ndarray  # (N,) float32 support by the best other landmark minus by the own, or NaN
    moved: np.ndarray  # (M,) float32 margins of images moved to random landmarks
    wrong: float  # estimated share of wrong labels
    threshold: float  # margin above which an image is a suspected mislabel
    odds: float = ODDS  # wrong against right at the threshold

    @property
    def suspected_mislabels(self) -> np.ndarray:
        """(N,) bool, for `clean(..., suspected_mislabels=...)`."""
        return self.margins > self.threshold

    @property
    def reason(self) -> str:
        return (
            f"another landmark explains {self.suspected_mislabels.mean():.1%} of the images so "
            f"much better that they are at least {self.odds:g} times as likely wrong as right, "
            f"where {self.wrong:.0%} of the labels are estimated to be wrong"
        )


def estimate_label_noise(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    *,
    odds: float = ODDS,
    generator: np.random.Generator | None = None,
    jobs: int = -1,
) -> LabelNoise:
    """Compare every image with its own landmark and with the other landmarks most like it.

    The other landmarks are found by N images times L landmark means (for GLDv2 about two hours on
    two cores, or minutes on a GPU, which is used if there is one). Comparing with their images
    takes about ten times as long as one pass of DBSCAN, and some 320 bytes per image. With one
    landmark, or none of two images, nothing is suspected. The `generator` moves images.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    if not odds > 0:
        raise ValueError(f"expected positive odds of wrong against right, found {odds}; give 2")
    generator = np.random.default_rng(0) if generator is None else generator
    owner, counts = np.unique(landmark_ids, return_inverse=True, return_counts=True)[1:]
    if len(counts) < 2 or counts.max() < 2:
        unknown = np.full(len(owner), np.nan, np.float32)
        return LabelNoise(unknown, np.empty(0, np.float32), 0, np.inf)
    others = nearest_others(embeddings, _means(embeddings, owner, jobs), owner, CANDIDATES)
    moved, targets = move_images(owner, counts, generator)
    images = np.concatenate([np.arange(len(owner)).repeat(others.shape[1]), moved])
    landmarks = np.concatenate([others.ravel(), targets])
    by_own, found = measure_support(embeddings, owner, images, landmarks, jobs=jobs)
    by_others, by_target = found[: others.size].reshape(others.shape), found[others.size :]
    margins = np.where(counts[owner] > 1, by_others.max(axis=1) - by_own, np.float32(np.nan))
    # to a moved image its target is the own landmark, and the real one stays hidden
    by_rest = np.where(others[moved] == targets[:, None], -np.inf, by_others[moved])
    moved_margins = by_rest.max(axis=1) - by_target
    return fit_threshold(margins, moved_margins[np.isfinite(moved_margins)], odds)


def fit_threshold(margins: np.ndarray, moved: np.ndarray, odds: float = ODDS) -> LabelNoise:
    """Estimate the share of wrong labels, and the margin above which an image is suspected.

    If a share w of the labels is wrong, at least w times the moved images' share lies above any
    margin, so w is at most the smallest quotient of the two shares. An image is `odds` times as
    likely wrong as right where w times the density of the moved is that many times the density of
    the right ones.
    """
    known = np.sort(margins[np.isfinite(margins)])
    if not len(known) or not len(moved):
        return LabelNoise(margins, moved, 0.0, np.inf, odds)
    above = 1 - np.arange(len(known)) / len(known)
    above_moved = 1 - np.searchsorted(np.sort(moved), known) / len(moved)
    is_low = above_moved >= 0.5  # higher up, wrong images that came in groups are missing
    quotients = above[is_low] / above_moved[is_low]
    w = float(min(quotients.min(initial=1.0), MOST_WRONG))
    threshold = best_threshold(known, moved, w * (1 + odds) / odds)[0]
    return LabelNoise(margins, moved, w, threshold, odds)


def nearest_others(
    embeddings: np.ndarray, means: np.ndarray, owner: np.ndarray, count: int
) -> np.ndarray:
    """(N, C) the `count` landmarks (or all others) whose means are nearest, except the own."""
    count = min(count, len(means) - 1)
    found = nearest(embeddings, means, count + 1, names=("embeddings", "landmark means"))[1]
    is_own = found == owner[:, None]
    others = np.argsort(is_own, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(found, others, axis=1)


def _means(embeddings: np.ndarray, owner: np.ndarray, jobs: int) -> np.ndarray:
    """(L, D) float32 unit means of the landmarks 0 to L - 1."""
    means = np.empty((owner.max() + 1, embeddings.shape[1]), dtype=np.float32)
    for at, (starts, sums) in map_landmarks(_sum_task, embeddings, owner, jobs=jobs):
        means[owner[at[starts]]] = sums
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


def _sum_task(rows: Rows, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each landmark starts among the rows, and its sum."""
    ends = np.cumsum(sizes)
    sums = [_sum(rows, end - size, end) for end, size in zip(ends, sizes, strict=True)]
    return ends - sizes, np.stack(sums)


def _sum(rows: Rows, start: int, stop: int) -> np.ndarray:
    blocks = range(start, stop, 8 * BLOCK)
    return sum(rows[low : min(low + 8 * BLOCK, stop)].sum(axis=0) for low in blocks)


def move_images(
    owner: np.ndarray, counts: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(M,) images, and the landmark each is moved to: that of a random image of another one."""
    total = len(owner)
    order = np.argsort(owner, kind="stable")
    images = np.tile(generator.permutation(total), ROUNDS)[:MOVES]
    first, own = np.cumsum(counts)[owner[images]], counts[owner[images]]
    target = order[(first + generator.integers(total - own)) % total]
    return images, owner[target]


def measure_support(
    embeddings: np.ndarray,
    owner: np.ndarray,
    images: np.ndarray,
    landmarks: np.ndarray,
    *,
    jobs: int = -1,
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the support of every image in its own landmark, and of `images` in `landmarks`.

    The support is the similarity to the nearest image of the landmark, which may be a wrong one,
    plus that to its mean, which may miss a rare view; the image itself is left out of both. It is
    minus infinity in a landmark of no other image.
    """
    ids = np.concatenate([owner, landmarks])
    positions = np.concatenate([np.arange(len(owner)), images])  # members come before others
    support = np.empty(len(ids), dtype=np.float32)
    options = {"positions": positions, "flags": np.arange(len(ids)) < len(owner), "jobs": jobs}
    what = "comparing with other landmarks"
    for at, found in map_landmarks(_support_task, embeddings, ids, what=what, **options):
        support[at] = found
    return support[: len(owner)], support[len(owner) :]


def _support_task(rows: Rows, sizes: np.ndarray, is_member: np.ndarray) -> np.ndarray:
    found = []
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        members = int(np.count_nonzero(is_member[end - size : end]))
        found.append(_support(rows if len(sizes) == 1 else rows[end - size : end], members))
    return np.concatenate(found)


def _support(rows: Rows, members: int) -> np.ndarray:
    """Support of the members, which come first, and of the other rows in one landmark."""
    total = _sum(rows, 0, members)
    found = []
    for low in range(0, len(rows), BLOCK):
        block = rows[low : low + BLOCK]
        closest = np.full(len(block), -np.inf, dtype=np.float32)
        for start in range(0, members, 8 * BLOCK):
            product = block @ rows[start : min(start + 8 * BLOCK, members)].T
            mask_self(product, low - start, -np.inf)
            closest = np.maximum(closest, product.max(axis=1))
        inside = np.arange(low, low + len(block)) < members
        along = block @ total
        length = np.sqrt(np.maximum(total @ total - inside * (2 * along - 1), 1e-12))
        found.append(closest + (along - inside) / length)
    return np.concatenate(found)
