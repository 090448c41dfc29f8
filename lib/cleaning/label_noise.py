"""Images that another landmark explains better than their own: an option beyond GLR20.

DBSCAN sees one landmark at a time, so two wrong images of the same foreign place rescue each
other. Here every image is also compared with its rivals, the other landmarks that it is most like,
as in the nearest-neighbour votes by which the 2019 winners cleaned ([17] of GLR20). What supports
an image in a landmark is its nearest image there, which may be a wrong one too, plus the landmark's
mean, which may miss a rare view; together they err less than either alone.

How much better a rival must be is learnt from images that are moved to a random landmark, with
their own one hidden. They are like the wrong labels, so the two distributions of margins tell
how many labels are wrong (Elkan and Noto 2008 name this learning from positives and unlabelled) and
from which margin on an image is twice as likely to be wrong as right."""

from dataclasses import dataclass

import numpy as np

from lib.cleaning.dbscan import BLOCK, Rows
from lib.cleaning.eps import best_threshold, hide_itself
from lib.cleaning.per_landmark import check_embeddings, over_groups
from lib.retrieval import nearest

CANDIDATES = 10  # rivals of an image, by the landmarks' means
MOVES, ROUNDS = 50_000, 10  # images moved; small datasets take rounds, up to ten
ODDS = 2.0  # wrong against right, from which an image is a suspect
MOST_WRONG = 0.5  # no dataset is believed to be worse: a useless descriptor looks like that


@dataclass(frozen=True)
class LabelNoise:
    """How much better the best rival explains every image than its own landmark does.

    Attributes:
        margins: (N,) float32 support by the best rival minus that by the own landmark; NaN in a
            landmark of one image, and where there is no other landmark.
        moved: (M,) float32 margins of images moved to random landmarks.
        wrong: estimated share of wrong labels among all.
        threshold: margin from which an image is a suspect.
        odds: wrong against right, that the threshold stands for.
    """

    margins: np.ndarray
    moved: np.ndarray
    wrong: float
    threshold: float
    odds: float = ODDS

    @property
    def suspects(self) -> np.ndarray:
        """(N,) bool, for `lib.cleaning.two_pass.clean(..., suspects=...)`."""
        return self.margins > self.threshold

    @property
    def reason(self) -> str:
        """One sentence for people."""
        return (
            f"another landmark explains {self.suspects.mean():.1%} of the images so much better "
            f"that they are at least {self.odds:g} times as likely wrong as right, "
            f"where {self.wrong:.0%} of the labels are estimated to be wrong"
        )


def estimate_label_noise(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    *,
    candidates: int = CANDIDATES,
    odds: float = ODDS,
    generator: np.random.Generator | None = None,
    jobs: int = -1,
) -> LabelNoise:
    """Compare every image with its own landmark and with the landmarks most like it.

    The rivals are found among the landmarks' means: N images times L landmarks products (seconds
    for thousands of landmarks; for GLDv2's 203,094 about two hours on two cores, or minutes on a
    GPU, which is used if there is one). Then images are compared with the images of their rivals,
    which takes about `candidates` times as long as one pass of DBSCAN, and some 32 bytes of memory
    per image and rival.

    Args:
        embeddings: (N, D) unit rows as for `lib.cleaning.two_pass.cluster_landmarks`.
        landmark_ids: (N,) integers.
        candidates: rivals of each image.
        odds: how many times as likely wrong as right a suspect is; more odds, fewer suspects.
        generator: moves images; a fixed one by default.
        jobs: joblib's `n_jobs`.

    Returns:
        Margins and the threshold. With one landmark, or none of two images, nobody is a suspect.

    Raises:
        ValueError: as `cluster_landmarks`; if `odds` are not positive.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    if not odds > 0:
        raise ValueError(f"expected positive odds of wrong against right, found {odds}; give 2")
    generator = np.random.default_rng(0) if generator is None else generator
    owner, counts = np.unique(landmark_ids, return_inverse=True, return_counts=True)[1:]
    if len(counts) < 2 or counts.max() < 2:
        return LabelNoise(
            np.full(len(owner), np.nan, np.float32), np.empty(0, np.float32), 0, np.inf
        )
    centres = landmark_means(embeddings, owner, jobs=jobs)
    rivals = nearest_others(embeddings, centres, owner, candidates)
    moved, hosts = move_images(owner, counts, generator)
    asked = np.arange(len(owner)).repeat(rivals.shape[1])
    own, guests = measure_support(
        embeddings,
        owner,
        np.concatenate([asked, moved]),
        np.concatenate([rivals.ravel(), hosts]),
        jobs=jobs,
    )
    by_rival, by_host = guests[: rivals.size].reshape(rivals.shape), guests[rivals.size :]
    margins = np.where(counts[owner] > 1, by_rival.max(axis=1) - own, np.float32(np.nan))
    hidden = np.where(rivals[moved] == hosts[:, None], -np.inf, by_rival[moved])
    strange = hidden.max(axis=1) - by_host
    return judge(margins, strange[np.isfinite(strange)], odds)


def judge(margins: np.ndarray, moved: np.ndarray, odds: float = ODDS) -> LabelNoise:
    """Estimate how many labels are wrong, and from which margin on an image is a suspect.

    If a share w of the labels is wrong, at least w times the moved images' share lies above any
    margin: so w is at most the smallest quotient of the two. An image is `odds` times as likely
    wrong as right where w times the density of the moved is that many times the density of the
    right ones.

    >>> own = np.concatenate([np.linspace(-1, 0, 900), np.linspace(0.5, 1, 100)])
    >>> rivalry = judge(own, np.linspace(0.5, 1, 1000))
    >>> round(rivalry.wrong, 2), int(rivalry.suspects.sum())
    (0.1, 99)
    """
    known = np.sort(margins[np.isfinite(margins)])
    if not len(known) or not len(moved):
        return LabelNoise(margins, moved, 0.0, np.inf, odds)
    above = 1 - np.arange(len(known)) / len(known)
    above_moved = 1 - np.searchsorted(np.sort(moved), known) / len(moved)
    is_low = above_moved >= 0.5  # higher up, wrong images that came in groups are missing
    quotients = above[is_low] / above_moved[is_low]
    wrong = float(min(quotients.min(initial=1.0), MOST_WRONG))
    threshold = best_threshold(known, moved, wrong * (1 + odds) / odds)[0]
    return LabelNoise(margins, moved, wrong, threshold, odds)


def landmark_means(embeddings: np.ndarray, owner: np.ndarray, *, jobs: int = -1) -> np.ndarray:
    """(L, D) float32 unit means of the landmarks 0 to L - 1."""
    means = np.empty((owner.max() + 1, embeddings.shape[1]), dtype=np.float32)
    for at, (starts, sums) in over_groups(_sum_task, embeddings, owner, jobs=jobs):
        means[owner[at[starts]]] = sums
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


def _sum_task(rows: Rows, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each landmark starts among the rows, and its sum."""
    ends = np.cumsum(sizes)
    sums = [_sum(rows, end - size, end) for end, size in zip(ends, sizes, strict=True)]
    return ends - sizes, np.stack(sums)


def _sum(rows: Rows, start: int, stop: int) -> np.ndarray:
    """The sum of a range of rows, a block at a time."""
    blocks = range(start, stop, 8 * BLOCK)
    return sum(rows[low : min(low + 8 * BLOCK, stop)].sum(axis=0) for low in blocks)


def nearest_others(
    embeddings: np.ndarray, centres: np.ndarray, owner: np.ndarray, count: int
) -> np.ndarray:
    """(N, C) the `count` landmarks (or all others) whose centres are nearest, the own left out."""
    count = min(count, len(centres) - 1)
    found = nearest(embeddings, centres, count + 1, names=("embeddings", "landmark means"))[1]
    is_own = found == owner[:, None]
    others = np.argsort(is_own, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(found, others, axis=1)


def move_images(
    owner: np.ndarray, counts: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(M,) images, and the landmark each is moved to: that of a random image of another one."""
    total = len(owner)
    order = np.argsort(owner, kind="stable")
    images = np.tile(generator.permutation(total), ROUNDS)[:MOVES]
    first, own = np.cumsum(counts)[owner[images]], counts[owner[images]]
    beside = order[(first + generator.integers(total - own)) % total]
    return images, owner[beside]


def measure_support(
    embeddings: np.ndarray,
    owner: np.ndarray,
    guests: np.ndarray,
    hosts: np.ndarray,
    *,
    jobs: int = -1,
) -> tuple[np.ndarray, np.ndarray]:
    """Support of every image in its own landmark, and of guests in their hosts.

    An image's support in a landmark is its similarity to the nearest image there plus that to the
    landmark's mean, itself left out of both.

    Args:
        embeddings: (N, D) unit rows.
        owner: (N,) their landmarks.
        guests: (G,) rows that visit another landmark than their own.
        hosts: (G,) the landmarks they visit.
        jobs: joblib's `n_jobs`.

    Returns:
        (N,) and (G,) float32, at most 2; minus infinity in a landmark that has no other image.
    """
    groups, positions = np.concatenate([owner, hosts]), np.arange(len(owner))
    positions = np.concatenate([positions, guests])  # members come before guests
    is_guest = np.arange(len(groups)) >= len(owner)
    found = np.empty(len(groups), dtype=np.float32)
    options = {"positions": positions, "marks": is_guest, "jobs": jobs}
    for at, support in over_groups(
        _support_task, embeddings, groups, what="comparing with rivals", **options
    ):
        found[at] = support
    return found[: len(owner)], found[len(owner) :]


def _support_task(rows: Rows, sizes: np.ndarray, is_guest: np.ndarray) -> np.ndarray:
    found = []
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        members = int(np.count_nonzero(~is_guest[end - size : end]))
        found.append(_support(rows if len(sizes) == 1 else rows[end - size : end], members))
    return np.concatenate(found)


def _support(rows: Rows, members: int) -> np.ndarray:
    """Support of the members, which come first, and of the guests of one landmark."""
    total = _sum(rows, 0, members)
    found = []
    for low in range(0, len(rows), BLOCK):
        block = rows[low : low + BLOCK]
        closest = np.full(len(block), -np.inf, dtype=np.float32)
        for start in range(0, members, 8 * BLOCK):
            product = block @ rows[start : min(start + 8 * BLOCK, members)].T
            hide_itself(product, low - start, -np.inf)
            closest = np.maximum(closest, product.max(axis=1))
        inside = np.arange(low, low + len(block)) < members
        along = block @ total
        length = np.sqrt(np.maximum(total @ total - inside * (2 * along - 1), 1e-12))
        found.append(closest + (along - inside) / length)
    return np.concatenate(found)
