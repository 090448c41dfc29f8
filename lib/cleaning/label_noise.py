"""Suspected mislabels: images that another landmark explains better than their own.

An option beyond GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.): wrong images of one
other place support each other in DBSCAN, so each image is also compared with the other landmarks
most like it. The threshold is estimated from images that are moved to a random landmark: such
positives and the unlabelled images tell the share of wrong labels (Elkan and Noto 2008). Some wrong
images show another landmark of the data, others one that is not in it: a moved image stands for the
first with its real landmark to be found, for the second without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import nnls
from sklearn.metrics import roc_auc_score

from lib.cleaning import per_landmark
from lib.cleaning.dbscan import BLOCK
from lib.cleaning.eps import draw_foreign
from lib.retrieval import nearest

CANDIDATES = 10  # other landmarks that an image is compared with, by the landmarks' means
MOVES, ROUNDS = 50_000, 10  # images moved; small datasets repeat, at most ten times
ODDS = 2.0  # wrong against right, from which an image is suspected
MOST_WRONG = 0.5  # upper limit of the estimate, which a useless descriptor would exceed
COMPONENTS, PCA_IMAGES = 512, 50_000  # of whitening, and the images that it is fitted on
BINS = 1024  # of the densities of margins


@dataclass(frozen=True)
class LabelNoise:
    """How much better the best other landmark explains each image than its own."""

    margins: np.ndarray  # (N,) float32 support by the best other landmark minus by the own, or NaN
    moved: np.ndarray  # (M,) float32 margins of images moved to random landmarks, in the mixture
    wrong: float  # estimated share of wrong labels
    threshold: float  # margin above which an image is a suspected mislabel
    odds: float = ODDS  # wrong against right at the threshold
    inside: float = 0.0  # estimated share of the wrong images that show a landmark of the data

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
    whitening: float = 0.0,
    generator: np.random.Generator | None = None,
    jobs: int = -1,
) -> LabelNoise:
    """Compare every image with its own landmark and with the other landmarks most like it.

    The other landmarks are found by N images times L landmark means (for GLDv2 about two hours on
    two cores, or minutes on a GPU); comparing with their images takes about ten times as long as
    one pass of DBSCAN. With one landmark, or none of two images, nothing is suspected. With
    `whitening` above 0 rows are first whitened to this power. The `generator` moves images.
    """
    embeddings, landmark_ids = per_landmark.check_embeddings(embeddings, landmark_ids)
    if not odds > 0:
        raise ValueError(f"expected positive odds of wrong against right, found {odds}; give 2")
    generator = np.random.default_rng(0) if generator is None else generator
    owner, counts = np.unique(landmark_ids, return_inverse=True, return_counts=True)[1:]
    if len(counts) < 2 or counts.max() < 2:
        unknown = np.full(len(owner), np.nan, np.float32)
        return LabelNoise(unknown, np.empty(0, np.float32), 0, np.inf)
    if whitening:
        embeddings = whiten(embeddings, whitening, generator=np.random.default_rng(0))
    others = nearest_others(embeddings, _means(embeddings, owner, jobs), owner, CANDIDATES)
    moved = np.tile(generator.permutation(len(owner)), ROUNDS)[:MOVES]
    targets = owner[draw_foreign(owner, moved, generator)]
    images = np.concatenate([np.arange(len(owner)).repeat(others.shape[1]), moved])
    landmarks = np.concatenate([others.ravel(), targets])
    by_own, found = measure_support(embeddings, owner, images, landmarks, jobs=jobs)
    by_others, by_target = found[: others.size].reshape(others.shape), found[others.size :]
    margins = np.where(counts[owner] > 1, by_others.max(axis=1) - by_own, np.float32(np.nan))
    # to a moved image its target is the own landmark; the real one stays hidden, or is found
    by_rest = np.where(others[moved] == targets[:, None], -np.inf, by_others[moved]).max(axis=1)
    is_known = np.isfinite(by_rest)
    hidden = (by_rest - by_target)[is_known]
    found = (np.maximum(by_rest, by_own[moved]) - by_target)[is_known]
    return fit_threshold(margins, hidden, found, odds)


def choose_descriptor(
    descriptors: Mapping[str, np.ndarray],
    landmark_ids: np.ndarray,
    *,
    whitening: float = 0.0,
    jobs: int = -1,
) -> tuple[str, pd.DataFrame]:
    """Choose among descriptors (name → (N, D) rows of the same images) by the labels alone.

    The best one tells images that were moved to other landmarks from images where they are: `auc`
    is the probability that the margin of a moved image is the larger one. Give images that no
    descriptor was trained on: a network remembers the labels of those that it saw.

    Returns the name and a table of `descriptor` and `auc`, best first.
    """
    if not descriptors:
        raise ValueError("expected descriptors to choose from, found none; give one or more")
    found = []
    for name, rows in descriptors.items():
        noise = estimate_label_noise(rows, landmark_ids, whitening=whitening, jobs=jobs)
        margins = noise.margins[np.isfinite(noise.margins)]
        is_moved = np.repeat([False, True], [len(margins), len(noise.moved)])
        known = len(margins) and len(noise.moved)
        auc = roc_auc_score(is_moved, np.append(margins, noise.moved)) if known else np.nan
        found.append({"descriptor": name, "auc": float(auc)})
    table = pd.DataFrame(found).sort_values("auc", ascending=False, kind="stable")
    return table["descriptor"].iloc[0], table.reset_index(drop=True)


def fit_threshold(
    margins: np.ndarray, hidden: np.ndarray, found: np.ndarray, odds: float = ODDS
) -> LabelNoise:
    """Estimate the share of wrong labels, and the margin above which an image is suspected.

    (M,) margins of moved images, their real landmark `hidden` or `found`, are a model of wrong
    labels from outside the data and from inside. Where right images are rare, above the median of
    `hidden`, the shares b and c follow from S(t) = b S_found(t) + c S_hidden(t), S(t) being the
    share of margins above t (least squares without negative shares). An image is suspected from the
    margin t on where w f_moved(t) = odds · (f(t) - w f_moved(t)) with w = b + c and Gaussian
    kernel densities of Silverman's width (1986).
    """
    known = margins[np.isfinite(margins)]
    if not len(known) or not len(hidden):
        return LabelNoise(margins, hidden, 0.0, np.inf, odds)
    low, high = np.median(hidden), known.max()
    t = np.linspace(low, max(high, low + 1e-3), 60)
    b, c = nnls(np.stack([_above(found, t), _above(hidden, t)], axis=1), _above(known, t))[0]
    w, inside = min(b + c, MOST_WRONG), b / max(b + c, 1e-9)
    cut = round(inside * len(hidden))  # moved images come in random order
    moved = np.concatenate([found[:cut], hidden[cut:]])
    threshold = _crossing(known, moved, w, odds)
    return LabelNoise(margins, moved, float(w), threshold, odds, float(inside))


def _above(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of the values that exceed each threshold."""
    return 1 - np.searchsorted(np.sort(values), thresholds, side="right") / len(values)


def _crossing(known: np.ndarray, moved: np.ndarray, w: float, odds: float) -> float:
    """The margin from which wrong is `odds` times as likely as right, infinite if there is none."""
    width = 1.06 * moved.std() * max(w * len(known), 1.0) ** -0.2  # of the fewer, the wrong ones
    both = np.concatenate([known, moved])
    edges = np.linspace(both.min() - 3 * width - 1e-6, both.max() + 3 * width + 1e-6, BINS + 1)
    sigma = max(width / (edges[1] - edges[0]), 1e-3)  # 0 where all moved margins are equal
    f, f_moved = (
        gaussian_filter1d(np.histogram(x, edges, density=True)[0], sigma, mode="constant")
        for x in (known, moved)
    )
    is_wrong = w * f_moved > odds * np.maximum(f - w * f_moved, 0)
    middle = int(np.searchsorted(edges, np.median(moved))) - 1
    if is_wrong[middle]:  # the lowest margin above which this holds without a gap
        start = np.flatnonzero(~is_wrong[:middle])
        return float(edges[start[-1] + 1]) if len(start) else float(edges[0])
    higher = np.flatnonzero(is_wrong[middle:])
    return float(edges[middle + higher[0]]) if len(higher) else float("inf")


def whiten(embeddings: np.ndarray, power: float, *, generator: np.random.Generator) -> np.ndarray:
    """(N, C) unit rows along the first 512 principal components, divided by σ to the `power`.

    Power 0 keeps the variances, 1 makes all equal (Jégou and Chum 2012). Fitted on at most 50,000
    rows that the `generator` draws; computed in float32 and returned in the type of the rows.
    """
    sample = np.arange(len(embeddings))
    if len(sample) > PCA_IMAGES:
        sample = np.sort(generator.choice(sample, PCA_IMAGES, replace=False))
    rows = per_landmark.unit_rows(embeddings[sample], sample)[0]
    mean = rows.mean(axis=0)
    variance, axes = np.linalg.eigh(np.cov(rows - mean, rowvar=False).reshape(2 * mean.shape))
    keep = np.flatnonzero(variance > 1e-9 * variance[-1])[::-1][:COMPONENTS]
    if not len(keep) or variance[-1] < 1e-12:  # all rows are alike
        return embeddings
    axes = (axes[:, keep] * variance[keep] ** (-power / 2)).astype(np.float32)
    found = np.empty((len(embeddings), len(keep)), dtype=embeddings.dtype)
    for start in range(0, len(embeddings), per_landmark.TASK_ROWS):
        at = np.arange(start, min(start + per_landmark.TASK_ROWS, len(embeddings)))
        projected = (per_landmark.unit_rows(embeddings[at], at)[0] - mean) @ axes
        length = np.linalg.norm(projected, axis=1, keepdims=True)
        projected[length[:, 0] == 0, 0] = 1  # a row that is the mean has no direction
        found[at] = projected / np.where(length > 0, length, 1)
    return found


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
    for at, sums in per_landmark.map_landmarks(_sum_task, embeddings, owner, jobs=jobs):
        means[pd.unique(owner[at])] = sums
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


def _sum_task(rows: per_landmark.Rows, sizes: np.ndarray) -> np.ndarray:
    return np.stack([_sum(part, len(part)) for part in per_landmark.split_landmarks(rows, sizes)])


def _sum(rows: per_landmark.Rows, count: int) -> np.ndarray:
    """(D,) sum of the first `count` rows."""
    step = 8 * BLOCK
    return sum(rows[low : min(low + step, count)].sum(axis=0) for low in range(0, count, step))


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
    options["what"] = "comparing with other landmarks"
    for at, found in per_landmark.map_landmarks(_support_task, embeddings, ids, **options):
        support[at] = found
    return support[: len(owner)], support[len(owner) :]


def _support_task(rows: per_landmark.Rows, sizes: np.ndarray, is_member: np.ndarray) -> np.ndarray:
    members = [np.count_nonzero(own) for own in per_landmark.split_landmarks(is_member, sizes)]
    return np.concatenate(list(map(_support, per_landmark.split_landmarks(rows, sizes), members)))


def _support(rows: per_landmark.Rows, members: int) -> np.ndarray:
    """Support of the members, which come first, and of the other rows in one landmark."""
    total = _sum(rows, members)
    found = []
    for low in range(0, len(rows), BLOCK):
        block = rows[low : low + BLOCK]
        closest = np.full(len(block), -np.inf, dtype=np.float32)
        for start in range(0, members, 8 * BLOCK):
            product = block @ rows[start : min(start + 8 * BLOCK, members)].T
            if 0 <= low - start < product.shape[1]:  # an image is no support of its own
                np.fill_diagonal(product[:, low - start :], -np.inf)
            closest = np.maximum(closest, product.max(axis=1))
        inside = np.arange(low, low + len(block)) < members
        along = block @ total
        length = np.sqrt(np.maximum(total @ total - inside * (2 * along - 1), 1e-12))
        found.append(closest + (along - inside) / length)
    return np.concatenate(found)
