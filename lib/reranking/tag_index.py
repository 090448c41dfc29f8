"""Which gallery images carry one of a query's tags: the sparse side of several rerankers.

A query names a few landmarks and an image carries a few, so of 1,129 × 760,000 pairs a handful per
query share one. They are found by binary search in the sorted tags of the gallery."""

import numpy as np

from lib.retrieval import NO_TAG


class TagIndex:
    """The tags of a gallery, sorted once.

    >>> index = TagIndex(np.array([[5, 7], [7, -1], [9, 5]]))
    >>> [found.tolist() for found in index.images_with_tags(np.array([7, -1, 5]))]
    [[0, 0, 2, 2], [0, 1, 0, 2], [1, 0, 0, 1]]
    """

    def __init__(self, tags: np.ndarray) -> None:
        """Sort (N, W) or (N,) integer tags; -1 is none."""
        self._width = max(1, tags.shape[1] if tags.ndim == 2 else 1)
        entries = np.argsort(tags.ravel(), kind="stable")
        self._entries = entries[tags.ravel()[entries] != NO_TAG]
        self._tags = tags.ravel()[self._entries]

    def images_with_tags(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The images that carry one of (V,) tags.

        Returns:
            (P,) place of the tag in `wanted`, (P,) image, and (P,) place of the tag in the image,
            by place and then by image.
        """
        left = np.searchsorted(self._tags, wanted, side="left")
        counts = np.searchsorted(self._tags, wanted, side="right") - left
        places = np.repeat(np.arange(len(wanted)), counts)
        within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        images, theirs = np.divmod(self._entries[left[places] + within], self._width)
        return places, images, theirs
